import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { writeFiles } from '../src/new/package-files.ts';

let temp = '';
beforeAll(async () => {
  temp = await mkdtemp(join(tmpdir(), 'package-files-'));
});
afterAll(() => rm(temp, { recursive: true, force: true }));

test('scripts are executable, other files are not', async () => {
  await writeFiles(temp, [
    { path: 'files/usr/share/x/etc/hook', text: '#!/bin/sh\n' },
    { path: 'files/usr/share/x/etc/x.conf', text: 'x\n' },
  ]);
  const isExecutable = async (path: string): Promise<boolean> => ((await stat(join(temp, path))).mode & 0o100) !== 0;
  expect(await isExecutable('files/usr/share/x/etc/hook')).toBe(true);
  expect(await isExecutable('files/usr/share/x/etc/x.conf')).toBe(false);
});
