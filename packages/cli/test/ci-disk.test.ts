import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { cacheRoot, hostArch } from '@flatcar/core/engine';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readOutcomes } from '@flatcar/workspace/ci/outcome';
import { flatcarExt } from './helpers/ci.ts';

const run = promisify(execFile);
const bin = resolve(import.meta.dirname, '../bin/flatcar-ext');
let dir: string;
const at = (name: string): string => join(dir, name);
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'ci-disk-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

test('an extension for which the disk has no room fails with that reason, and the next one is published', async ({ skip }) => {
  await mkdir(at('small'));
  // A disk of 160 kB for images, in a namespace of its own.
  const small = `mount -t tmpfs -o size=160k tmpfs '${at('small')}'`;
  const enter = ['--user', '--map-root-user', '--mount', 'sh', '-euc'];
  await run('unshare', [...enter, small]).catch((error: unknown) => skip(`no mount namespace can be had here: ${String(error)}`));

  expect(await flatcarExt(['keys', 'init', at('keys')])).toMatchObject({ code: 0 });
  expect(await flatcarExt(['ci', 'plan', 'extension-stager', 'hardening', '--out', at('planned.json')])).toMatchObject({ code: 0 });
  const { include } = JSON.parse(await readFile(at('planned.json'), 'utf8')) as { include: { id: string }[] };
  const jobs = ['extension-stager', 'hardening'].map((name) => ({
    ...include.find(({ id }) => id === `${name}-${hostArch()}`),
    // Disk images and their records of some fifty kilobytes each, and one squashfs of eight.
    targets: name === 'hardening' ? ['portable'] : '4757.1.0,4757.0.0,4722.1.0,4722.0.0,4694.1.0,4694.0.1,4694.0.0'.split(','),
  }));
  await writeFile(at('matrix.json'), JSON.stringify({ include: jobs }));
  const built = await flatcarExt(['ci', 'build', '--matrix', at('matrix.json'), '--built', at('built')]);
  expect(built.code, built.err).toBe(0);

  const where = ['--tree', at('tree'), '--keys', at('keys'), '--base-url', 'https://extensions.example.org'];
  const folders = ['--matrix', at('matrix.json'), '--built', at('built'), '--outcomes', at('outcomes'), '--images', at('small')];
  const env = { ...process.env, FLATCAR_EXT_CACHE: cacheRoot() };
  const ended = await run('unshare', [...enter, `${small}; exec "$0" "$@"`, bin, 'ci', 'publish', ...folders, ...where], { env }).then(
    () => ({ code: 0, stderr: '' }),
    (error: { code: number; stderr: string }) => error,
  );
  expect(ended.code, ended.stderr).toBe(1);
  const { outcomes } = await readOutcomes(at('outcomes'));
  expect(outcomes.map(({ step, extension, ok }) => `${step} ${extension} ${ok}`)).toEqual([
    'bind extension-stager false',
    'bind hardening true',
    'publish hardening true',
  ]);
  expect(outcomes[0]?.error).toMatch(/no space left|disk is full/i);
  expect(outcomes[0]?.error).not.toContain('should not happen');
  expect(await readdir(at('tree'))).toContain('hardening');
}, 300_000);
