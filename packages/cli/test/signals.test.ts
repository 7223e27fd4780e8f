// What signals leave of a command that runs other programs of the repository.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';

const bin = resolve(import.meta.dirname, '../bin/flatcar-ext');
/** With patience for a busy machine, in milliseconds. */
const SOON = 60_000;

let dir: string;
beforeAll(async () => void (dir = await mkdtemp(join(tmpdir(), 'signals-'))));
afterAll(() => rm(dir, { recursive: true, force: true }));

/** Command lines of processes whose environment has a text. */
async function having(text: string): Promise<string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const found = await Promise.all(
    pids.map(async (pid) => {
      const environment = await readFile(`/proc/${pid}/environ`, 'latin1').catch(() => '');
      return environment.includes(text) ? (await readFile(`/proc/${pid}/cmdline`, 'latin1').catch(() => '')).replaceAll('\0', ' ') : '';
    }),
  );
  return found.filter((line) => line !== '');
}

test.each([
  ['SIGTERM', 143],
  ['SIGINT', 130],
  ['SIGKILL', null],
] as const)('%s to flatcar-ext test ends vitest and its machines', async (signal, code) => {
  const temp = await mkdtemp(join(dir, 'temp-'));
  const compiled = join(dir, 'compiled');
  const env = { ...process.env, TMPDIR: temp, NODE_COMPILE_CACHE: compiled, FLATCAR_EXT_MACHINES: '' };
  const child = spawn(bin, ['test', 'extension-stager'], { env, stdio: 'ignore' });
  const ended = once(child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>;
  await expect.poll(async () => (await having(temp)).some((line) => line.includes('vitest')), { timeout: SOON }).toBe(true);
  child.kill(signal);
  expect((await ended)[0]).toBe(code);
  await expect.poll(() => having(temp), { timeout: SOON }).toEqual([]);
  if (signal !== 'SIGKILL') return expect(await readdir(temp)).toEqual([]);
  // The next start removes what this one could not.
  expect(await readdir(temp)).toEqual([expect.stringMatching(/^fx-/)]);
  const next = spawn(bin, ['test', 'extension-stager'], { env, stdio: 'ignore' });
  const nextEnded = once(next, 'exit');
  await expect.poll(async () => (await having(temp)).some((line) => line.includes('vitest')), { timeout: SOON }).toBe(true);
  next.kill('SIGTERM');
  await nextEnded;
  return expect(await readdir(temp)).toEqual([]);
});

test(
  'fifty signals at random moments end flatcar-ext test within two seconds, and leave nothing',
  { tags: ['full'], timeout: 3_600_000 },
  async () => {
    const run = async (signal: NodeJS.Signals, after: number): Promise<{ took: number | undefined; about: string }> => {
      const temp = await mkdtemp(join(dir, 'random-'));
      const env = { ...process.env, TMPDIR: temp, NODE_COMPILE_CACHE: join(dir, 'compiled'), FLATCAR_EXT_MACHINES: '' };
      const child = spawn(bin, ['test', 'extension-stager'], { env, stdio: 'ignore' });
      const ended = once(child, 'exit');
      await Promise.race([sleep(after), ended]);
      const isOver = child.exitCode !== null || child.signalCode !== null;
      const at = performance.now();
      child.kill(signal);
      await ended;
      const took = isOver ? undefined : performance.now() - at;
      const about = `${signal} after ${Math.round(after)} ms`;
      await expect.poll(() => having(temp), { timeout: SOON, message: about }).toEqual([]);
      expect(await readdir(temp), about).toEqual([]);
      expect(await readFile('/proc/self/mountinfo', 'utf8'), about).not.toContain(temp);
      await rm(temp, { recursive: true });
      return { took, about };
    };
    const outcomes = [];
    for (let round = 0; round < 50; round += 1) outcomes.push(await run(round % 2 === 0 ? 'SIGINT' : 'SIGTERM', Math.random() * 15_000));
    expect(outcomes.filter(({ took }) => took !== undefined && took > 2000)).toEqual([]);
    expect(outcomes.filter(({ took }) => took !== undefined).length).toBeGreaterThan(25);
  },
);
