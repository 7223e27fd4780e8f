import { execFileSync } from 'node:child_process';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { WorkflowRun } from './act.ts';
import { addFixture, type Fixture } from './fixture.ts';
import { RunTable } from './table.ts';
import { openWorld, type World } from './world.ts';

let world: World;
let tool: Fixture;
let gadget: Fixture;

const resultsOf = ({ jobs }: WorkflowRun): Record<string, string> => Object.fromEntries(jobs.map(({ job, result }) => [job, result]));
const table = new RunTable('update');
const update = (title: string): Promise<WorkflowRun> =>
  table.run(world, title, () => world.run('update.yml', { inputs: { extensions: 'gadget tool' } }));
const openPulls = (): string[] => world.github.state.pulls.filter(({ state }) => state === 'open').map(({ title }) => title);
const openIssues = (): string[] => world.github.state.issues.filter(({ state }) => state === 'open').map(({ title }) => title);
const show = (ref: string): string => execFileSync('git', ['--git-dir', world.github.state.gitDir, 'show', ref], { encoding: 'utf8' });
const commitOf = (ref: string): string =>
  execFileSync('git', ['--git-dir', world.github.state.gitDir, 'rev-parse', ref], { encoding: 'utf8' });

beforeAll(async () => {
  world = await openWorld([]);
  tool = await addFixture(world.clone, 'tool', world.upstream.dir);
  gadget = await addFixture(world.clone, 'gadget', world.upstream.dir);
  for (const one of [tool, gadget]) {
    await one.publish('1.0.0');
    await one.pin('1.0.0');
  }
  await world.clone.push('two extensions');
  await tool.publish('1.1.0');
  await gadget.take(true);
});
afterAll(() => world?.close());

test('an update that may open no pull request fails, and an issue names the setting', async () => {
  const run = await update('Actions may open no pull requests');
  expect(resultsOf(run), run.log).toEqual({ update: 'failure', report: 'failure' });
  expect(openPulls()).toEqual([]);
  const text = world.github.state.issues.map(({ body }) => body ?? '').join('\n');
  expect(text).toContain('allow GitHub Actions to create and approve pull requests');
});

test('news of one extension and a failure of another: one pull request, one issue', async () => {
  world.github.state.settings.actionsMayOpenPulls = true;
  const run = await update('`tool` has a newer version, upstream of `gadget` is down');
  expect(resultsOf(run), run.log).toEqual({ update: 'failure', report: 'failure' });
  expect(openPulls(), run.log).toEqual(['tool: newer versions']);
  expect(show('update/tool:extensions/tool/pins.json')).toContain('"1.1.0"');
  // Nothing but the extension's own files is in it.
  expect(
    execFileSync('git', ['--git-dir', world.github.state.gitDir, 'diff', '--name-only', 'main', 'update/tool'], { encoding: 'utf8' }),
  ).not.toMatch(/outcome|gadget/);
  expect(openIssues()).toEqual(['gadget: update fails']);
});

test('the same update again pushes nothing', async () => {
  const before = commitOf('update/tool');
  const pushes = world.github.state.pushes.length;
  const run = await update('the same again');
  expect(openPulls(), run.log).toEqual(['tool: newer versions']);
  expect(commitOf('update/tool')).toBe(before);
  expect(world.github.state.pushes).toHaveLength(pushes);
  expect(openIssues()).toEqual(['gadget: update fails']);
});

test('a closed pull request stays closed; what works again closes its issue', async () => {
  for (const pull of world.github.state.pulls) pull.state = 'closed';
  await gadget.take(false);
  const run = await update('the pull request was closed; upstream of `gadget` is there again');
  expect(resultsOf(run), run.log).toEqual({ update: 'success', report: 'success' });
  expect(openPulls()).toEqual([]);
  expect(openIssues()).toEqual([]);
});

test('with an app, pull requests are the app’s, and other versions are proposed again', async () => {
  world.github.state.settings.actionsMayOpenPulls = false;
  world.variables['APP_CLIENT_ID'] = 'Iv23of-this-test';
  world.secrets['UPDATE__APP_PRIVATE_KEY'] = '-----BEGIN RSA PRIVATE KEY-----\nof this test\n-----END RSA PRIVATE KEY-----\n';
  await tool.publish('1.2.0');
  const run = await update('with an app; `tool` has another version');
  expect(resultsOf(run), run.log).toEqual({ update: 'success', report: 'success' });
  expect(openPulls()).toEqual(['tool: newer versions']);
  expect(world.github.state.pulls.at(-1)?.user.login).toBe('flatcar-extensions[bot]');
  expect(world.github.state.unknown).toEqual([]);
});

test('a fork updates nothing by schedule', async () => {
  const run = await table.run(world, 'by schedule, in a fork', () =>
    world.run('update.yml', { event: 'schedule', env: { GITHUB_REPOSITORY: 'somebody/extensions' } }),
  );
  expect(resultsOf(run), run.log).toEqual({ update: 'skipped', report: 'skipped' });
});

test('docs/releases.md has what happened (FLATCAR_EXT_WRITE_TABLE=1 writes it)', async () => {
  expect(await table.documented()).toBe(table.text);
});
