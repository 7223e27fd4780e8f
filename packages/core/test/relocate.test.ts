import { mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Arch, archWords } from '../src/model/arch.ts';
import { allOf, readCopyright } from '../src/origins/debian/copyright.ts';
import { compareDebianVersions } from '../src/debian/version.ts';
import { hasOverlappingSegments, readElf } from '../src/inspect/elf.ts';
import { exec } from '../src/util/exec.ts';
import { debian } from '../src/definition/builders.ts';
import { readTree } from '../src/image/tree.ts';
import { hostPathsOf } from '../src/inspect/loader.ts';
import { chooseFiles, HOST_NSS } from '../src/origins/debian/choose.ts';
import { writeRelocated } from '../src/origins/debian/relocate.ts';
import type { PackageFiles } from '../src/debian/package-index.ts';
import { openStore } from '../src/store/store.ts';
import { openTools } from '../src/tools/tools.ts';
import { unpackTool } from './tool-packages.ts';

const store = openStore();
const tools = openTools(store);
let temp = '';
let packages: Record<Arch, PackageFiles[]>;

beforeAll(async () => {
  temp = await mkdtemp(join(tmpdir(), 'relocate-'));
  packages = { 'x86-64': await unpackTool(temp, 'xz', 'x86-64'), arm64: await unpackTool(temp, 'xz', 'arm64') };
});
afterAll(() => rm(temp, { recursive: true, force: true }));

const origin = debian(['xz-utils'], { programs: ['xz', 'unxz', '!xz{cat,diff}'] });

describe.each(['x86-64', 'arm64'] as const)('relocation for %s', (arch) => {
  const { triplet, loader } = archWords(arch);
  const relocate = async (name: string, dest: string): Promise<void> =>
    writeRelocated(await chooseFiles(packages[arch], origin, name, arch), dest, name, arch, tools);

  test('a program comes with all libraries that it needs and nothing else, and finds them in its own folder', async () => {
    const dest = join(temp, `${arch}-files`);
    await relocate('demo', dest);
    const files = (await readdir(dest, { recursive: true, withFileTypes: true })).filter((one) => !one.isDirectory());
    const names = files.map((one) => join(one.parentPath, one.name).slice(dest.length + 1)).toSorted();
    expect(names).toEqual(
      [
        'usr/bin/unxz',
        'usr/bin/xz',
        ...[basename(loader), 'libc.so.6', 'libgcc_s.so.1', 'liblzma.so.5', ...HOST_NSS].map((name) => `usr/lib/demo/${name}`),
      ].toSorted(),
    );
    const xz = await readElf(join(dest, 'usr/bin/xz'));
    expect(xz?.interpreter).toBe(`/usr/lib/demo/${basename(loader)}`);
    for (const name of names.filter((one) => !one.includes('libnss') && !one.includes('ld-linux'))) {
      const elf = await readElf(join(dest, name));
      expect(elf?.needed.length === 0 || elf?.runpath.join() === '/usr/lib/demo', name).toBe(true);
    }
  });

  test('its loader knows no file and no folder of the host', async () => {
    const original = await readFile(
      join(packages[arch].find(({ name }) => name === 'libc6')?.dir ?? '', `usr/lib/${triplet}`, basename(loader)),
    );
    expect(hostPathsOf(original, arch)).toContain('/etc/ld.so.cache');
    expect(hostPathsOf(original, arch)).toContain(`/usr/lib/${triplet}/`);
    expect(hostPathsOf(await readFile(join(temp, `${arch}-files/usr/lib/demo`, basename(loader))), arch)).toEqual([]);
  });

  test('plugins of the C library are looked for in its own folder', async () => {
    const libc = await readFile(join(temp, `${arch}-files/usr/lib/demo/libc.so.6`));
    expect(libc.includes(`/usr/lib/${triplet}`)).toBe(false);
    expect(libc.includes(`/usr/lib/demo${'/'.repeat(triplet.length - 'demo'.length)}/gconv`)).toBe(true);
  });

  test('twice gives the same bytes, and none of them name this machine', async () => {
    await relocate('demo', join(temp, `${arch}-again`));
    const [one, other] = await Promise.all([`${arch}-files`, `${arch}-again`].map((dir) => readTree(join(temp, dir), new Map())));
    expect(one?.digest).toBe(other?.digest);
    for (const { path, type } of one?.entries ?? []) {
      if (type !== 'file') continue;
      const bytes = await readFile(join(temp, `${arch}-files`, path));
      for (const own of [temp, store.root]) expect(bytes.includes(own), path).toBe(false);
    }
  });

  test('a name that does not fit in the place of the library folder is refused', async () => {
    await expect(chooseFiles(packages[arch], origin, 'a-name-that-is-far-too-long', arch)).rejects.toThrow('too long');
  });
});

