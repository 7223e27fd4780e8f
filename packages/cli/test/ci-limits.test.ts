import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { requireLasting, requireMain } from '@flatcar/workspace/ci/publish-guards';
import { pipelinePath } from '@flatcar/workspace/ci/pipeline-path';
import { parseJob, readMatrix, selectJobs, type Job } from '@flatcar/workspace/ci/job';
import { readOutcomes, writeOutcome, type Outcome } from '@flatcar/workspace/ci/outcome';
import { limitJobs, planOutputs } from '@flatcar/workspace/ci/job-limits';
import { writeSubjects } from '@flatcar/workspace/ci/attestation-subjects';
import { summaryHtml } from '@flatcar/workspace/ci/summary';
import { flatcarExt } from './helpers/ci.ts';

// What GitHub takes no more of: https://docs.github.com/actions/reference/limits
let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'ci-limits-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

const jobOf = (number: number, change: Partial<Job> = {}): Job => ({
  id: `tool${number}-x86-64`,
  extension: `tool${number}`,
  architecture: 'x86-64',
  from: 'build',
  versions: ['1.0'],
  targets: ['portable'],
  ...change,
});
const many = (count: number, change: Partial<Job> = {}): Job[] => Array.from({ length: count }, (_, index) => jobOf(index, change));

describe('a run takes on', () => {
  test('256 jobs that build, and all that only bind; the next run takes the rest', () => {
    const all = [...many(300), ...many(300, { from: 'published' })];
    const { jobs, left } = limitJobs(all);
    expect(jobs.filter(({ from }) => from === 'build')).toHaveLength(256);
    expect(jobs.filter(({ from }) => from === 'published')).toHaveLength(300);
    expect(left).toBe(44);
    const rest = limitJobs(all.filter((job) => !jobs.includes(job)));
    expect(rest).toMatchObject({ left: 0 });
    expect(rest.jobs).toHaveLength(44);
  });

  test('what fits into 1 MiB of outputs in UTF-16, and into a variable of a step', () => {
    const versions = Array.from({ length: 200 }, (_, index) => `${index}.0.0-with-a-suffix`);
    const { jobs } = limitJobs(many(256, { versions }));
    expect(jobs.length).toBeLessThan(256);
    const outputs = planOutputs(jobs);
    expect(2 * Object.values(outputs).reduce<number>((sum, value) => sum + String(value).length, 0)).toBeLessThan(1 << 20);
    expect(String(outputs.jobs).length).toBeLessThan(128 << 10);
  });

  test('a matrix for each extension', () => {
    const jobs = [jobOf(1), jobOf(1, { id: 'tool1-arm64', architecture: 'arm64' }), jobOf(2), jobOf(3, { from: 'published' })];
    const outputs = planOutputs(jobs);
    expect(outputs).toMatchObject({ build: 3, bind: 1, all: 4, extensions: '["tool1","tool2"]' });
    expect(JSON.parse(String(outputs.matrices))).toEqual({ tool1: { include: jobs.slice(0, 2) }, tool2: { include: [jobs[2]] } });
    expect(JSON.parse(String(outputs.jobs))).toEqual({ include: jobs.slice(0, 3) });
  });
});

test('an attestation names at most 1024 subjects: digests go into as many files as it takes', async () => {
  const at = join(dir, 'subjects');
  const subjects = Array.from({ length: 2050 }, (_, index) => ({
    path: `x/portable/${index}.raw`,
    sha256: index.toString(16).padStart(64, '0'),
  }));
  expect(await writeSubjects(at, subjects)).toBe(3);
  const files = (await readdir(at)).toSorted();
  expect(files).toEqual(['subjects-1.sha256', 'subjects-2.sha256', 'subjects-3.sha256']);
  const lines = await Promise.all(files.map(async (name) => (await readFile(join(at, name), 'utf8')).trimEnd().split('\n')));
  expect(lines.map(({ length }) => length)).toEqual([1024, 1024, 2]);
  expect(lines[0]?.[1]).toBe(`${'1'.padStart(64, '0')}  x/portable/1.raw`);
  // Fewer the next time: what is left of the last one is not attested again.
  expect(await writeSubjects(at, subjects.slice(0, 1))).toBe(1);
  expect(await readdir(at)).toEqual(['subjects-1.sha256']);
  expect(await writeSubjects(at, [])).toBe(0);
  expect(await readdir(at)).toEqual([]);
});

