import type { Layouts } from '@flatcar/testing';

// As it is laid out since September 2026.
export const SIDECARS = ['gvisor_sentry', 'gvisor-sentry-prewarmer', 'runsc-fd-parking', 'runsc-metric-server', 'checkpointgofer'];

export default [
  [/^gvisor-.*\.tar\.bz2$/, ['runsc', 'containerd-shim-runsc-v1', ...SIDECARS.map((name) => `gvisor-bin/${name}`)]],
] satisfies Layouts;
