import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { execa } from 'execa';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { GitHub } from '@flatcar/workspace/ci/github';
import { syncIssues } from '@flatcar/workspace/ci/issues';
import type { Job } from '@flatcar/workspace/ci/job';
import type { Outcome } from '@flatcar/workspace/ci/outcome';
import { codeBlock } from '@flatcar/core/engine';
import { FakeGitHub } from '@flatcar/workspace/test/helpers/fake-github';

// `ci report` as a workflow starts it; GitHub's API alone is a stand-in.
const bin = resolve(import.meta.dirname, '../bin/flatcar-ext');
let root: string;
let dir: string;
let github: GitHub;
let fake: FakeGitHub;

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'report-'));
});
afterAll(() => rm(root, { recursive: true, force: true }));
beforeEach(async () => {
  dir = await mkdtemp(join(root, 'run-'));
  fake = await FakeGitHub.start();
  ({ github } = fake);
});
afterEach(() => fake.stop());

const job = (extension: string, architecture: 'x86-64' | 'arm64' = 'x86-64', from: Job['from'] = 'build'): Job => ({
  id: `${extension}-${architecture}`,
  extension,
  architecture,
  from,
  versions: ['1.0'],
  targets: ['portable'],
});
const outcome = (step: Outcome['step'], { id, extension }: Pick<Job, 'id' | 'extension'>, error?: string): Outcome =>
  error === undefined ? { step, job: id, extension, what: 'x', ok: true } : { step, job: id, extension, what: 'x', ok: false, error };
const whole = (one: Job): Outcome[] => [
  ...(one.from === 'build' ? [outcome('build', one)] : []),
  outcome('bind', one),
  outcome('publish', one),
];
const update = (extension: string, error?: string): Outcome => ({
  step: 'update',
  extension,
  what: '',
  ok: error === undefined,
  ...(error === undefined ? {} : { error }),
});

interface Run {
  readonly jobs?: readonly Job[];
  readonly held?: readonly object[];
  readonly outcomes?: readonly Outcome[];
  readonly files?: Readonly<Record<string, string>>;
  readonly results?: Readonly<Record<string, string>>;
  readonly workflow?: string;
  readonly env?: Readonly<Record<string, string>>;
}
async function report({
  jobs,
  held = [],
  outcomes = [],
  files = {},
  results,
  workflow = 'release',
  env = {},
}: Run): Promise<{ exitCode: number | undefined; all: string }> {
  const at = await mkdtemp(join(dir, 'r-'));
  const written = {
    ...Object.fromEntries(outcomes.map((one, index) => [`outcomes-x/${index}.outcome.json`, JSON.stringify(one)])),
    ...files,
  };
  for (const [name, text] of Object.entries(written)) {
    await mkdir(dirname(join(at, 'outcomes', name)), { recursive: true });
    await writeFile(join(at, 'outcomes', name), text);
  }
  if (jobs !== undefined) await writeFile(join(at, 'matrix.json'), JSON.stringify({ include: jobs, held }));
  const needs =
    results === undefined
      ? []
      : ['--results', JSON.stringify(Object.fromEntries(Object.entries(results).map(([name, result]) => [name, { result, outputs: {} }])))];
  const matrix = jobs === undefined ? [] : ['--matrix', join(at, 'matrix.json')];
  const plain = Object.fromEntries(Object.entries(process.env).filter(([key]) => !/^(?:GITHUB_|FLATCAR_EXT_|FORCE_COLOR)/.test(key)));
  const { api, repository, token, server } = github;
  const { exitCode, all } = await execa(
    bin,
    ['ci', 'report', '--workflow', workflow, '--outcomes', join(at, 'outcomes'), ...matrix, ...needs],
    {
      all: true,
      reject: false,
      extendEnv: false,
      env: {
        ...plain,
        GITHUB_API_URL: api,
        GITHUB_REPOSITORY: repository,
        GITHUB_TOKEN: token,
        GITHUB_SERVER_URL: server,
        GITHUB_RUN_ID: '7',
        ...env,
      },
    },
  );
  return { exitCode, all };
}
const states = (): string[] => fake.issues.map(({ title, state }) => `${title} | ${state}`);
const body = (title: string): string => fake.issues.find((one) => one.title === title)?.body ?? '';

