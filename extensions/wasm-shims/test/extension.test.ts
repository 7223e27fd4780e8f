import { expectContainers, expect, testExtension, testUpstream, WAT, type Host } from '@flatcar/testing';

const writeModule = (host: Host): Promise<string> => host.run(['sh', '-c', `cat >/run/hello.wat <<'END'\n${WAT}END`]);

testExtension(import.meta.dirname, {
  // What can be built from package registries; upstream's own files of the others are tested below.
  only: ['containerd-shim-wasmtime-v1', 'wasmtime'],
  machine: { beside: ['containerd'], also: (machine) => expectContainers(machine, { ctr: ['wasmtime'] }) },
  commands: [
    { run: ['containerd-shim-wasmtime-v1', '-v'], says: { version: 'wasmtime-shim' } },
    { run: ['wasmtime', '--version'], says: { version: 'wasmtime' } },
  ],
  paths: ['/usr/share/containerd/conf.d/50-wasm-shims.toml'],
  async also(host, arch) {
    await writeModule(host);
    expect(await host.run(['wasmtime', 'run', '-C', 'cache=n', '/run/hello.wat'], { arch })).toBe('hello from wasm');
    expect(await host.run(['wasmtime', 'compile', '/run/hello.wat', '-o', '/run/hello.cwasm'], { arch })).toBe('');
    expect(await host.run(['wasmtime', 'run', '--allow-precompiled', '/run/hello.cwasm'], { arch })).toBe('hello from wasm');
  },
});

testUpstream(import.meta.dirname, {
  programs: ['containerd-shim-wasmtime-v1', 'containerd-shim-wasmedge-v1', 'containerd-shim-spin-v2'].map((name) => `/usr/bin/${name}`),
});
