import { defineExtension, github, go, programs, upstream } from '@flatcar/core';

const releases = github('tailscale/tailscale');

export default defineExtension({
  name: 'tailscale',
  summary: 'tailscale, a mesh network over WireGuard',
  versions: releases,
  components: ({ version }) => [
    programs(
      'tailscale',
      version,
      ['tailscale', 'tailscaled'],
      upstream('https://pkgs.tailscale.com/stable/tailscale_{version}_{arch}.tgz', { checksum: '{url}.sha256' }),
      go('tailscale.com', ['cmd/tailscale', 'cmd/tailscaled']),
    ),
  ],
  start: ['tailscaled.service'],
  essential: true,
});
