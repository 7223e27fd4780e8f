import { execFileSync } from 'node:child_process';
import { chmod, chown, lstat, mkdir, mkdtemp, readdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { hashFile, openStore, selectTargets, UserErrors, type Release } from '@flatcar/core/engine';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { initKeys, loadKeys, localDestination, mirror, openTree, publish, type PublishKeys, type PublishResult } from '../src/index.ts';
import { buildDemo } from './helpers/demo.ts';
import { trustOf } from './helpers/trust.ts';

// What is published is for others to read, whatever the umask of the publisher and the modes of what was there before.
const [stable] = selectTargets('4593.2.5') as [Release];
let dir: string;
let keys: PublishKeys;

async function withUmask<T>(umask: number, run: () => Promise<T>): Promise<T> {
  const before = process.umask(umask);
  try {
    return await run();
  } finally {
    process.umask(before);
  }
}

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'modes-'));
  await chmod(dir, 0o755);
  await initKeys(join(dir, 'keys'));
  keys = await loadKeys(join(dir, 'keys'), {});
  for (const version of ['1.0.0', '1.0.1']) await buildDemo(join(dir, version), { version, targets: ['portable', stable] });
});
afterAll(() => rm(dir, { recursive: true, force: true }));

const into = (tree: string, version: string, notices: string[] = []): Promise<PublishResult> =>
  publish({
    paths: [join(dir, version)],
    destination: localDestination(tree),
    keys,
    baseUrl: 'https://one.example.org',
    report: (event) => {
      if (event.type === 'notice') notices.push(event.text);
    },
  });

