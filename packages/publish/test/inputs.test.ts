import { spawnSync } from 'node:child_process';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { readInputs } from '../src/publish/inputs.ts';

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'inputs-test-'));
});
afterEach(() => rm(dir, { recursive: true, force: true }));

test('a folder of images ends at its links, and a FIFO is not an image', async () => {
  for (const folder of ['outside', 'images/demo/portable']) await mkdir(join(dir, folder), { recursive: true });
  await writeFile(join(dir, 'outside/evil.raw'), 'an image that nobody gave');
  await writeFile(join(dir, 'outside/evil.payload.json'), 'a record that nobody gave');
  await symlink('../..', join(dir, 'images/demo/loop'));
  await symlink(join(dir, 'outside'), join(dir, 'images/demo/out'));
  await symlink(join(dir, 'outside/evil.raw'), join(dir, 'images/demo/link.raw'));
  expect(spawnSync('mkfifo', [join(dir, 'images/demo/pipe.raw')]).status).toBe(0);
  const inputs = await readInputs([join(dir, 'images')]);
  expect([inputs.images.length, inputs.payloads.size]).toEqual([0, 0]);
  // The same folder is read, and what is a file in it is an image.
  await writeFile(join(dir, 'images/demo/portable/demo.raw'), 'an image without a manifest');
  await expect(readInputs([join(dir, 'images')])).rejects.toThrow();
});
