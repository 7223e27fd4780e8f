// npm run bench:publish -- --release-day, with one real payload of a few kilobytes and small stand-ins.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { ARCHES, buildExtension, loadExtension, openStore, openTools, selectTargets } from '@flatcar/core/engine';
import { execa } from 'execa';
import { expect, test } from 'vitest';

const repository = resolve(import.meta.dirname, '../../..');
const run = (...args: string[]) => execa(process.execPath, ['scripts/bench/publish.ts', ...args], { cwd: repository, reject: false });
const day = (...args: string[]) => run('--release-day', ...args);

/** Puts the squashfs payloads of an extension into the store. */
async function build(name: string): Promise<void> {
  const loaded = await loadExtension(join(repository, 'extensions', name));
  const version = Object.keys(loaded.pins)[0] ?? '';
  const store = openStore();
  const out = await mkdtemp(join(tmpdir(), 'release-day-'));
  const common = { version, profile: 'publish', origin: 'auto', targets: selectTargets('portable'), report: () => undefined } as const;
  for (const arch of ARCHES) await buildExtension(loaded, { ...common, arch, out, store, tools: openTools(store) });
  await rm(out, { recursive: true });
}

test('each payload is bound to one more release and published; one is packed again', async () => {
  await build('hardening');
  const { stdout, stderr, exitCode } = await day('--extension', 'hardening,yq', '--format', 'squashfs', '--pack', '1', '--json');
  expect(stderr).toContain('binding yq');
  expect(exitCode).toBe(0);
  const [measured, ...others] = JSON.parse(stdout) as [{ steps: { step: string }[]; bytes: number }];
  expect(others).toEqual([]);
  expect(measured).toMatchObject({ format: 'squashfs', images: 4, extensions: 2, standIns: 2, standInNames: ['yq'] });
  expect(measured).toMatchObject({ packed: { payloads: 2 }, packing: { wall: expect.any(Number) }, time: { cpu: expect.any(Number) } });
  // The stand-ins of yq have the size of the real ones.
  expect(measured.bytes / 2 ** 20).toBeCloseTo(10, 0);
  const steps = ['verify the published image', 'copy', 'read back', 'digest', 'sidecars', 'check', 'update payload', 'sign', 'promote'];
  expect(measured.steps.map(({ step }) => step)).toEqual(expect.arrayContaining(steps));
});

test('disk images: signed, and the report gives the times and names the stand-ins', async () => {
  const { stdout, exitCode } = await day('--extension', 'yq', '--format', 'ddi', '--pack', '0');
  expect(exitCode).toBe(0);
  expect(stdout).toContain('one more release (ddi): 2 images of 1 extensions, 14 MiB\n');
  expect(stdout).toContain('2 payloads stand in for real ones of about the same size: yq\n');
  expect(stdout).toMatch(/the day: bind, read back, sign, index +\d+\.\d +\d+\.\d +aim: < 60\n/);
  expect(stdout).toContain('packing again was not measured');
  expect(stdout).toMatch(/disk image +\d+\.\d\n/);
});

test('the help fits 80 columns', async () => {
  const { stdout, exitCode } = await run('--help');
  expect(exitCode).toBe(0);
  expect(stdout).toContain('npm run bench:publish -- --release-day --extension git,yq --format ddi');
  for (const line of stdout.split('\n')) expect(line.length).toBeLessThanOrEqual(80);
});
