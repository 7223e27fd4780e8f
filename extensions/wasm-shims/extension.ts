import { containerdConf, containerdConfWaiver } from '@flatcar/components';
import { binary, cargo, defineExtension, github } from '@flatcar/core';

/** The shims of containerd's runwasi, each with its own tags and archive. */
const runwasi = (engine: string): ReturnType<typeof github> =>
  github('containerd/runwasi', 'newest', { tagPrefix: `containerd-shim-${engine}/v` });
const shimOf = (engine: string): string => `containerd-shim-${engine}-{machine}-linux-musl.tar.gz`;

// Not here: wasmer 0.6.1 and wamr 0.2.1, because no digests of their archives are known. Two more such lines, components and handlers and
// `flatcar-ext pin` add them once upstream can be reached. Lunatic, slight and wws are archived.
const wasmtimeShim = runwasi('wasmtime');
const wasmedgeShim = runwasi('wasmedge');
const spinShim = github('spinframework/containerd-shim-spin');
const wasmtime = github('bytecodealliance/wasmtime');

// Upstream's program has more: serve, HTTP, TLS and WASI 0.3, which take a third of the time to compile, and tools for the development of
// Wasmtime. wasi-nn would load libraries of the host, which a static program cannot.
const features = [
  'run compile config completion wasi-config wasi-keyvalue component-model threads',
  'gc gc-copying gc-drc gc-null cranelift parallel-compilation pooling-allocator cache',
  'wat logging backtrace addr2line demangle coredump debug-builtins',
].flatMap((line) => line.split(' '));

export default defineExtension({
  name: 'wasm-shims',
  summary: 'WebAssembly runtimes of containerd: wasmtime, wasmedge and spin, and the wasmtime command',
  versions: { kind: 'date', track: 'newest' },
  coupled: { 'wasmtime-shim': wasmtimeShim, 'wasmedge-shim': wasmedgeShim, 'spin-shim': spinShim, wasmtime },
  components: (v) => [
    binary(
      'containerd-shim-wasmtime-v1',
      v['wasmtime-shim'],
      wasmtimeShim.asset(shimOf('wasmtime')),
      cargo('./shim-wasmtime', ['containerd-shim-wasmtime-v1'], {
        protoc: true,
        env: { LIBSECCOMP_LINK_TYPE: 'static', LIBSECCOMP_LIB_PATH: '{sysroot}/usr/lib/{triplet}' },
      }),
    ),
    {
      ...binary('containerd-shim-wasmedge-v1', v['wasmedge-shim'], wasmedgeShim.asset(shimOf('wasmedge'))),
      noSource: 'its crate is in no registry, and WasmEdge itself is C++ out of a git repository',
    },
    {
      ...binary('containerd-shim-spin-v2', v['spin-shim'], spinShim.asset('containerd-shim-spin-v2-linux-{machine}.tar.gz')),
      noSource: 'it is built from git repositories of Spin, which are in no registry',
    },
    // Upstream's own is linked to the host's glibc, which a portable image must not need; ours is static.
    binary('wasmtime', v.wasmtime, cargo('wasmtime-cli', ['wasmtime'], { defaultFeatures: false, features })),
    containerdConf,
  ],
  waive: containerdConfWaiver,
});
