import { mkdtemp, mkdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { UserError } from '@flatcar/core/engine';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { diagnose, type Diagnosis, type Machine } from '../src/doctor.ts';

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'doctor-'));
  await mkdir(join(dir, 'keys/sums'), { recursive: true });
});
afterAll(() => rm(dir, { recursive: true, force: true }));

/** A machine that has everything. */
const machine = (changes: Partial<Machine> = {}): Machine => ({
  env: { FLATCAR_EXT_KEYS: join(dir, 'keys') },
  uid: 0,
  node: process.versions.node,
  reach: () => Promise.resolve(true),
  trySandbox: () => Promise.resolve(),
  ...changes,
});

async function about(subject: string, changes: Partial<Machine> = {}): Promise<Diagnosis | undefined> {
  return (await diagnose(machine(changes))).find((one) => one.subject === subject);
}

test('every subject that is not in order says what to do, and the others do not', async () => {
  const diagnoses = await diagnose(machine({ uid: 1000, node: '18.0.0', reach: () => Promise.resolve(false), env: {} }));
  expect(diagnoses.map(({ subject }) => subject)).toEqual(
    expect.arrayContaining(['Node', 'npm packages', 'git', 'store', 'root', 'sandbox', 'KVM', 'Debian mirror', 'github.com', 'keys']),
  );
  for (const { subject, state, next } of diagnoses) expect(next === undefined, subject).toBe(state === 'ok');
});

test('a Node that is too old is missing', async () => {
  expect(await about('Node', { node: '22.1.0' })).toMatchObject({
    state: 'missing',
    next: expect.stringContaining('scripts/run') as string,
  });
  expect(await about('Node')).toMatchObject({ state: 'ok', found: process.versions.node });
});

test('a host that is not reached is a warning that says what it is needed for; with a mirror only the mirror is asked', async () => {
  const reach = (url: string): Promise<boolean> => Promise.resolve(!url.includes('github'));
  expect(await about('github.com', { reach })).toMatchObject({ state: 'warning', next: expect.stringContaining('releases') as string });
  const asked: string[] = [];
  const env = { FLATCAR_EXT_MIRROR: 'https://mirror.example.org' };
  const counted = (url: string): Promise<boolean> => Promise.resolve(asked.push(url) > 0);
  expect(await about('mirror', { env, reach: counted })).toMatchObject({ state: 'ok' });
  expect(asked).toEqual([expect.stringContaining('debian'), 'https://mirror.example.org']);
});

test('a sandbox that cannot be set up says why, and what to do', async () => {
  const trySandbox = (): Promise<void> => Promise.reject(new UserError('no user namespaces', { next: 'run sysctl' }));
  expect(await about('sandbox', { trySandbox })).toEqual({
    subject: 'sandbox',
    state: 'warning',
    found: 'no user namespaces',
    next: 'compiling needs it: run sysctl',
  });
});

test('keys are found in the folder or in the variables that commands read', async () => {
  expect(await about('keys')).toMatchObject({ state: 'ok' });
  expect(await about('keys', { env: { FLATCAR_EXT_SUMS_KEY: 'x' } })).toMatchObject({ state: 'ok' });
  expect(await about('keys', { env: { FLATCAR_EXT_KEYS: join(dir, 'none') } })).toMatchObject({ state: 'warning' });
  expect(await about('keys', { env: {} })).toMatchObject({ state: 'warning', next: expect.stringContaining('keys init') as string });
});