describe('a release is judged by what was planned', () => {
  const [docker, yq] = [job('docker'), job('yq')];

  test('an extension that fails has an issue with what it printed; one that went well has none', async () => {
    const { exitCode, all } = await report({
      jobs: [docker, yq],
      outcomes: [...whole(yq), outcome('build', docker, 'no such host')],
      results: { plan: 'success', extension: 'failure' },
    });
    expect(exitCode).toBe(1);
    expect(all).toContain('failed: docker');
    expect(states()).toEqual(['docker: release fails | open']);
    expect(body('docker: release fails')).toContain('no such host');
    expect(body('docker: release fails')).toContain(`${github.server}/owner/repo/actions/runs/7`);
    expect(fake.issues[0]?.labels).toEqual([{ name: 'extension-failure' }]);
  });

  test('all well is told, and ends with 0', async () => {
    const { exitCode, all } = await report({
      jobs: [docker, yq],
      outcomes: [docker, yq].flatMap(whole),
      results: { plan: 'success', extension: 'success', bind: 'skipped' },
    });
    expect(all).toContain('everything that was planned succeeded');
    expect(exitCode).toBe(0);
    expect(states()).toEqual([]);
  });

  // C7: the publish job dies before it can write an outcome.
  test.each(['failure', 'cancelled'])('a publish job that died (%s) is a failure, and closes nothing', async (result) => {
    await report({ jobs: [yq], outcomes: [outcome('build', yq, 'x')] });
    const { exitCode } = await report({
      jobs: [yq],
      outcomes: [outcome('build', yq), outcome('bind', yq)],
      results: { plan: 'success', extension: result },
    });
    expect(exitCode).toBe(1);
    expect(states()).toEqual(['yq: release fails | open']);
    expect(body('yq: release fails')).toContain(`the job ended without an outcome of publish: extension: ${result}`);
  });

  test('a job of one architecture that left nothing is a failure, though the other went well', async () => {
    const arm = job('yq', 'arm64');
    expect((await report({ jobs: [yq, arm], outcomes: whole(yq) })).exitCode).toBe(1);
    expect(body('yq: release fails')).toContain('`build yq-arm64`');
  });

  test('what only binds needs no build', async () => {
    const bound = job('yq', 'x86-64', 'published');
    expect((await report({ jobs: [bound], outcomes: whole(bound), results: { plan: 'success', bind: 'success' } })).exitCode).toBe(0);
    expect((await report({ jobs: [bound], outcomes: [outcome('bind', bound)] })).exitCode).toBe(1);
  });

  // M1: the same versions of one extension, once published and once built.
  test('a good outcome of one job does not stand for another job of the same extension', async () => {
    const other = { ...job('yq', 'x86-64', 'published'), id: 'yq-x86-64-2' };
    await report({ jobs: [yq, other], outcomes: [...whole(yq), outcome('bind', other, 'wrong digest')] });
    expect(body('yq: release fails')).toContain('wrong digest');
  });

  test('no outcomes folder, damaged outcome files, and outcomes of others: all are told', async () => {
    const { exitCode, all } = await report({
      jobs: [docker, yq],
      files: {
        'payload-yq-x86-64/outcomes/a.outcome.json': JSON.stringify(outcome('publish', yq)),
        'payload-yq-x86-64/outcomes/b.outcome.json': JSON.stringify(outcome('build', docker)),
        'outcomes-x/c.outcome.json': '{',
        'outcomes-x/d.outcome.json': JSON.stringify({ step: 'build', extension: '../x', what: '', ok: true }),
        'outcomes-x/e.outcome.json': JSON.stringify(outcome('publish', { id: 'etcd-arm64', extension: 'etcd' })),
        'outcomes-x/f.outcome.json': JSON.stringify(outcome('publish', { id: 'docker-x86-64', extension: 'yq' })),
      },
      results: { plan: 'success', extension: 'success' },
    });
    expect(exitCode).toBe(1);
    expect(all.match(/^\S.* is not accepted: /gm)).toHaveLength(6);
    expect(states()).toEqual(['docker: release fails | open', 'yq: release fails | open', 'release run fails | open']);
    expect((await report({ jobs: [yq], results: { plan: 'success' } })).all).toContain(
      'the job ended without an outcome of build, bind, publish',
    );
  });

  test('held back builds are told, and close nothing', async () => {
    await report({ jobs: [yq], outcomes: [outcome('build', yq, 'x')] });
    const arm = job('yq', 'arm64');
    const { exitCode, all } = await report({
      jobs: [arm],
      outcomes: whole(arm),
      held: [{ job: yq, until: '2026-11-28T00:00:00.000Z', failures: 3 }],
    });
    expect(exitCode).toBe(0);
    expect(all).toContain('yq-x86-64 is held back until 2026-11-28T00:00:00.000Z: it failed 3 times');
    expect(states()).toEqual(['yq: release fails | open']);
    await report({ jobs: [yq, arm], outcomes: [yq, arm].flatMap(whole) });
    expect(states()).toEqual(['yq: release fails | closed']);
  });
});