/** Mode and digest of everything below a folder, besides what is not served. */
async function listing(root: string): Promise<Map<string, string>> {
  const found = new Map<string, string>([['.', ((await lstat(root)).mode & 0o7777).toString(8)]]);
  for (const entry of await readdir(root, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    const name = relative(root, path);
    if (entry.isSymbolicLink() || name === '.publish.lock') continue;
    const mode = ((await lstat(path)).mode & 0o7777).toString(8);
    // Signatures have a date.
    found.set(
      name.replace(/\.set-[0-9a-f]+/, '.set'),
      entry.isFile() && !/\.gpg$|\.set-/.test(name) ? `${mode} ${await hashFile(path)}` : mode,
    );
  }
  return found;
}
const modes = (found: Map<string, string>): Set<string> => new Set([...found.values()].map((one) => one.split(' ')[0] ?? ''));

test.each([0o022, 0o077, 0o027, 0o002, 0o000])(
  'a tree and its mirror have public modes and the same files under umask %o',
  async (umask) => {
    const [plain, tree, copy] = [join(dir, 'plain'), join(dir, `tree-${umask}`), join(dir, `mirror-${umask}`)];
    await withUmask(0o022, () => into(plain, '1.0.0'));
    await withUmask(umask, async () => {
      await into(tree, '1.0.0');
      await mirror({
        tree: openTree(tree, openStore()),
        destination: localDestination(copy),
        trust: trustOf(keys),
        baseUrl: 'https://two.example.org',
      });
    });
    const found = await listing(tree);
    expect(modes(found)).toEqual(new Set(['755', '644']));
    expect(modes(await listing(copy))).toEqual(new Set(['755', '644']));
    const same = (one: Map<string, string>): [string, string][] =>
      [...one]
        .filter(([name]) => !/^(?:index|packages|metadata)|\/index-|index\.json$|\.gz$/.test(name))
        .toSorted(([a], [b]) => (a < b ? -1 : 1));
    expect(same(found)).toEqual(same(await listing(plain)));
  },
);

test('a tree that was made with strict modes is readable after the next publish, and what is not of the tree is left alone', async () => {
  const tree = join(dir, 'strict');
  await into(tree, '1.0.0');
  execFileSync('chmod', ['-R', 'go-rwx', tree]);
  await mkdir(join(tree, 'private'), { mode: 0o700 });
  await writeFile(join(tree, 'private/htpasswd'), 'x', { mode: 0o600 });
  await withUmask(0o077, () => into(tree, '1.0.1'));
  // The same through a link.
  await chmod(tree, 0o700);
  await symlink(tree, join(dir, 'link'));
  await into(join(dir, 'link'), '1.0.1');
  const found = await listing(tree);
  expect(found.get('private')).toBe('700');
  expect(found.get('private/htpasswd')).toMatch(/^600/);
  for (const name of ['private', 'private/htpasswd']) found.delete(name);
  expect(modes(found)).toEqual(new Set(['755', '644']));
});

test('what a killed publish left beside files goes, and a folder above that others cannot enter is told', async () => {
  const above = join(dir, 'above');
  const tree = join(above, 'tree');
  await into(tree, '1.0.0');
  const left = ['demo/payload/.0123abcd-4194304-1-89abcdef.tmp', '.0123abcd-4194304-1-01234567.tmp'].map((name) => join(tree, name));
  for (const file of left) await writeFile(file, '');
  const set = join(tree, 'demo/portable/.set-0123456789abcdef0123456789abcdef');
  await mkdir(set);
  await chmod(above, 0o700);
  const notices: string[] = [];
  await into(tree, '1.0.1', notices);
  expect(notices.filter((one) => one.includes('others cannot enter'))).toEqual([
    expect.stringContaining(`${above}: others cannot enter this folder above the tree (mode 700)`),
  ]);
  for (const path of [...left, set]) await expect(lstat(path)).rejects.toThrow('ENOENT');
});

const isRoot = process.getuid?.() === 0;

test('an ordinary user is told which files of somebody else others cannot read', async ({ skip }) => {
  skip(!isRoot, 'only root has files of two users');
  const tree = join(dir, 'shared');
  const [uid, other] = [1001, 65_534];
  await into(tree, '1.0.0');
  const image = join(tree, 'demo/portable/demo.portable_1.0.0_x86-64.raw');
  for (const path of (await readdir(tree, { recursive: true })).map((name) => join(tree, name)))
    if (!(await lstat(path)).isSymbolicLink()) await chown(path, uid, uid);
  await chown(tree, uid, uid);
  await rename(image, `${image}.x`);
  execFileSync('cp', [`${image}.x`, image]); // no hard link of the official image
  await rm(`${image}.x`);
  await chown(image, other, other);
  await chmod(image, 0o600);
  execFileSync('cp', ['-a', join(dir, 'keys'), join(dir, 'keys-user')]);
  execFileSync('chown', ['-R', `${uid}`, join(dir, 'keys-user')]);
  const helper = join(import.meta.dirname, 'helpers/publish-once.ts');
  const home = join(dir, 'home');
  await mkdir(home);
  await chown(home, uid, uid);
  const env = { PATH: `${dirname(process.execPath)}:/usr/bin:/bin`, HOME: home, FLATCAR_EXT_CACHE: join(home, 'cache') };
  const { stderr, exitCode } = await execa(
    'setpriv',
    [`--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', process.execPath, helper, tree, join(dir, 'keys-user'), join(dir, '1.0.1')],
    { env, extendEnv: false, reject: false },
  );
  expect(stderr).toContain('others cannot read it: its mode is 600');
  expect(stderr).toContain(image);
  expect(exitCode).not.toBe(0);
  await chmod(image, 0o644);
  await execa(
    'setpriv',
    [`--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', process.execPath, helper, tree, join(dir, 'keys-user'), join(dir, '1.0.1')],
    { env, extendEnv: false },
  );
  expect(await readdir(join(tree, 'demo/portable'))).toContain('demo.portable_1.0.1_x86-64.raw');
});

test('keys: private ones are for their owner, public halves are not, under any umask and in a folder that was there', async () => {
  for (const umask of [0o000, 0o022, 0o077]) {
    const folder = join(dir, `keys-${umask}`);
    await mkdir(folder);
    await withUmask(umask, () => initKeys(folder));
    const mode = async (name: string): Promise<string> => ((await lstat(join(folder, name))).mode & 0o7777).toString(8);
    for (const name of ['.', 'sums', 'update']) expect(await mode(name), name).toBe('700');
    for (const name of ['sums/1.key.asc', 'update/1.key.pem', 'roothash.key']) expect(await mode(name), name).toBe('600');
    for (const name of ['sums/1.pub.asc', 'update/1.pub.pem', 'roothash.crt']) expect(await mode(name), name).toBe('644');
    await loadKeys(folder, {});
  }
});

test('many problems are told at once, the first five of them', async () => {
  const { openToOthers } = await import('../src/destinations/open-to-others.ts');
  const tree = join(dir, 'dangling');
  await into(tree, '1.0.0');
  execFileSync('sh', ['-c', 'rm -r .current demo/portable/.current', 'sh'], { cwd: tree });
  await expect(openToOthers(tree, ['demo'])).rejects.toThrow(UserErrors);
  await expect(openToOthers(tree, ['demo'])).rejects.toThrow('others cannot read 3 files and folders of the tree');
});
