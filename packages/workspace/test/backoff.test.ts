import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { exec } from '@flatcar/core/engine';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { failureRecord, failuresIn, heldUntil, holdBack, inputsOf, nextFailures } from '@flatcar/workspace/ci/backoff';
import type { GitHub } from '@flatcar/workspace/ci/github';
import { syncIssues } from '@flatcar/workspace/ci/issues';
import type { Job } from '@flatcar/workspace/ci/job';
import type { Outcome } from '@flatcar/workspace/ci/outcome';
import { judgeRun } from '@flatcar/workspace/ci/judge-run';
import { FakeGitHub } from './helpers/fake-github.ts';

const HOUR = 3_600_000;
const START = Date.parse('2026-11-27T00:00:00Z');
let dir: string;
let github: GitHub;
let fake: FakeGitHub;
let notices: string[];

const job = (extension: string, more: Partial<Job> = {}): Job => ({
  id: `${extension}-x86-64`,
  extension,
  architecture: 'x86-64',
  from: 'build',
  versions: ['1.0'],
  targets: ['portable'],
  ...more,
});
const jobs = [job('docker'), job('yq')];
const git = (...args: string[]): Promise<string> => exec('git', ['-c', 'user.name=t', '-c', 'user.email=t@t', ...args], { cwd: dir });
async function commit(files: Readonly<Record<string, string>>): Promise<void> {
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(dir, name)), { recursive: true });
    await writeFile(join(dir, name), text);
  }
  await git('add', '--all');
  await git('commit', '--quiet', '--message', 'x');
}

/** A run of the workflow at an hour: what is begun; the builds of `failing` fail, and it is reported. */
async function runAt(hour: number, failing: readonly string[], planned: readonly Job[] = jobs): Promise<string[]> {
  const now = new Date(START + hour * HOUR);
  const { jobs: begun, held } = await holdBack(planned, {
    github,
    repository: dir,
    workflow: 'release',
    now,
    notice: (text) => void notices.push(text),
  });
  const outcomes = begun.flatMap((one): Outcome[] => {
    const about = { job: one.id, extension: one.extension, what: '' };
    if (failing.includes(one.id)) return [{ ...about, step: 'build', ok: false, error: 'x' }];
    return (['build', 'bind', 'publish'] as const).map((step) => ({ ...about, step, ok: true }));
  });
  const inputs = await inputsOf(dir, planned);
  const { verdicts } = judgeRun({ jobs: begun, held, outcomes, rejected: [], known: new Set(), inputs, now });
  await syncIssues(github, 'release', verdicts);
  return begun.map(({ id }) => id);
}

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'backoff-'));
  await git('init', '--quiet');
  await commit({
    'extensions/docker/pins.json': '1',
    'extensions/yq/pins.json': '1',
    'packages/core/src/x.ts': '1',
    'packages/components/x.ts': '1',
    'docs/x.md': '1',
  });
});
afterAll(() => rm(dir, { recursive: true, force: true }));
beforeEach(async () => {
  fake = await FakeGitHub.start();
  ({ github } = fake);
  notices = [];
});
afterEach(() => fake.stop());

describe('a build that always fails', () => {
  test('is begun after 1, 2, 4, 8, 16 and then every 24 hours, and holds back no other', async () => {
    const begun: number[] = [];
    for (let hour = 0; hour < 100; hour += 1) {
      const ids = await runAt(hour, ['docker-x86-64']);
      expect(ids).toContain('yq-x86-64');
      if (ids.includes('docker-x86-64')) begun.push(hour);
    }
    expect(begun).toEqual([0, 1, 3, 7, 15, 31, 55, 79]);
    expect(fake.issues).toMatchObject([{ title: 'docker: release fails', state: 'open' }]);
  });

  test('is begun at once when something that it depends on has changed, and only then', async () => {
    await runAt(0, ['docker-x86-64']);
    await commit({ 'docs/x.md': '2', 'extensions/yq/pins.json': '2' });
    expect(await runAt(0.1, [])).toEqual(['yq-x86-64']);
    for (const file of ['extensions/docker/pins.json', 'packages/core/src/x.ts', 'packages/components/x.ts']) {
      await commit({ [file]: `${Math.random()}` });
      expect(await runAt(0.2, ['docker-x86-64']), file).toContain('docker-x86-64');
      expect(await runAt(0.3, []), file).not.toContain('docker-x86-64');
    }
    expect(await runAt(0.4, ['docker-x86-64'], [job('docker', { versions: ['1.1'] })])).toHaveLength(1);
  });

  test('is begun at once after it went well in between', async () => {
    await runAt(0, ['docker-x86-64']);
    await runAt(1, []);
    expect(fake.issues[0]?.state).toBe('closed');
    await runAt(2, ['docker-x86-64']);
    expect(await runAt(3, ['docker-x86-64'])).toContain('docker-x86-64');
  });

  test('of one architecture does not hold back the other, and is not forgotten with it', async () => {
    const both = [job('docker'), job('docker', { id: 'docker-arm64', architecture: 'arm64' })];
    await runAt(0, ['docker-x86-64', 'docker-arm64'], both);
    await runAt(1, ['docker-x86-64'], both); // arm64 went well, x86-64 failed twice
    expect(await runAt(2, [], both)).toEqual(['docker-arm64']);
    expect(fake.issues[0]?.state).toBe('open');
    expect(failuresIn(fake.issues[0]?.body ?? '')).toMatchObject([{ count: 2 }]);
  });

  test('what only failed to be published is begun again', async () => {
    const now = new Date(START);
    const outcomes: Outcome[] = (['build', 'bind'] as const).map((step) => ({
      step,
      job: 'yq-x86-64',
      extension: 'yq',
      what: '',
      ok: true,
    }));
    const inputs = await inputsOf(dir, jobs);
    await syncIssues(
      github,
      'upstream',
      judgeRun({ jobs: [job('yq')], held: [], outcomes, rejected: [], known: new Set(), inputs, now }).verdicts,
    );
    expect(fake.issues).toHaveLength(1);
    expect(await runAt(0.1, [])).toContain('yq-x86-64');
  });

  test('what is bound out of published payloads is never held back', async () => {
    await runAt(0, ['docker-x86-64']);
    expect(await runAt(0.1, [], [job('docker', { from: 'published' })])).toHaveLength(1);
  });
});

