// A whole build, from an empty store to an image, on a machine that has no program at all on its PATH.
import { createHash } from 'node:crypto';
import { copyFile, mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { hostArch } from '../src/model/arch.ts';
import { readContent } from '../src/image/bind.ts';
import { openArchive } from '../src/debian/archive.ts';
import { exec } from '../src/util/exec.ts';
import { binary, debian, defineExtension, packaged, upstream } from '../src/definition/builders.ts';
import type { LoadedExtension } from '../src/definition/types.ts';
import { buildExtension } from '../src/pipeline/build.ts';
import type { PinnedVersion } from '../src/definition/pins.ts';
import { openStore } from '../src/store/store.ts';
import { readToolPins } from '../src/tools/pins.ts';
import { openTools } from '../src/tools/tools.ts';
import { tarOf } from './helpers/archives.ts';
import { serve, type TestServer } from './helpers/server.ts';
import { targetOf } from './helpers/targets.ts';

let dir: string;
let server: TestServer | undefined;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'no-host-test-'));
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await server?.close();
  server = undefined;
  await rm(dir, { recursive: true, force: true });
});

const ARCHIVES = ['xz', 'bz2', 'gz'] as const;
const urlOf = (kind: string): string => `https://dl.example.org/tool.tar.${kind}`;

/** A tar of one program, compressed by the pinned tools and by Node. */
async function archive(kind: (typeof ARCHIVES)[number]): Promise<Buffer> {
  const plain = join(dir, `${kind}.tar`);
  await writeFile(plain, tarOf([{ path: `tool-${kind}`, body: `#!/bin/sh\necho ${kind}\n` }]));
  if (kind === 'gz') return (await import('node:zlib')).gzipSync(await readFile(plain));
  await openTools(openStore()).run(kind === 'xz' ? 'xz' : 'bzip2', ['--keep', plain]);
  return readFile(`${plain}.${kind}`);
}

/** A store with nothing but packages of these tools, as if they had just been fetched. */
async function seededStore(root: string, tools: readonly string[]): Promise<PinnedVersion['bytes']> {
  const [from, to, pins] = [openStore(), openStore(root), await readToolPins()];
  const names = new Set(tools.flatMap((tool) => pins.tools[tool]?.packages ?? []));
  const bytes: Record<string, { sha256: string; size: number; proof: string }> = {};
  for (const name of names) {
    const pin = pins.packages[hostArch()][name];
    if (pin === undefined) throw new Error(`${name} is not pinned`);
    const { file } = await openArchive(from).fetch({ name, ...pin }, { suite: pins.suite, snapshot: pins.snapshot, arch: hostArch() });
    await copyFile(file, join(dir, 'blob'));
    await to.keep(join(dir, 'blob'), pin.sha256);
    bytes[`debian:${pin.path}`] = { sha256: pin.sha256, size: (await stat(file)).size, proof: 'a fixture' };
  }
  return bytes;
}

test('a build out of packages and archives runs no program of the host', async () => {
  const root = join(dir, 'store');
  const packages = await seededStore(root, ['patchelf']);
  await seededStore(root, ['mksquashfs', 'unsquashfs', 'xz', 'bzip2']);
  const archives = await Promise.all(ARCHIVES.map(async (kind) => [kind, await archive(kind)] as const));
  server = await serve(Object.fromEntries(archives.map(([kind, data]) => [`/dl.example.org/tool.tar.${kind}`, data])));
  const version = /_([\d.]+)-/.exec(Object.keys(packages).find((path) => basename(path).startsWith('patchelf_')) ?? '')?.[1] ?? '';
  const sha256 = (data: Buffer): string => createHash('sha256').update(data).digest('hex');
  const bytes = {
    ...packages,
    ...Object.fromEntries(archives.map(([kind, data]) => [urlOf(kind), { sha256: sha256(data), size: data.length, proof: 'a fixture' }])),
  };
  const licenses = Object.fromEntries(['patchelf', ...ARCHIVES.map((kind) => `tool-${kind}`)].map((name) => [name, 'MIT']));
  const loaded: LoadedExtension = {
    dir: join(dir, 'extension'),
    fixture: false,
    extension: defineExtension({
      name: 'demo',
      summary: 'programs out of packages and archives',
      versions: { kind: 'date', track: 'newest' },
      components: () => [
        packaged('patchelf', version, debian(['patchelf'], { programs: ['patchelf'] })),
        ...ARCHIVES.map((kind) => binary(`tool-${kind}`, '1.0', upstream(urlOf(kind)))),
      ],
    }),
    pins: { '1.0': { revision: 0, coupled: {}, licenses, bytes } },
  };
  await mkdir(loaded.dir);

  vi.stubEnv('PATH', join(dir, 'no-such-folder'));
  vi.stubEnv('FLATCAR_EXT_DEBIAN_MIRROR', 'http://127.0.0.1:9/debian');
  for (const program of ['tar', 'xz', 'sh', 'git', 'dpkg-deb'])
    await expect(exec(program, ['--version'])).rejects.toThrow(/is not installed/);
  const store = openStore(root);
  const tools = openTools(store);
  const { images } = await buildExtension(loaded, {
    version: '1.0',
    arch: hostArch(),
    targets: [targetOf('4593.2.5')],
    profile: 'fast',
    origin: 'auto',
    out: join(dir, 'out'),
    store,
    tools,
    report: () => undefined,
    mirror: server.url,
  });
  const [image] = images;
  const paths = (await readContent(image?.file ?? '', 'squashfs', hostArch())).entries.map(({ path }) => path);
  expect(paths).toEqual(expect.arrayContaining(['usr/bin/patchelf', ...ARCHIVES.map((kind) => `usr/bin/tool-${kind}`)]));
}, 240_000);