describe('what fails as a whole', () => {
  test('a plan that failed has an issue, which the next good run closes', async () => {
    const { exitCode, all } = await report({ results: { plan: 'failure', extension: 'skipped', bind: 'skipped' } });
    expect(exitCode).toBe(1);
    expect(all).toContain("the job 'plan' of the workflow ended with: failure");
    expect(states()).toEqual(['release run fails | open']);
    expect((await report({ jobs: [], results: { plan: 'success', extension: 'skipped' } })).exitCode).toBe(0);
    expect(states()).toEqual(['release run fails | closed']);
  });

  test('a plan that was skipped is nothing', async () => {
    expect((await report({ results: { plan: 'skipped', extension: 'skipped' } })).exitCode).toBe(0);
    expect(fake.changes()).toEqual([]);
  });

  test('a matrix that cannot be read is told', async () => {
    const { exitCode } = await execa(
      bin,
      [
        'ci',
        'report',
        '--workflow',
        'release',
        '--matrix',
        join(dir, 'none.json'),
        '--outcomes',
        dir,
        '--results',
        '{"plan":{"result":"success"}}',
      ],
      { reject: false },
    );
    expect(exitCode).toBe(1);
  });

  test('a job of the workflow that no extension explains is told', async () => {
    const yq = job('yq');
    await report({ jobs: [yq], outcomes: whole(yq), results: { plan: 'success', extension: 'success', attest: 'failure' } });
    expect(states()).toEqual(['release run fails | open']);
    expect(body('release run fails')).toContain("the job 'attest' of the workflow ended with: failure");
  });

  test('a workflow without a plan is judged by its jobs', async () => {
    expect((await report({ workflow: 'machines', results: { test: 'cancelled' } })).exitCode).toBe(1);
    expect(states()).toEqual(['machines run fails | open']);
    expect((await report({ workflow: 'machines', results: { test: 'success' } })).exitCode).toBe(0);
    expect(states()).toEqual(['machines run fails | closed']);
  });

  test.each(['{', '[]', '{"plan":"success"}', '{"plan":{"result":"odd"}}'])('--results %s is refused', async (text) => {
    const { exitCode, stderr } = await execa(bin, ['ci', 'report', '--workflow', 'release', '--results', text, '--outcomes', dir], {
      reject: false,
    });
    expect(exitCode).not.toBe(0);
    expect(stderr).toContain('--results');
  });
});

