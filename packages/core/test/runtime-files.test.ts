import { appendFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { archWords } from '../src/model/arch.ts';
import { readImports } from '../src/inspect/elf.ts';
import { debian } from '../src/definition/builders.ts';
import { chooseFiles } from '../src/origins/debian/choose.ts';
import { writeRelocated } from '../src/origins/debian/relocate.ts';
import type { PackageFiles } from '../src/debian/package-index.ts';
import { openStore } from '../src/store/store.ts';
import { openTools } from '../src/tools/tools.ts';
import { unpackTool } from './tool-packages.ts';

const store = openStore();
const tools = openTools(store);
let temp = '';
beforeAll(async () => {
  temp = await mkdtemp(join(tmpdir(), 'runtime-'));
});
afterAll(() => rm(temp, { recursive: true, force: true }));

/** A package with files of our own, for what no pinned tool needs. */
async function writePackage(name: string, files: Readonly<Record<string, string>>): Promise<PackageFiles> {
  const dir = join(temp, 'own', name);
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(dir, path)), { recursive: true });
    await writeFile(join(dir, path), content);
  }
  return { name, dir };
}

/** Relocates, and gives the paths of the image and a way to read them. */
async function relocate(
  packages: readonly PackageFiles[],
  files: Parameters<typeof debian>[1],
  name: string,
  arch: 'x86-64' | 'arm64' = 'x86-64',
): Promise<{ paths: string[]; read: (path: string) => Promise<Buffer> }> {
  const dest = await mkdtemp(join(temp, `${name}-`));
  await writeRelocated(await chooseFiles(packages, debian(['x'], files), name, arch), dest, name, arch, tools);
  const entries = await readdir(dest, { recursive: true, withFileTypes: true });
  const paths = entries.filter((one) => !one.isDirectory()).map((one) => join(one.parentPath, one.name).slice(dest.length + 1));
  return { paths: paths.toSorted(), read: (path) => readFile(join(dest, path)) };
}

describe.each(['x86-64', 'arm64'] as const)('what libraries load by themselves, on %s', (arch) => {
  const { triplet } = archWords(arch);

  test('character sets come with everything that imports iconv_open, and the C library looks for them in its own folder', async () => {
    const packages = await unpackTool(temp, 'patchelf', arch);
    const { paths, read } = await relocate(packages, { programs: ['patchelf'] }, 'demo', arch);
    const names = paths.filter((path) => path.startsWith('usr/lib/demo/gconv/')).map((path) => path.slice('usr/lib/demo/gconv/'.length));
    expect(names).toEqual(
      expect.arrayContaining(['UTF-16.so', 'UTF-7.so', 'ISO8859-1.so', 'ISO8859-15.so', 'CP1252.so', 'KOI8-R.so', 'SJIS.so', 'GBK.so']),
    );
    expect(names).toEqual(expect.arrayContaining(['gconv-modules', 'gconv-modules.cache', 'gconv-modules.d/gconv-modules-extra.conf']));
    expect(names).not.toContain('EBCDIC-US.so');
    const libc = await read('usr/lib/demo/libc.so.6');
    expect(libc.includes(`/usr/lib/demo${'/'.repeat(triplet.length - 4)}/gconv/gconv-modules.cache\0`)).toBe(true);
    // Those that share code (EUC-KR, JIS) find it in a folder of the image.
    expect(paths).toContain('usr/lib/demo/libJIS.so');
  });

  test('a program that converts nothing gets none of them', async () => {
    const { paths } = await relocate(await unpackTool(temp, 'xz', arch), { programs: ['xz'] }, 'demo', arch);
    expect(paths.filter((path) => path.includes('gconv'))).toEqual([]);
  });

  test("OpenSSL looks for certificates where the host has them, in libraries and in scripts, and its providers are in the component's folder", async () => {
    const packages = await unpackTool(temp, 'systemd-repart', arch);
    const legacy = packages.find(({ name }) => name === 'libssl3t64')?.dir ?? '';
    await mkdir(join(legacy, `usr/lib/${triplet}/ossl-modules`), { recursive: true });
    await writeFile(join(legacy, `usr/lib/${triplet}/ossl-modules/legacy.so`), 'a provider');
    const script = await writePackage('scripts', { 'usr/share/x/verify': '#!/bin/sh\nls /usr/lib/ssl/certs /usr/lib/sslfoo\n' });
    const chosen = { programs: [], relocate: { plugins: ['libcrypto.so.3'], data: ['usr/share/x/verify'] } };
    const { paths, read } = await relocate([...packages, script], chosen, 'demo', arch);
    const libcrypto = await read('usr/lib/demo/libcrypto.so.3');
    expect(libcrypto.includes('/usr/lib/ssl')).toBe(false);
    for (const path of ['/etc/ssl////\0', '/etc/ssl/////certs\0', '/etc/ssl/////cert.pem\0', '/etc/ssl/////private\0'])
      expect(libcrypto.includes(`\0${path}`), path).toBe(true);
    expect(paths).toContain('usr/lib/demo/ossl-modules/legacy.so');
    expect(paths).toContain('usr/lib/demo/engines-3/afalg.so');
    expect((await read('usr/share/x/verify')).toString()).toBe('#!/bin/sh\nls /etc/ssl/////certs /usr/lib/sslfoo\n');
  });
});