test('a relocated program runs on this machine once it is in its place', async () => {
  // Without root there is no /usr/lib/demo: its own loader is started by hand, with the library folder that it would find.
  const arch: Arch = process.arch === 'arm64' ? 'arm64' : 'x86-64';
  const dir = join(temp, `${arch}-files/usr`);
  const folder = join(dir, 'lib/demo');
  const said = await exec(join(folder, basename(archWords(arch).loader)), ['--library-path', folder, join(dir, 'bin/xz'), '--version']);
  expect(said).toMatch(/^xz \(XZ Utils\) 5\./);
  // The positive control of the edit: without that help nothing is found, though this machine has a liblzma or a libc.
  await expect(exec(join(folder, basename(archWords(arch).loader)), [join(dir, 'bin/xz'), '--version'])).rejects.toThrow(
    'cannot open shared object file',
  );
});

describe('what cannot be had', () => {
  const arch = 'x86-64';
  test('a program, a file and a library that no package has are named', async () => {
    const choose = (files: Parameters<typeof debian>[1]): Promise<unknown> =>
      chooseFiles(packages[arch], debian(['xz-utils'], files), 'demo', arch);
    await expect(choose({ programs: ['zx'] })).rejects.toThrow("no package has a file 'usr/bin/zx'");
    await expect(choose({ programs: ['xz'], relocate: { data: ['usr/share/none/**'] } })).rejects.toThrow(
      "no package has a file 'usr/share/none/**'",
    );
    await expect(choose({ programs: ['xz'], relocate: { plugins: ['libnone.so.1'] } })).rejects.toThrow(
      'needs libnone.so.1, which no package',
    );
  });

  test('a link of update-alternatives is not a program', async () => {
    const dir = join(temp, 'alternatives');
    await mkdir(join(dir, 'usr/bin'), { recursive: true });
    await symlink('/etc/alternatives/editor', join(dir, 'usr/bin/editor'));
    await expect(chooseFiles([{ name: 'x', dir }], debian(['x'], { programs: ['editor'] }), 'demo', arch)).rejects.toThrow(
      "'editor' is a link to '/etc/alternatives/editor'",
    );
  });

  test('two libraries of one name are not mixed', async () => {
    const dirs = ['one', 'two'].map((name) => join(temp, 'mixed', name));
    const from = packages[arch].find(({ name }) => name === 'liblzma5')?.dir ?? '';
    const bytes = await readFile(
      join(
        from,
        `usr/lib/x86_64-linux-gnu`,
        (await readdir(join(from, 'usr/lib/x86_64-linux-gnu'))).find((name) => name.startsWith('liblzma.so.5.')) ?? '',
      ),
    );
    for (const [index, dir] of dirs.entries()) {
      await mkdir(join(dir, `usr/lib/sub${index}`), { recursive: true });
      await writeFile(join(dir, `usr/lib/sub${index}/libtwin.so.1`), bytes);
    }
    const twins = dirs.map((dir) => ({ name: basename(dir), dir }));
    await expect(
      chooseFiles(
        [...packages[arch], ...twins],
        debian(['x'], { programs: ['xz'], relocate: { plugins: ['libtwin.so.1'] } }),
        'demo',
        arch,
      ),
    ).rejects.toThrow('libtwin.so.1');
  });
});

test('data keeps its place, what finds itself is moved, modules of the host stay as they are', async () => {
  const arch = 'x86-64';
  const chosen = await chooseFiles(
    packages[arch],
    debian(['xz-utils'], {
      programs: ['xz'],
      rename: { xz: 'zx' },
      relocate: {
        data: ['usr/share/doc/xz-utils/copyright', 'usr/lib/{triplet}/gconv/UTF-16.so'],
        siblings: ['usr/bin/lzmainfo'],
        hostModules: ['usr/lib/{triplet}/libnss_files.so.2'],
      },
    }),
    'demo',
    arch,
  );
  const places = new Map(chosen.map((file) => [file.to, file]));
  for (const path of ['usr/bin/zx', 'usr/share/doc/xz-utils/copyright', 'usr/lib/demo/gconv/UTF-16.so', 'usr/lib/demo/bin/lzmainfo'])
    expect(places.has(path), path).toBe(true);
  expect(places.get('usr/lib64/libnss_files.so.2')).toMatchObject({ package: 'libc6' });
  expect(places.get('usr/lib64/libnss_files.so.2')?.elf).toBeUndefined();
  expect(places.get('usr/lib/demo/bin/lzmainfo')?.elf?.runpath).toEqual(['/usr/lib/demo']);
  expect((await stat(places.get('usr/bin/zx')?.from ?? '')).isFile()).toBe(true);
});