describe('the page of a run', () => {
  const failed = (number: number, error: string): Outcome => ({
    step: 'build',
    job: `tool${number}-x86-64`,
    extension: `tool${number}`,
    what: 'x86-64 <b>',
    ok: false,
    error,
  });
  test('stays below 1 MiB when everything fails, and says what it leaves out', () => {
    const html = summaryHtml(
      'All',
      Array.from({ length: 256 }, (_, index) => failed(index, '<é>'.repeat(2000))),
    );
    expect(Buffer.byteLength(html)).toBeLessThan(1 << 20);
    expect(html).toContain('tool255'); // the table has them all
    expect(html).toMatch(/<p>\d+ entries are left out/);
    const small = summaryHtml('All', [failed(1, '<script>')]);
    expect(small).toContain('<pre>&lt;script&gt;</pre>');
    expect(small).toContain('x86-64 &lt;b&gt;');
    expect(small).not.toContain('left out');
  });

  test('shows what failed first', () => {
    const html = summaryHtml('All', [{ step: 'bind', extension: 'fine', what: '', ok: true }, failed(1, 'x')]);
    expect(html.indexOf('tool1')).toBeLessThan(html.indexOf('fine'));
  });
});

describe('outcomes', () => {
  test('are a file for each step of each job: none replaces another', async () => {
    const at = join(dir, 'outcomes');
    const about = { extension: 'tool', what: 'x86-64 tool@1.0' };
    // The same extension, architecture and versions: one job binds what is published, the other builds.
    for (const job of ['tool-x86-64', 'tool-x86-64-2'])
      for (const step of ['bind', 'publish'] as const) await writeOutcome(at, { step, job, ok: job.endsWith('2'), ...about });
    await writeOutcome(at, { step: 'update', extension: 'tool', what: '', ok: true });
    const { outcomes, rejected } = await readOutcomes(at);
    expect(rejected).toEqual([]);
    expect(outcomes.map(({ step, job = '', ok }) => `${step} ${job} ${ok}`)).toEqual([
      'bind tool-x86-64-2 true',
      'bind tool-x86-64 false',
      'publish tool-x86-64-2 true',
      'publish tool-x86-64 false',
      'update  true',
    ]);
  });
});

describe('a job that is refused', () => {
  test.each([
    ['no JSON', 'kubernetes', 'job is not JSON'],
    [
      'an extension that is a path',
      JSON.stringify({ ...jobOf(1), extension: '../x' }),
      'invalid job: extension: not a valid extension name',
    ],
    ['an id of another extension', JSON.stringify({ ...jobOf(1), id: 'tool2-x86-64' }), 'invalid job: id does not begin'],
    ['an id that is a path', JSON.stringify({ ...jobOf(1), id: 'tool1-x86-64/..' }), 'invalid job: id: not a valid job id'],
    ['an option for a version', JSON.stringify({ ...jobOf(1), versions: ['--key=/x'] }), 'invalid job: versions.0: not a valid version'],
    ['no versions', JSON.stringify({ ...jobOf(1), versions: [] }), 'invalid job: versions'],
    ['an option for a target', JSON.stringify({ ...jobOf(1), targets: ['--out=/x'] }), 'invalid job: targets.0: not a valid target'],
    ['another architecture', JSON.stringify({ ...jobOf(1), architecture: 'riscv' }), 'invalid job: architecture: '],
  ])('%s', async (_, job, message) => {
    expect(() => parseJob(job)).toThrow('job');
    const { code, err } = await flatcarExt(['ci', 'build', '--job', job, '--out', join(dir, 'none')]);
    expect(err).toContain(message);
    expect(code).not.toBe(0);
    expect(err).toContain(message);
  });

  test('two jobs of one id', async () => {
    const file = join(dir, 'twice.json');
    await writeFile(file, JSON.stringify({ include: [jobOf(1), jobOf(1)] }));
    await expect(readMatrix(file)).rejects.toThrow('two jobs have the same id');
    await expect(readMatrix(join(dir, 'none.json'))).rejects.toThrow('the matrix cannot be read');
  });

  test('one that names what the matrix does not build', () => {
    const jobs = [jobOf(1), jobOf(1, { id: 'tool1-x86-64-2', from: 'published' }), jobOf(2)];
    expect(selectJobs(jobs, { extension: 'tool1' }).map(({ id }) => id)).toEqual(['tool1-x86-64']);
    expect(selectJobs(jobs, { bindOnly: true }).map(({ id }) => id)).toEqual(['tool1-x86-64-2']);
    expect(selectJobs(jobs, {})).toHaveLength(3);
    expect(() => selectJobs(jobs, { extension: 'tool' })).toThrow("no job that builds 'tool'");
    expect(() => selectJobs(jobs, { extension: 'tool1', bindOnly: true })).toThrow('exclude each other');
  });
});