describe('issues', () => {
  // H3
  test('of different workflows are different, and none closes those of another', async () => {
    const gvisor = job('gvisor');
    await report({ jobs: [gvisor], outcomes: [outcome('build', gvisor, 'x')] });
    await report({ workflow: 'update', outcomes: [update('gvisor', 'wrong signature')], results: { update: 'failure' } });
    expect(states()).toEqual(['gvisor: release fails | open', 'gvisor: update fails | open']);
    await report({ workflow: 'update', outcomes: [update('gvisor')], results: { update: 'success' } });
    expect(states()).toEqual(['gvisor: release fails | open', 'gvisor: update fails | closed']);
    expect(fake.issues[1]?.comments).toEqual([{ id: 1, body: `Succeeded again: ${github.server}/owner/repo/actions/runs/7` }]);
  });

  test('one that is closed is opened again instead of another one', async () => {
    for (const error of ['one', undefined, 'two']) await report({ workflow: 'update', outcomes: [update('gvisor', error)] });
    expect(states()).toEqual(['gvisor: update fails | open']);
    expect(body('gvisor: update fails')).toContain('two');
    expect(fake.issues[0]?.comments).toMatchObject([
      { body: expect.stringContaining('Succeeded again') as string },
      { body: expect.stringContaining('Failed again') as string },
    ]);
  });

  test('of somebody else, and pull requests, are not those of the workflow', async () => {
    fake.issues.push({
      ...fake.issue({ title: 'gvisor: update fails', body: '', labels: ['extension-failure'] }),
      user: { login: 'mallory' },
    });
    await report({ workflow: 'update', outcomes: [update('gvisor')] });
    expect(states()).toEqual(['gvisor: update fails | open']);
    await report({ workflow: 'update', outcomes: [update('gvisor', 'x')] });
    expect(fake.issues).toHaveLength(2);
  });

  test('are found behind the first hundred', async () => {
    for (let index = 0; index < 230; index += 1)
      fake.issues.push(fake.issue({ title: `e${index}: update fails`, body: '', labels: ['extension-failure'] }));
    fake.issues.push(fake.issue({ title: 'gvisor: update fails', body: '', labels: ['extension-failure'] }));
    await report({ workflow: 'update', outcomes: [update('gvisor')] });
    expect(fake.issues.at(-1)?.state).toBe('closed');
    expect(fake.issues).toHaveLength(231);
  });

  // M3, M13
  test('are no longer than GitHub takes, whatever fails, and each failure has its share', async () => {
    const jobs = Array.from({ length: 60 }, (_, index) => ({ ...job('kubernetes'), id: `kubernetes-x86-64-${index + 1}` }));
    const long = '`'.repeat(15_999);
    await report({
      jobs,
      outcomes: jobs.map((one, index) => outcome('build', one, index === 0 ? long : `${'x'.repeat(15_900)} end ${index}`)),
    });
    const text = body('kubernetes: release fails');
    expect(text.length).toBeLessThan(65_536);
    expect(text).toContain('end 1\n');
    expect(text).toContain('end 39\n');
    expect(text).toContain('20 more failures');
  });

  test('show what failed as text: no Markdown, no mention, no escape sequence of it has an effect', async () => {
    const error = '\u001B[31m@octocat fixes #1\u001B[0m\n````\n# Title <img src=x>\n<!-- flatcar-ext-failure {"v":1,"jobs":[]} -->';
    await report({ workflow: 'update', outcomes: [update('gvisor', error)] });
    expect(body('gvisor: update fails')).toContain(codeBlock(error));
    expect(body('gvisor: update fails')).not.toContain('\u001B');
  });

  test('an error of GitHub for one does not leave out the others', async () => {
    fake.refuse((method, path) => (method === 'PATCH' && path.endsWith('/issues/1') ? [500, 'Server Error'] : undefined));
    fake.issues.push(fake.issue({ title: 'bird: update fails', body: '', labels: ['extension-failure'] }));
    const { exitCode, all } = await report({ workflow: 'update', outcomes: [update('bird', 'x'), update('gvisor', 'y')] });
    expect(exitCode).toBe(1);
    expect(all).toContain("the issue 'bird: update fails' is not up to date: GitHub answered 500: Server Error");
    expect(states()).toContain('gvisor: update fails | open');
    // All went well, but the issue could not be closed.
    expect((await report({ workflow: 'update', outcomes: [update('bird')] })).exitCode).toBe(1);
  });

  test('a token that may not read issues is told, and not shown', async () => {
    fake.refuse(() => [403, 'Resource not accessible by integration']);
    const { exitCode, all } = await report({ workflow: 'update', outcomes: [update('gvisor')] });
    expect(exitCode).toBe(1);
    expect(all).toContain('Resource not accessible by integration');
    expect(all).toContain('issues: write');
    expect(all).not.toContain(github.token);
  });

  test('nothing to judge asks nothing of GitHub', async () => {
    fake.refuse(() => [500, 'down']);
    expect(await syncIssues(github, 'release', [])).toEqual([]);
  });

  test('an outcome of what is no extension is not believed', async () => {
    const { all } = await report({
      workflow: 'update',
      outcomes: [update('no-such-extension', 'x'), update('releases', 'the list cannot be read')],
    });
    expect(all).toContain("there is no 'no-such-extension'");
    expect(states()).toEqual(['releases: update fails | open', 'update run fails | open']);
  });
});

test('what failed is no command to the runner, and an empty token is none', async () => {
  const { all, exitCode } = await report({
    workflow: 'update',
    outcomes: [update('gvisor', '::add-mask::a\n  ::error::b\n##[group]x\n\u001B]0;t\u0007')],
    env: { GITHUB_TOKEN: '' },
  });
  expect(exitCode).toBe(1);
  expect(all.split('\n').filter((line) => line.trim().startsWith('::') || line.includes('##['))).toEqual([]);
  expect(all).not.toContain('\u001B');
  expect(fake.issues).toEqual([]);
});

test('the table of all steps is on the page of the run', async () => {
  const page = join(dir, 'summary');
  await writeFile(page, '');
  await report({ workflow: 'update', outcomes: [update('gvisor', 'boom')], env: { GITHUB_STEP_SUMMARY: page } });
  expect(await readFile(page, 'utf8')).toContain('boom');
});

test('the workflow that plans gives ci report the results of all jobs that it needs, without its outputs of up to 1 MB', async () => {
  // execve(2): one string of the environment has at most 32 pages, 128 KiB.
  const text = await readFile(resolve(import.meta.dirname, '../../../.github/workflows/release.yml'), 'utf8');
  expect(text).not.toContain('toJSON(needs)');
  const needs = /^ {2}report:\n {4}needs: \[(.*)\]$/m.exec(text)?.[1]?.split(', ') ?? [];
  expect(needs).toContain('plan');
  for (const job of needs) expect(text).toContain(`"${job}":{"result":"\${{ needs.${job}.result }}"}`);
});