describe('versions of Debian', () => {
  // deb-version(7), and dpkg itself as the judge.
  const versions = [
    '1.0~rc1-1',
    '1.0-1',
    '1.0-1+b1',
    '1.0-1+deb13u1',
    '1.0-1.1',
    '1.0+ds-1',
    '1.0a-1',
    '1.0.1-1',
    '1.10-1',
    '1:0.9-1',
    '2:0.1',
    '0',
    '1.0',
    '1.0~',
    '9.1.1230-2+deb13u2',
  ];
  test('are in the order that dpkg has them in', async () => {
    const pairs = versions.flatMap((one) => versions.map((other) => `${one} ${other}`));
    const script = 'while read -r a b; do dpkg --compare-versions "$a" gt "$b" && echo "$a $b"; done; true';
    const judged = await exec('sh', ['-c', script], { input: `${pairs.join('\n')}\n` });
    const newer = pairs.filter((pair) => {
      const [one = '', other = ''] = pair.split(' ');
      return compareDebianVersions(one, other) > 0;
    });
    expect(newer).toEqual(judged.split('\n'));
  });
});

describe('copyright files', () => {
  const machine = (...licenses: string[]): string =>
    [
      'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/',
      ...licenses.map((one, index) => `Files: ${index}/*\nCopyright: somebody\nLicense: ${one}`),
      'Files: debian/*\nLicense: nobody-knows',
    ].join('\n\n');
  test.each([
    [['GPL-2+'], 'GPL-2.0-or-later'],
    [['LGPL-2.1'], 'LGPL-2.1-only'],
    [['Expat', 'GPL-3'], 'GPL-3.0-only AND MIT'],
    [['GPL-2+ or BSD-3-clause'], '(GPL-2.0-or-later OR BSD-3-Clause)'],
    [['Apache-2.0 and Expat'], 'Apache-2.0 AND MIT'],
  ])('%j is %s', (licenses, expression) => {
    expect(readCopyright(machine(...licenses))).toEqual({ expression });
  });
  test.each([
    [['MIT', 'Apache-2.0 AND MIT'], 'Apache-2.0 AND MIT'],
    [['(GPL-2.0-or-later OR BSD-3-Clause) AND ISC', 'ISC'], '(GPL-2.0-or-later OR BSD-3-Clause) AND ISC'],
    [['MIT OR (Apache-2.0 AND ISC)'], '(MIT OR (Apache-2.0 AND ISC))'],
    [['GPL-2.0-only WITH Classpath-exception-2.0', 'GPL-2.0+'], 'GPL-2.0+ AND GPL-2.0-only WITH Classpath-exception-2.0'],
    [[], undefined],
  ])('all of %j is %s', (expressions, all) => {
    expect(allOf(expressions)).toBe(all);
  });
  test.each([machine('GPL-2+ with OpenSSL exception'), machine('custom'), 'This is free software; see /usr/share/common-licenses/GPL-2.'])(
    'what no expression can say stays as its text',
    (text) => {
      expect(readCopyright(text)).toEqual({ text });
    },
  );
});

test.each([
  [
    'one behind the other',
    [
      [0x400000, 0x1000],
      [0x401000, 0x10],
    ],
    false,
  ],
  [
    'one in another, whatever their order',
    [
      [0x4003e8, 0x1ede8],
      [0x3fe000, 0x1aea0],
    ],
    true,
  ],
  ['only one', [[0x400000, 0x1000]], false],
] as const)('segments of a file, %s: %j overlap: %s', async (_, segments, overlap) => {
  const dir = await mkdtemp(join(tmpdir(), 'segments-'));
  try {
    const file = Buffer.alloc(64 + 56 * segments.length);
    file.write('\x7fELF\x02\x01\x01', 'latin1');
    file.writeUInt16LE(2, 16);
    file.writeUInt16LE(62, 18);
    file.writeBigUInt64LE(64n, 32);
    file.writeUInt16LE(segments.length, 56);
    for (const [index, [address, size]] of segments.entries()) {
      file.writeUInt32LE(1, 64 + 56 * index);
      file.writeBigUInt64LE(BigInt(address), 64 + 56 * index + 16);
      file.writeBigUInt64LE(BigInt(size), 64 + 56 * index + 32);
    }
    await writeFile(join(dir, 'x'), file);
    expect(await hasOverlappingSegments(join(dir, 'x'))).toBe(overlap);
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
});
