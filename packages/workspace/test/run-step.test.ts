import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { withoutSecrets } from '@flatcar/core/engine';
import { runProgram } from '@flatcar/workspace/ci/run-step';

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'attempt-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

async function script(text: string): Promise<string> {
  const file = join(await mkdtemp(join(dir, 's-')), 'program');
  await writeFile(file, `#!/bin/bash\n${text}\n`, { mode: 0o755 });
  return file;
}
const output = { tell: () => undefined, fence: () => ({ end: () => undefined }) };
const forever = new AbortController().signal;
async function isAlive(pid: number): Promise<boolean> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  return stat !== '' && !/\) Z /.test(stat);
}
/** Pids that a program wrote down, once they are there. */
async function pidsIn(file: string, count: number): Promise<number[]> {
  for (;;) {
    const pids = (await readFile(file, 'utf8').catch(() => ''))
      .split('\n')
      .filter((one) => one !== '')
      .map(Number);
    if (pids.length >= count) return pids;
    await sleep(50);
  }
}
const gone = async (pids: readonly number[]): Promise<void> => {
  await expect.poll(() => Promise.all(pids.map(isAlive)), { timeout: 120_000 }).toEqual(pids.map(() => false));
};

test('what a program printed is given when it failed, without escape sequences', async () => {
  const program = await script(`printf '\\e[31mone\\e[0m\\n'; echo two >&2; exit 3`);
  expect((await runProgram(program, [], forever, { output })).error).toMatch(/^one\ntwo$|^two\none$/);
  expect(await runProgram(await script('echo "$1"'), ['a b'], forever, { output })).toEqual({ error: undefined, stdout: 'a b' });
  expect((await runProgram(await script('exit 1'), [], forever, { output })).error).toBe('it failed without any output');
});

test('a program that is over its limit is ended with all that it started, in other sessions too', async () => {
  const pids = join(dir, 'limit.pids');
  // Bash tells of a killed child on standard error, when the child dies before bash does.
  const program = await script(
    `exec 2>/dev/null; trap '' TERM; (trap '' TERM; sleep 300) & echo $! >>${pids}; setsid sleep 300 & echo $! >>${pids}; echo $$ >>${pids}; echo working; while :; do sleep 1; done`,
  );
  const { error } = await runProgram(program, [], forever, { output, limit: 5000 });
  expect(error).toMatch(/^working\nended after the limit of \d+ minutes$/);
  await gone(await pidsIn(pids, 3));
});

test('a program that is cancelled is ended with all that it started', async () => {
  const pids = join(dir, 'cancel.pids');
  const program = await script(`sleep 300 & echo $! >>${pids}; echo $$ >>${pids}; wait`);
  const cancel = new AbortController();
  const running = runProgram(program, [], cancel.signal, { output });
  const started = await pidsIn(pids, 2);
  cancel.abort(new Error('interrupted'));
  await expect(running).rejects.toThrow('interrupted');
  await gone(started);
});

test('a child is given no key, token or secret', () => {
  const before = { ...process.env };
  const secrets = [
    'GITHUB_TOKEN',
    'GH_TOKEN',
    'UPDATE_TOKEN',
    'ACTIONS_RUNTIME_TOKEN',
    'ACTIONS_ID_TOKEN_REQUEST_URL',
    'AWS_SECRET_ACCESS_KEY',
    'FLATCAR_EXT_SUMS_KEY',
    'FLATCAR_EXT_UPDATE_KEY',
    'FLATCAR_EXT_TARGETS_KEY',
    'FLATCAR_EXT_SNAPSHOT_KEY',
    'FLATCAR_EXT_TIMESTAMP_KEY',
    'NPM_TOKEN',
    'TURBO_TOKEN',
    'APP_PRIVATE_KEY',
    'TURBO_REMOTE_CACHE_SIGNATURE_KEY',
    'DB_PASSWORD',
    'X_SECRET',
    'GITHUB_OUTPUT',
    'GITHUB_ENV',
    'GITHUB_PATH',
    'GITHUB_STEP_SUMMARY',
    'GITHUB_STATE',
  ];
  try {
    for (const name of secrets) process.env[name] = 'x';
    expect(Object.keys(withoutSecrets()).filter((name) => secrets.includes(name))).toEqual([]);
    expect(withoutSecrets()).toHaveProperty('PATH');
  } finally {
    for (const name of secrets)
      if (before[name] === undefined) delete process.env[name];
      else process.env[name] = before[name];
  }
});
