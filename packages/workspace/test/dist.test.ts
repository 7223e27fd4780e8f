import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeEach, expect, test } from 'vitest';
import { checkOutput, replaceDist } from '@flatcar/workspace/dist';

let dir: string;
const made: string[] = [];
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'dist-'));
  made.push(dir);
  await mkdir(join(dir, 'dist'));
  await writeFile(join(dir, 'dist/before'), 'good');
});
afterAll(() => Promise.all(made.map((one) => rm(one, { recursive: true }))));

test('dist/ becomes what a build makes, as a whole', async () => {
  await replaceDist(dir, async (folder) => {
    expect(await readdir(join(dir, 'dist'))).toEqual(['before']);
    await writeFile(join(folder, 'after'), '');
  });
  expect(await readdir(dir)).toEqual(['dist']);
  expect(await readdir(join(dir, 'dist'))).toEqual(['after']);
});

test('a build that fails leaves dist/ as it was', async () => {
  const failing = replaceDist(dir, async (folder) => {
    await writeFile(join(folder, 'half'), '');
    throw new Error('lint');
  });
  await expect(failing).rejects.toThrow('lint');
  expect(await readdir(dir)).toEqual(['dist']);
  expect(await readFile(join(dir, 'dist/before'), 'utf8')).toBe('good');
});

test('builds at once all end well, and dist/ is one of theirs', async () => {
  const builds = Array.from({ length: 12 }, (_, index) =>
    replaceDist(dir, async (folder) => {
      for (const name of ['a', 'b']) {
        await writeFile(join(folder, name), String(index));
        await sleep(Math.random() * 5);
      }
      return index;
    }),
  );
  expect(await Promise.all(builds)).toHaveLength(12);
  expect(await readdir(dir)).toEqual(['dist']);
  expect(await readFile(join(dir, 'dist/a'), 'utf8')).toBe(await readFile(join(dir, 'dist/b'), 'utf8'));
});

test('what a killed build left goes with the next one, and what runs stays', async () => {
  const script = `
    import { replaceDist } from ${JSON.stringify(join(import.meta.dirname, '../src/dist.ts'))};
    await replaceDist(${JSON.stringify(dir)}, async () => new Promise((resolve) => setTimeout(resolve, 600_000)));`;
  const begin = async (count: number): Promise<ChildProcess> => {
    const child = spawn(process.execPath, ['--input-type=module-typescript', '--eval', script], { stdio: ['ignore', 'ignore', 'inherit'] });
    await expect.poll(async () => (await readdir(dir)).length, { timeout: 120_000 }).toBe(1 + count);
    return child;
  };
  const running = await begin(1);
  try {
    const runs = (await readdir(dir)).find((name) => name !== 'dist');
    const killed = await begin(2);
    killed.kill('SIGKILL');
    await once(killed, 'close');
    await replaceDist(dir, async () => undefined);
    expect((await readdir(dir)).toSorted()).toEqual([runs, 'dist']);
  } finally {
    running.kill('SIGKILL');
    await once(running, 'close');
  }
});

test('a folder for output that cannot be made ends at once, and nothing is left of one that can', async () => {
  await expect(checkOutput('/proc/x/y')).rejects.toMatchObject({ code: 'ENOENT' });
  await expect(checkOutput('/dev/null/x')).rejects.toMatchObject({ code: 'ENOTDIR' });
  await expect(checkOutput(join(dir, 'dist/before/x'))).rejects.toMatchObject({ code: 'ENOTDIR' });
  await checkOutput(join(dir, 'new/deep'));
  expect(await readdir(dir)).toEqual(['dist']);
});
