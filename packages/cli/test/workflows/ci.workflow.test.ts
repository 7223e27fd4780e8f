import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { WorkflowRun } from './act.ts';
import { RunTable } from './table.ts';
import { openWorld, type Trigger, type World } from './world.ts';

// What ci.yml and machines.yml start takes hours: here it is a script that writes down how it was started. What it starts is tested elsewhere.
const RECORDER = `#!/bin/sh
echo "\${0##*/} $*|umask $(umask)|sudo \${SUDO_USER-no}|actions \${GITHUB_ACTIONS-no}|token \${TURBO_TOKEN-no}" >>"$STANDIN_STATE/ran"
mkdir -p "$HOME/.cache/flatcar-ext/blobs" "$HOME/.cache/flatcar-ext/results/tools" "$HOME/.cache/flatcar-ext/results/test-root"
echo content >"$HOME/.cache/flatcar-ext/blobs/$$"
case $* in
  *--summarize*) mkdir -p .turbo/runs; echo '{"tasks":[{"package":"built","execution":{"exitCode":0}},{"package":"broken","execution":{"exitCode":1}}]}' >.turbo/runs/1.json ;;
esac
case "$*" in *"\${STANDIN_FAILS-nothing fails}"*) exit 1 ;; esac
`;

let world: World;
let home: string;
const at = (name: string): string => join(world.dir, 'state', name);
const resultsOf = ({ jobs }: WorkflowRun): Record<string, string> => Object.fromEntries(jobs.map(({ job, result }) => [job, result]));
const ran = async (): Promise<string[]> => (await readFile(at('ran'), 'utf8')).split('\n').filter((line) => line !== '');
const caches = async (): Promise<string[]> =>
  (await readdir(at('caches')).catch(() => [])).map((name) => name.replace(/-[0-9a-f]{64}/, '')).toSorted();
const table = new RunTable('ci');
const run = (title: string, workflow: string, trigger: Trigger): Promise<WorkflowRun> =>
  table.run(world, title, () => world.run(workflow, { ...trigger, env: { HOME: home, ...trigger.env } }));
const ALL = {
  lint: 'success',
  'unit ubuntu-24.04': 'success',
  'unit ubuntu-24.04-arm': 'success',
  ubuntu: 'success',
  workflows: 'success',
  'test ubuntu-24.04': 'success',
  'test ubuntu-24.04-arm': 'success',
  required: 'success',
};

beforeAll(async () => {
  world = await openWorld(['hardening'], { installs: false });
  home = at('home');
  for (const script of ['run', 'as-ubuntu']) await writeFile(join(world.clone.dir, 'scripts', script), RECORDER, { mode: 0o755 });
  await world.clone.push('what is started is written down');
  await mkdir(home);
  await world.own(home);
});
afterAll(() => world?.close());
beforeEach(async () => {
  await writeFile(at('ran'), '');
  await world.own(at('ran'));
});

test('a pull request: everything that is required, as an ordinary user and as root with what root needs; it saves no cache', async () => {
  const made = await run('a pull request', 'ci.yml', {
    event: 'pull_request',
    ref: 'topic',
    env: { GITHUB_BASE_REF: 'main' },
    payload: { pull_request: { base: { ref: 'main' }, head: { ref: 'topic' } } },
  });
  expect(resultsOf(made), made.log).toEqual({ ...ALL, share: 'skipped' });
  const lines = await ran();
  expect(lines.filter((line) => line.includes('--project unit'))).toEqual(
    Array(2).fill('run node scripts/test/test.ts --project unit|umask 0077|sudo no|actions true|token no'),
  );
  expect(lines).toContain('as-ubuntu --here|umask 0022|sudo no|actions true|token no');
  expect(lines).toContain('run flatcar-ext ci test --base origin/main|umask 0022|sudo runner|actions true|token no');
  expect(lines.filter((line) => line.includes('test.ts --all'))).toEqual([]);
  expect(await caches()).toEqual([]);
});

test('the merge queue: the same, from the commit that the queue is on', async () => {
  const made = await run('the merge queue', 'ci.yml', {
    event: 'merge_group',
    ref: 'gh-readonly-queue/main/pr-1',
    payload: { merge_group: { base_sha: 'f'.repeat(40) } },
  });
  expect(resultsOf(made), made.log).toEqual({ ...ALL, share: 'skipped' });
  expect((await ran()).join('\n')).toContain(`ci test --base ${'f'.repeat(40)}|`);
});

test('a failure in one job: the check that branch rules require fails', async () => {
  const made = await run('the merge queue; a unit test fails', 'ci.yml', {
    event: 'merge_group',
    ref: 'queue',
    payload: { merge_group: { base_sha: 'f'.repeat(40) } },
    env: { STANDIN_FAILS: '--project unit' },
  });
  expect(resultsOf(made), made.log).toMatchObject({ lint: 'success', 'unit ubuntu-24.04': 'failure', required: 'failure' });
});

test('main: everything, and a cache that the next run restores; builds are shared by a step that builds nothing', async () => {
  world.variables['TURBO_API'] = 'http://127.0.0.1:9';
  world.secrets['TURBO_CACHE__TURBO_TOKEN'] = 'a token of this test';
  const made = await run('main', 'ci.yml', { event: 'push' });
  expect(resultsOf(made), made.log).toEqual({ ...ALL, 'share ubuntu-24.04': 'success', 'share ubuntu-24.04-arm': 'success' });
  const lines = await ran();
  expect(lines).toContain('run node scripts/test/test.ts --all|umask 0022|sudo runner|actions true|token no');
  expect(lines.find((line) => line.includes('cache prune'))).toMatch(/--max-size 1\|/);
  // Upstream's build scripts run in the first; of what failed there nothing is begun again in the second.
  const builds = lines.filter((line) => line.includes('turbo run build'));
  expect(builds.find((line) => line.includes('--summarize'))).toContain('|token no');
  expect(builds.find((line) => line.includes('--filter'))).toMatch(/--filter=built\|.*\|token a token/);
  expect(await caches()).toEqual(['store-X64.tar']);
  const next = await run('main again', 'ci.yml', { event: 'push' });
  expect(next.log).toContain('Cache restored from key: store-X64-');
  expect(next.log).not.toContain('Failed to');
});

test('machines: started with what they skip by, caches saved, and a report of the failure', async () => {
  await rm(at('caches'), { recursive: true, force: true });
  const made = await run('machines, nightly; one release of Flatcar fails', 'machines.yml', {
    event: 'schedule',
    env: { STANDIN_FAILS: '--release lts' },
  });
  expect(resultsOf(made), made.log).toEqual({
    ...Object.fromEntries(['stand-ins', 'stable', 'beta', 'alpha', 'arm64'].map((what) => [`test ${what}`, 'success'])),
    'test lts': 'failure',
    torture: 'success',
    report: 'success',
  });
  const lines = await ran();
  const boots = lines.filter((line) => line.startsWith('run flatcar-ext test'));
  expect(boots).toHaveLength(6);
  for (const line of boots) expect(line).toContain('|sudo runner|actions true|');
  expect(lines.filter((line) => line.startsWith('run node scripts/torture/torture.ts'))).toHaveLength(1);
  expect(await readFile(at('ran'), 'utf8')).toMatch(/ci report --workflow machines --results \{\s*"test": \{[^]*"result": "failure"/);
  expect((await caches()).filter((name) => name.startsWith('machines-X64-'))).toHaveLength(6);
});

test('docs/releases.md has what happened (FLATCAR_EXT_WRITE_TABLE=1 writes it)', async () => {
  expect(await table.documented()).toBe(table.text);
});
