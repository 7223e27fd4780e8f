import { testUpstream } from '@flatcar/testing';

testUpstream(import.meta.dirname, {
  programs: ['containerd', 'containerd-shim-runc-v2', 'ctr', 'runc'].map((name) => `/usr/bin/${name}`),
});