describe('what the issues say', () => {
  const remembered = async (): Promise<string> => {
    const inputs = (await inputsOf(dir, jobs))?.get('docker-x86-64') ?? '';
    return failureRecord([{ inputs, count: 5, last: new Date(START).toISOString() }]);
  };
  const begin = async (): Promise<string[]> =>
    (
      await holdBack(jobs, {
        github,
        repository: dir,
        workflow: 'release',
        now: new Date(START),
        notice: (text) => void notices.push(text),
      })
    ).jobs.map(({ id }) => id);
  const issue = (body: string): (typeof fake.issues)[number] =>
    fake.issue({ title: 'docker: release fails', body, labels: ['extension-failure'] });

  test('is believed of the workflow itself', async () => {
    fake.issues.push(issue(await remembered()));
    expect(await begin()).toEqual(['yq-x86-64']);
  });

  test('is not believed of anybody else, of another label, of another workflow, or of a closed issue', async () => {
    const body = await remembered();
    fake.issues.push(
      { ...issue(body), user: { login: 'mallory' } },
      { ...issue(body), labels: [] },
      { ...issue(body), state: 'closed' },
      { ...issue(body), title: 'docker: update fails' },
    );
    expect(await begin()).toHaveLength(2);
  });

  test.each([
    ['nothing', ''],
    ['no JSON', '<!-- flatcar-ext-failure {"v":1,"jobs":[} -->'],
    ['another shape', '<!-- flatcar-ext-failure {"v":1,"jobs":[{"inputs":"x"}]} -->'],
    [
      'a count of none',
      '<!-- flatcar-ext-failure {"v":1,"jobs":[{"inputs":"000000000000000000000000","count":0,"last":"2026-11-27T00:00:00.000Z"}]} -->',
    ],
    ['a day that is none', '<!-- flatcar-ext-failure {"v":1,"jobs":[{"inputs":"000000000000000000000000","count":1,"last":"soon"}]} -->'],
    ['too many', failureRecord([]).replace('[]', `[${'{},'.repeat(99)}{}]`)],
    ['a megabyte', `<!-- flatcar-ext-failure {"v":1,"x":"${'x'.repeat(1 << 20)}"} -->`],
  ])('cannot break the plan: %s', async (_, body) => {
    fake.issues.push(issue(body));
    expect(await begin()).toHaveLength(2);
    await runAt(0, ['docker-x86-64']); // and is replaced by the next failure
    expect(failuresIn(fake.issues[0]?.body ?? '')).toMatchObject([{ count: 1 }]);
  });

  test('of the future holds nothing back for ever', async () => {
    const inputs = (await inputsOf(dir, jobs))?.get('docker-x86-64') ?? '';
    fake.issues.push(issue(failureRecord([{ inputs, count: 1, last: '2099-01-01T00:00:00.000Z' }])));
    expect(await begin()).toHaveLength(2);
  });

  test('is not read from what a failure printed', async () => {
    const forged = await remembered();
    const now = new Date(START);
    const outcomes: Outcome[] = [{ step: 'bind', job: 'docker-x86-64', extension: 'docker', what: '', ok: false, error: `x\n${forged}\n` }];
    await syncIssues(
      github,
      'upstream',
      judgeRun({ jobs: [job('docker')], held: [], outcomes, rejected: [], known: new Set(), inputs: await inputsOf(dir, jobs), now })
        .verdicts,
    );
    expect(fake.issues[0]?.body).toContain('flatcar-ext-failure');
    expect(await begin()).toHaveLength(2);
  });

  test('that cannot be read holds nothing back, with a notice', async () => {
    fake.refuse(() => [503, 'down']);
    expect(await begin()).toHaveLength(2);
    expect(notices).toEqual(['no build is held back, as the issues cannot be read: GitHub answered 503: down']);
  });
});

test('the pauses', () => {
  const hours = [1, 2, 3, 4, 5, 6, 7, 50].map(
    (count) => (heldUntil({ count, last: new Date(START).toISOString() }).getTime() - START) / HOUR,
  );
  expect(hours).toEqual([1, 2, 4, 8, 16, 24, 24, 24]);
});

test('without commits, and for more failures than are kept', async () => {
  const empty = await mkdtemp(join(tmpdir(), 'empty-'));
  expect(await inputsOf(empty, jobs)).toBeUndefined();
  await rm(empty, { recursive: true });
  const many = nextFailures(
    [],
    Array.from({ length: 100 }, (_, index) => String(index).padStart(24, '0')),
    [],
    new Date(START),
  );
  expect(failuresIn(failureRecord(many))).toHaveLength(40);
});