describe('in GitHub Actions', () => {
  test('only main publishes, unless that is asked for', () => {
    const actions = { GITHUB_ACTIONS: 'true', GITHUB_REF: 'refs/heads/try' };
    expect(() => requireMain(false, actions)).toThrow("this workflow runs on 'refs/heads/try'");
    expect(() => requireMain(undefined, { GITHUB_ACTIONS: 'true' })).toThrow("this workflow runs on ''");
    requireMain(true, actions);
    requireMain(false, { GITHUB_ACTIONS: 'true', GITHUB_REF: 'refs/heads/main' });
    requireMain(false, {});
  });

  test('ci publish of another branch is refused before anything is read', async () => {
    const env = { GITHUB_ACTIONS: 'true', GITHUB_REF: 'refs/pull/7/merge' };
    const { code, err } = await flatcarExt(['ci', 'publish', '--matrix', join(dir, 'none'), '--tree', join(dir, 'tree')], env);
    expect(code).toBe(1);
    expect(err).toContain("this workflow runs on 'refs/pull/7/merge'");
  });

  test('a folder that is gone with the runner is no destination', () => {
    const env = { GITHUB_ACTIONS: 'true', GITHUB_WORKSPACE: '/home/runner/work/a/a', RUNNER_TEMP: '/home/runner/work/_temp' };
    for (const to of ['tree', '../tree', '/home/runner/work/a/a', '/home/runner/work/a/a/tree', '/home/runner/work/_temp/tree'])
      expect(() => requireLasting(to, env), to).toThrow('is removed with it');
    for (const to of ['s3://bucket/x', '/srv/extensions', '/home/runner/work/a/ab']) requireLasting(to, env);
    requireLasting('tree', {});
  });

  test('folders of the pipeline are outside of the checkout', () => {
    expect(pipelinePath('built', { GITHUB_ACTIONS: 'true', RUNNER_TEMP: '/tmp/runner' })).toBe('/tmp/runner/built');
    expect(pipelinePath('built', { GITHUB_ACTIONS: 'true', RUNNER_TEMP: '' })).toBe('built');
    expect(pipelinePath('built', { RUNNER_TEMP: '/tmp/runner' })).toBe('built');
  });
});

test.each(['', ' '])("ci publish --tree '%s' is refused", async (to) => {
  const { code, err } = await flatcarExt(['ci', 'publish', '--matrix', join(dir, 'none'), '--tree', to]);
  expect(code).not.toBe(0);
  expect(err).toContain('no place is named: the value is empty');
});

test('a folder for outcomes or digests that cannot be made is an error at once', async () => {
  const outcome: Outcome = { step: 'build', extension: 'hardening', what: '', ok: true };
  await expect(writeOutcome('/proc/x/outcomes', outcome)).rejects.toThrow('ENOENT');
  await expect(writeSubjects('/proc/x/subjects', [])).rejects.toThrow('ENOENT');
});