test('the locale C.UTF-8 is in a folder named by its content, where the C library of the image looks and no other', async () => {
  const packages = await unpackTool(temp, 'xz', 'x86-64');
  const locale = (content: string): Promise<PackageFiles> =>
    writePackage(`locale-${content}`, {
      'usr/lib/locale/C.utf8/LC_CTYPE': content,
      'usr/lib/locale/C.utf8/LC_MESSAGES/SYS_LC_MESSAGES': '',
    });
  const folders: string[] = [];
  for (const content of ['one', 'two']) {
    const { paths, read } = await relocate([...packages, await locale(content)], { programs: ['xz'] }, 'demo');
    const path = paths.find((one) => one.endsWith('C.utf8/LC_CTYPE')) ?? '';
    expect(path).toMatch(/^usr\/lib\/C[0-9a-f]{5}\/C\.utf8\/LC_CTYPE$/);
    const folder = path.replace(/\/C\.utf8.*/, '');
    folders.push(folder);
    expect(paths).toContain(`${folder}/C.utf8/LC_MESSAGES/SYS_LC_MESSAGES`);
    const libc = await read('usr/lib/demo/libc.so.6');
    expect(libc.includes(`\0/${folder}\0`)).toBe(true);
    expect(libc.includes('\0/usr/lib/locale\0')).toBe(false);
    // What the host has besides is in its archive.
    expect(libc.includes('/usr/lib/locale/locale-archive\0')).toBe(true);
  }
  expect(folders[0]).not.toBe(folders[1]);
  // A host's own locales are better than none.
  const { paths, read } = await relocate(packages, { programs: ['xz'] }, 'demo');
  expect(paths.filter((path) => path.includes('C.utf8'))).toEqual([]);
  expect((await read('usr/lib/demo/libc.so.6')).includes('\0/usr/lib/locale\0')).toBe(true);
});

test.each([
  ['demo', '/usr/lib/demo/ti:/usr/share/terminfo///////////'],
  ['sixteen-letters-', '/usr/lib/sixteen-letters-/ti///////////////////'],
])('descriptions of terminals come with libtinfo of %s, which looks for them there', async (name, list) => {
  const packages = await unpackTool(temp, 'xz', 'x86-64');
  // A library under the name of libtinfo, with the list that Debian's has.
  const liblzma = packages.find((one) => one.name === 'liblzma5')?.dir ?? '';
  const file = (await readdir(join(liblzma, 'usr/lib/x86_64-linux-gnu'))).find((one) => one.startsWith('liblzma.so.5.')) ?? '';
  const tinfo = await writePackage('libtinfo6', { 'usr/lib/x86_64-linux-gnu/README': '' });
  const library = join(tinfo.dir, 'usr/lib/x86_64-linux-gnu/libtinfo.so.6');
  await writeFile(library, await readFile(join(liblzma, 'usr/lib/x86_64-linux-gnu', file)));
  await appendFile(library, '\0/etc/terminfo\0/etc/terminfo:/lib/terminfo:/usr/share/terminfo\0');
  const base = await writePackage('ncurses-base', { 'usr/share/terminfo/x/xterm': 'xterm', 'usr/share/terminfo/d/dumb': 'dumb' });
  const { paths, read } = await relocate([...packages, tinfo, base], { programs: ['xz'], relocate: { plugins: ['libtinfo.so.6'] } }, name);
  expect(paths).toEqual(expect.arrayContaining([`usr/lib/${name}/ti/d/dumb`, `usr/lib/${name}/ti/x/xterm`]));
  const bytes = await read(`usr/lib/${name}/libtinfo.so.6`);
  expect(bytes.includes(`\0${list}\0`)).toBe(true);
  expect(bytes.includes('\0/etc/terminfo\0')).toBe(true);
});

test('imports are the undefined symbols of a file', async () => {
  const packages = await unpackTool(temp, 'patchelf', 'x86-64');
  const of = (name: string): string => packages.find((one) => one.name === name)?.dir ?? '';
  const imports = await readImports(join(of('libstdc++6'), 'usr/lib/x86_64-linux-gnu/libstdc++.so.6'));
  expect(imports.has('iconv_open')).toBe(true);
  expect(imports.has('_ZSt4cout')).toBe(false);
  expect([...(await readImports(join(of('libc6'), 'usr/lib/x86_64-linux-gnu/gconv/gconv-modules')))]).toEqual([]);
});
