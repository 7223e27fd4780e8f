import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildExtension, channelHead, exec, hostArch, linkName, loadExtension, openStore, openTools, type Pins } from '@flatcar/core';
import { buildImages, describe, expect, mergeTest, testExtension, withHost, type Host } from '@flatcar/testing';

const only = ['containerd-shim-wasmtime-v1', 'wasmtime'];
const stable = channelHead('stable');

/** Says hello and ends with 7. */
const HELLO = `(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "hello from wasm\\n")
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 16))
    (i32.store (i32.const 4) (i32.const 16))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (call $exit (i32.const 7))))`;
const writeModule = (host: Host): Promise<string> => host.run(['sh', '-c', `cat >/run/hello.wat <<'END'\n${HELLO}\nEND`]);

testExtension(import.meta.dirname, {
  only,
  commands: [
    { run: ['containerd-shim-wasmtime-v1', '-v'], says: /Runtime: wasmtime\n +Version: 0\.6\.1/ },
    { run: ['wasmtime', '--version'], says: /^wasmtime 49\.0\.2/ },
  ],
  paths: ['/usr/share/containerd/conf.d/50-wasm-shims.toml'],
  async also(host, arch) {
    await writeModule(host);
    expect(await host.run(['wasmtime', 'run', '-C', 'cache=n', '/run/hello.wat'], { arch })).toBe('hello from wasm');
    expect(await host.run(['wasmtime', 'compile', '/run/hello.wat', '-o', '/run/hello.cwasm'], { arch })).toBe('');
    expect(await host.run(['wasmtime', 'run', '--allow-precompiled', '/run/hello.cwasm'], { arch })).toBe('hello from wasm');
  },
});

// In one go, as containerd must not outlive it: an image is made of the module, imported, and run by the shim.
const CONTAINER = `
set -eu
mkdir /run/image && cd /run/image
cp /run/hello.wat . && tar -cf layer.tar hello.wat
printf '{"architecture":"%s","os":"linux","config":{"Entrypoint":["/hello.wat"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \\
  "$1" "$(sha256sum layer.tar | cut -d' ' -f1)" >config.json
echo '[{"Config":"config.json","RepoTags":["example.org/hello:1"],"Layers":["layer.tar"]}]' >manifest.json
tar -cf image.tar manifest.json config.json layer.tar
/usr/lib/containerd-conf/make-config
containerd --config /run/containerd-conf/config.toml --root /run/containerd-root >/run/containerd.log 2>&1 &
trap 'kill %1; wait' EXIT
for _ in $(seq 300); do ctr version >/dev/null 2>&1 && break; sleep 0.1; done
ctr images import image.tar
code=0
ctr run --rm --runtime io.containerd.wasmtime.v1 example.org/hello:1 hello || code=$?
echo "ended with $code"
[ $code = 7 ] || tail -20 /run/containerd.log
`;

mergeTest('containerd runs a WebAssembly container, the handlers of absent shims notwithstanding', async () => {
  const images = await Promise.all([
    buildImages(join(import.meta.dirname, '../containerd'), hostArch(), ['portable']),
    buildImages(import.meta.dirname, hostArch(), ['portable'], { only }),
  ]);
  await withHost({ release: stable.number }, async (host) => {
    for (const image of images.flat()) await host.install(image.file, linkName(image.extension, 'portable'));
    expect(await host.merge()).toMatch(/Using extensions .*containerd.*wasm-shims/);
    await writeModule(host);
    const said = await host.run(['sh', '-c', CONTAINER, 'sh', hostArch() === 'arm64' ? 'arm64' : 'amd64']);
    expect(said).toMatch(/^hello from wasm$/m);
    expect(said).toMatch(/^ended with 7$/m);
  });
});

describe("upstream's own files", () => {
  const arch = hostArch();
  const shims = ['containerd-shim-wasmtime-v1', 'containerd-shim-wasmedge-v1', 'containerd-shim-spin-v2'];

  mergeTest('are fetched, unpacked and merged', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'wasm-shims-'));
    const server = createServer((request, response) => {
      createReadStream(join(dir, request.url ?? ''))
        .on('error', () => response.writeHead(404).end())
        .pipe(response);
    });
    try {
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      const pins = JSON.parse(await readFile(join(import.meta.dirname, 'pins.json'), 'utf8')) as Pins;
      const [version = ''] = Object.keys(pins);
      for (const [url, pin] of Object.entries(pins[version]?.bytes ?? {})) {
        if (!url.startsWith('https:')) continue;
        const shim = shims.find((one) => url.includes(one.replace(/-v\d$/, ''))) ?? '';
        const file = join(dir, url.slice('https:/'.length));
        const tree = `${file}.d`;
        await mkdir(tree, { recursive: true });
        await writeFile(join(tree, shim), `#!/bin/sh\necho ${shim} of upstream\n`);
        await chmod(join(tree, shim), 0o755);
        // runwasi has signature and certificate in the archive, and its members begin with `./`.
        const signed = url.includes('runwasi');
        for (const suffix of signed ? ['sig', 'pem'] : []) await writeFile(join(tree, `${shim}.${suffix}`), suffix);
        await exec('tar', ['-czf', file, '-C', tree, ...(signed ? ['./'] : [shim])]);
        Object.assign(pin, {
          sha256: createHash('sha256')
            .update(await readFile(file))
            .digest('hex'),
        });
      }
      const pinsFile = join(dir, 'pins.json');
      await writeFile(pinsFile, JSON.stringify(pins));

      const store = openStore();
      const { images, payloads } = await buildExtension(await loadExtension(import.meta.dirname, pinsFile), {
        version,
        arch,
        targets: ['portable'],
        profile: 'fast',
        origin: 'release',
        out: join(dir, 'out'),
        store,
        tools: openTools(store),
        report: () => undefined,
        mirror: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
      });
      expect(payloads.map(({ publishable }) => publishable)).toEqual([true]);
      expect(payloads[0]?.tree.entries.map(({ path }) => path).filter((path) => path.startsWith('usr/bin/'))).toEqual(
        [...shims, 'wasmtime'].map((name) => `usr/bin/${name}`).toSorted(),
      );
      await withHost({ release: stable.number }, async (host) => {
        await host.install(images[0]?.file ?? '', linkName('wasm-shims', 'portable'));
        expect(await host.merge()).toContain("Using extensions 'wasm-shims");
        for (const shim of shims) expect(await host.run([shim])).toBe(`${shim} of upstream`);
      });
    } finally {
      server.close();
      await rm(dir, { recursive: true, force: true });
    }
  });
});
