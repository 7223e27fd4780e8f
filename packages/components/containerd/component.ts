import { github, go, programs, type Component } from '@flatcar/core';
import { workflowSignature } from '../lib/workflow-signature.ts';

/** containerd's own releases, of its two newest branches. */
export const containerdReleases = github('containerd/containerd', '2 minors');

const MODULE = 'github.com/containerd/containerd/v2';
const PROGRAMS = ['containerd', 'containerd-shim-runc-v2', 'ctr'];

/** containerd, its shim for runc, and ctr. */
export function containerd(version: string): Component {
  const archive = containerdReleases.asset('containerd-static-{version}-linux-{arch}.tar.gz', {
    checksum: '{url}.sha256sum',
    signature: workflowSignature('https://github.com/containerd/containerd/.github/workflows/release.yml@refs/tags/v{version}', 'github'),
  });
  const built = go(
    MODULE,
    PROGRAMS.map((name) => `cmd/${name}`),
    {
      // Without btrfs: its snapshotter needs C headers, and Flatcar does not have that file system.
      tags: ['urfave_cli_no_docs', 'no_btrfs'],
      stamps: { [`${MODULE}/version.Version`]: 'v{version}' },
    },
  );
  return { ...programs('containerd', version, PROGRAMS, archive, built), lock: import.meta.dirname };
}
