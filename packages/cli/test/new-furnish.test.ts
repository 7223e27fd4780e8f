import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { copyInside } from '@flatcar/workspace/new/trial';

let dir: string;
const at = (path: string): string => join(dir, path);
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'furnish-test-'));
  for (const folder of ['root/usr/share/x/etc', 'root/etc', 'home']) await mkdir(at(folder), { recursive: true });
  await writeFile(at('root/usr/share/x/etc/conf'), 'conf');
  await writeFile(at('home/secret'), 'secret');
});
afterEach(() => rm(dir, { recursive: true, force: true }));

test('a C line of tmpfiles.d copies a file or a folder of the image', async () => {
  await copyInside(at('root'), '/usr/share/x/etc/conf', '/etc/x/deep/conf');
  expect(await readFile(at('root/etc/x/deep/conf'), 'utf8')).toBe('conf');
  await copyInside(at('root'), '/usr/share/x/etc', '/etc/y');
  expect(await readFile(at('root/etc/y/conf'), 'utf8')).toBe('conf');
  await copyInside(at('root'), '/usr/share/x/nothing', '/etc/z');
  expect((await readdir(at('root/etc'))).toSorted()).toEqual(['x', 'y']);
});

test('no C line of an image reads or writes files of this machine', async () => {
  await symlink(at('home'), at('root/usr/share/x/home'));
  await symlink(at('home'), at('root/etc/home'));
  for (const [from, to] of [
    ['/usr/../../home/secret', '/etc/a'],
    ['/usr/share/x/home/secret', '/etc/b'],
    ['/usr/share/x/home', '/etc/c'],
    ['/usr/share/x/etc/conf', '/etc/../../home/d'],
    ['/usr/share/x/etc/conf', '/etc/home/e'],
    ['/usr/share/x/etc/conf', '/etc/home/f/g'],
  ] as const)
    await copyInside(at('root'), from, to);
  expect(await readdir(at('home'))).toEqual(['secret']);
  expect(await readdir(at('root/etc'))).toEqual(['home']);
});
