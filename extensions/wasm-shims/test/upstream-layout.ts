import type { Layouts } from '@flatcar/testing';

// runwasi has signature and certificate in the archive, and its members begin with `./`.
const signed = (shim: string): string[] => [shim, `${shim}.sig`, `${shim}.pem`].map((name) => `./${name}`);

export default [
  [/^containerd-shim-wasmtime-/, signed('containerd-shim-wasmtime-v1')],
  [/^containerd-shim-wasmedge-/, signed('containerd-shim-wasmedge-v1')],
  [/^containerd-shim-spin-v2-/, ['containerd-shim-spin-v2']],
] satisfies Layouts;
