import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, readdir, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { copyPublic, makePublic, mkdirPublic, PUBLIC_FILE, TEMPORARY, writeAtomic } from '../src/engine.ts';

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'files-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

const modeOf = async (path: string): Promise<string> => ((await stat(path)).mode & 0o7777).toString(8);

async function withUmask<T>(umask: number, run: () => Promise<T>): Promise<T> {
  const before = process.umask(umask);
  try {
    return await run();
  } finally {
    process.umask(before);
  }
}

test.each([0o077, 0o027, 0o002, 0o000])('public folders and files have the same modes under umask %o', async (umask) => {
  const root = join(dir, `umask-${umask}`);
  await withUmask(umask, async () => {
    await mkdirPublic(join(root, 'a/b'));
    await writeAtomic(join(root, 'a/b/file'), 'text', PUBLIC_FILE);
    await writeFile(join(root, 'plain'), 'text');
    await makePublic(join(root, 'plain'));
  });
  expect(await Promise.all([root, join(root, 'a'), join(root, 'a/b')].map(modeOf))).toEqual(['755', '755', '755']);
  expect(await Promise.all([join(root, 'a/b/file'), join(root, 'plain')].map(modeOf))).toEqual(['644', '644']);
});

test('folders that are there already are made public from the root on; what a group may do stays, and links are left alone', async () => {
  const root = join(dir, 'there');
  await mkdir(join(root, 'a'), { recursive: true });
  await chmod(root, 0o700);
  await chmod(join(root, 'a'), 0o2770);
  await mkdirPublic(join(root, 'a/b'));
  expect(await modeOf(root)).toBe('700');
  await mkdirPublic(join(root, 'a/b'), root);
  expect(await modeOf(root)).toBe('755');
  expect(await modeOf(join(root, 'a'))).toBe('2775');
  await symlink('/nowhere', join(root, 'link'));
  await makePublic(join(root, 'link'));
});

test('a folder that cannot be made is an error at once', async () => {
  await expect(mkdirPublic('/proc/x/y')).rejects.toThrow('ENOENT');
  await writeFile(join(dir, 'file'), '');
  await expect(mkdirPublic(join(dir, 'file'))).rejects.toThrow('EEXIST');
  await expect(mkdirPublic(join(dir, 'file/below'))).rejects.toThrow('ENOTDIR');
});

test('a copy of a file that nobody may write can be written by its owner, under any umask', async () => {
  const blob = join(dir, 'blob');
  await writeFile(blob, 'blob');
  await chmod(blob, 0o444);
  for (const umask of [0o077, 0o000]) {
    const copy = join(dir, `copy-${umask}`);
    await withUmask(umask, () => copyPublic(blob, copy));
    expect(await modeOf(copy)).toBe('644');
    await writeFile(copy, 'other');
  }
  expect(await modeOf(blob)).toBe('444');
});

test('what a killed process was writing goes with the next write into the folder, and what another is writing stays', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'temporary-'));
  const script = `
    import { replaceFile } from ${JSON.stringify(join(import.meta.dirname, '../src/util/files.ts'))};
    import { writeFile } from 'node:fs/promises';
    await replaceFile(${JSON.stringify(join(folder, 'file'))}, async (path) => {
      await writeFile(path, 'half');
      await new Promise((resolve) => setTimeout(resolve, 600_000));
    });`;
  const begin = async (count: number): Promise<ChildProcess> => {
    const child = spawn(process.execPath, ['--input-type=module-typescript', '--eval', script], { stdio: ['ignore', 'ignore', 'inherit'] });
    await expect.poll(async () => (await readdir(folder)).length, { timeout: 120_000 }).toBe(count);
    return child;
  };
  const writer = await begin(1);
  try {
    const [written = ''] = await readdir(folder);
    expect(written).toMatch(TEMPORARY);
    const killed = await begin(2);
    killed.kill('SIGKILL');
    await once(killed, 'close');
    // Of a process with the id of a running one that began at another time, and of another machine, young and old.
    const [, machine = ''] = /^\.([0-9a-f]{8})-/.exec(written) ?? [];
    const again = `.${machine}-${process.pid}-1-00000000.tmp`;
    const [young, old] = ['.00000000-1-1-00000000.tmp', '.00000000-1-1-00000001.tmp'];
    for (const name of [again, young, old]) await writeFile(join(folder, name), '');
    await utimes(join(folder, old), 1, 1);
    await writeAtomic(join(folder, 'file'), 'whole');
    expect((await readdir(folder)).toSorted()).toEqual([young, written, 'file'].toSorted());
  } finally {
    writer.kill('SIGKILL');
    await once(writer, 'close');
    await rm(folder, { recursive: true });
  }
});
