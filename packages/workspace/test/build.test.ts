import { access, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { LoadedExtension } from '@flatcar/core/engine';
import { build, payloadFolders, prepareBuild, type BuildSettings, type PreparedBuild } from '@flatcar/workspace/build';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { VERSION, writeOwnFiles } from './helpers/own-files.ts';

const SETTINGS: BuildSettings = { names: [], targets: ['portable'], arches: ['x86-64'], profile: 'fast', origin: 'auto' };
const report = (): void => undefined;
const { signal } = new AbortController();
let repository: string;

beforeEach(async () => {
  repository = await mkdtemp(join(tmpdir(), 'build-'));
});
afterEach(() => rm(repository, { recursive: true, force: true }));

const prepared = (extensions: readonly LoadedExtension[], settings: Partial<BuildSettings> = {}): PreparedBuild => ({
  settings: { ...SETTINGS, ...settings },
  chosen: extensions.map((loaded) => ({ loaded, version: VERSION })),
  context: {},
});
/** An extension whose build fails, since a program is missing. */
const broken = (): Promise<LoadedExtension> =>
  writeOwnFiles(repository, 'broken', { 'usr/lib/systemd/system/broken.service': '[Service]\nExecStart=/usr/bin/missing\n' });

test('every architecture is built, into a folder for each extension', async () => {
  const out = join(repository, 'out');
  const one = prepared([await writeOwnFiles(repository, 'one')], { out, arches: ['x86-64', 'arm64'] });
  const { images, failures } = await build(one, report, signal);
  expect(failures).toEqual([]);
  expect(images.map(({ file }) => file)).toEqual(
    ['x86-64', 'arm64'].map((arch) => join(out, `one/portable/one.portable_${VERSION}_${arch}.raw`)),
  );
  for (const { file } of images) await access(file);
  expect(payloadFolders(one)).toEqual([join(out, 'one/payload')]);
});

test('without --out the dist/ of an extension is replaced, and images are named by their places in it', async () => {
  const one = await writeOwnFiles(repository, 'one');
  const dist = join(one.dir, 'dist');
  await mkdir(join(dist, 'portable'), { recursive: true });
  await writeFile(join(dist, 'portable/one.portable_2025.1.1_x86-64.raw'), 'of an earlier build');
  const { images } = await build(prepared([one]), report, signal);
  const name = `one.portable_${VERSION}_x86-64.raw`;
  expect(images.map(({ file }) => file)).toEqual([join(dist, 'portable', name)]);
  expect((await readdir(join(dist, 'portable'))).filter((file) => file.endsWith('.raw'))).toEqual([name]);
});

test('one that fails does not stop the others, and leaves what is in its dist/', async () => {
  const extensions = [await broken(), await writeOwnFiles(repository, 'one')];
  const kept = join(extensions[0]?.dir ?? '', 'dist/portable/earlier.raw');
  await mkdir(join(kept, '..'), { recursive: true });
  await writeFile(kept, 'of an earlier build');
  const { images, failures } = await build(prepared(extensions), report, signal);
  expect(images.map(({ extension }) => extension)).toEqual(['one']);
  expect(failures.map(({ message }) => message)).toEqual([expect.stringContaining('lint found 1 error')]);
  expect(await readFile(kept, 'utf8')).toBe('of an earlier build');
});

test('the error of a single one is thrown, and so is an interruption of several', async () => {
  await expect(build(prepared([await broken()]), report, signal)).rejects.toThrow('lint found 1 error');
  const two = prepared([await writeOwnFiles(repository, 'one'), await writeOwnFiles(repository, 'two')]);
  await expect(build(two, report, AbortSignal.abort())).rejects.toMatchObject({ name: 'AbortError' });
  await expect(access(join(repository, 'extensions/two/dist'))).rejects.toThrow('ENOENT');
});

test('names and versions are checked before anything is written', async () => {
  await expect(prepareBuild({ ...SETTINGS, names: ['yq', 'no-such'] })).rejects.toMatchObject({ code: 'usage' });
  await expect(prepareBuild({ ...SETTINGS, names: ['yq@0.1'] })).rejects.toThrow('yq 0.1 is not pinned');
  await writeFile(join(repository, 'yq'), 'a file');
  await expect(prepareBuild({ ...SETTINGS, names: ['yq'], out: repository })).rejects.toMatchObject({ path: join(repository, 'yq') });
});
