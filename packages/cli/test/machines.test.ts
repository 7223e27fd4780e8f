// `flatcar-ext test` as somebody who may not boot machines, in a checkout that belongs to somebody else.
import { mkdir, mkdtemp, chmod, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, test } from 'vitest';

const PROGRAM = resolve(import.meta.dirname, '../bin/flatcar-ext');
/** Runs a command as nobody, where this is root. */
const NOBODY = process.getuid?.() === 0 ? ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'] : ['env'];
let home: string;
beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'machines-'));
  await mkdir(join(home, 'store'));
  for (const dir of [home, join(home, 'store')]) await chmod(dir, 0o777);
});
afterAll(() => rm(home, { recursive: true, force: true }));

test('an extension of which every test was skipped is no success', async ({ skip }) => {
  const [command = '', ...args] = NOBODY;
  const run = (...words: string[]) =>
    execa(command, [...args, ...words], {
      env: { PATH: process.env['PATH'] ?? '', HOME: home, FLATCAR_EXT_CACHE: join(home, 'store') },
      extendEnv: false,
      reject: false,
      all: true,
    });
  if ((await run('test', '-r', PROGRAM)).exitCode !== 0) skip('this checkout is in a folder that others may not read');
  const { exitCode, all } = await run(PROGRAM, 'test', 'hardening', 'yq');
  expect(all).toContain('hardening (skipped: machine tests need root)');
  expect(all).toContain('error: all tests were skipped: hardening, yq');
  expect(exitCode).toBe(1);
}, 300_000);
