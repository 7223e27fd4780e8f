import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { archWords, cacheRoot, exec, hostArch } from '@flatcar/core';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { githubFrom, syncIssues, type GitHub } from '../src/ci/issues.ts';
import { readOutcomes, writeOutcome, type Outcome } from '../src/ci/outcome.ts';
import { propose } from '../src/ci/propose.ts';

const run = promisify(execFile);
const bin = resolve(import.meta.dirname, '../bin/flatcar-ext');
const STABLE = '4593.2.5';
const OLDER = '4593.2.4';
const BETA = '4757.1.0'; // takes disk images

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'ci-test-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

interface Said {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}
async function flatcarExt(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Said> {
  const plain = Object.fromEntries(Object.entries(process.env).filter(([key]) => !/^(?:GITHUB_|FLATCAR_EXT_|FORCE_COLOR)/.test(key)));
  const options = { env: { ...plain, FLATCAR_EXT_CACHE: cacheRoot(), ...env }, maxBuffer: 64 << 20 };
  return run(bin, args, options).then(
    ({ stdout, stderr }) => ({ code: 0, out: stdout, err: stderr }),
    ({ code, stdout, stderr }: { code: number; stdout: string; stderr: string }) => ({ code, out: stdout, err: stderr }),
  );
}

const fine = (extension: string): Outcome => ({ step: 'build', extension, what: 'arm64', ok: true });
const failing = (extension: string, error = 'no such host'): Outcome => ({ step: 'build', extension, what: 'x86-64', ok: false, error });

// GitHub cannot be had in a test: a server that keeps issues and pull requests as its REST API does.
interface Kept {
  number: number;
  title: string;
  body: string | null;
  state: string;
  labels: string[];
  comments: string[];
}
let github: GitHub;
let server: Server;
let issues: Kept[];
let pulls: { number: number; title: string; head: string; base: string; html_url: string }[];
let refuse = false;
beforeAll(async () => {
  server = createServer((request, response) => {
    let text = '';
    request.on('data', (chunk: Buffer) => (text += chunk.toString()));
    request.on('end', () => {
      const answer = (status: number, value: unknown): void => void response.writeHead(status).end(JSON.stringify(value));
      if (refuse || request.headers.authorization !== 'Bearer secret')
        return answer(403, { message: 'Resource not accessible by integration' });
      const url = new URL(request.url ?? '', 'http://github');
      const [, kind, number, comments] = /^\/repos\/owner\/repo\/(issues|pulls)(?:\/(\d+))?(\/comments)?$/.exec(url.pathname) ?? [];
      const body = text === '' ? {} : (JSON.parse(text) as Record<string, string>);
      if (kind === 'pulls') {
        if (request.method === 'GET')
          return answer(
            200,
            pulls.filter(({ head }) => `owner:${head}` === url.searchParams.get('head')),
          );
        if (number !== undefined) return answer(200, Object.assign(pulls.find((one) => one.number === Number(number)) ?? {}, body));
        pulls.push({
          number: pulls.length + 1,
          html_url: `https://github/owner/repo/pull/${pulls.length + 1}`,
          ...(body as { title: string; head: string; base: string }),
        });
        return answer(201, pulls.at(-1));
      }
      if (kind !== 'issues') return answer(404, {});
      const issue = issues.find((one) => one.number === Number(number));
      if (request.method === 'GET')
        return answer(
          200,
          issues.filter(({ state, labels }) => state === 'open' && labels.includes(url.searchParams.get('labels') ?? '')),
        );
      if (comments !== undefined) issue?.comments.push(body['body'] ?? '');
      else if (issue !== undefined) Object.assign(issue, body);
      else
        issues.push({
          number: issues.length + 1,
          state: 'open',
          comments: [],
          ...(body as unknown as { title: string; body: string; labels: string[] }),
        });
      return answer(201, {});
    });
  });
  await new Promise<void>((done) => {
    server.listen(0, '127.0.0.1', done);
  });
  github = {
    api: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    repository: 'owner/repo',
    token: 'secret',
    run: 'https://github/run/1',
  };
});
afterAll(() => void server.close());
beforeEach(() => {
  issues = [];
  pulls = [];
  refuse = false;
});

describe('issues', () => {
  test('one for each extension that fails, with what it said, and no second one for the next failure', async () => {
    expect(await syncIssues(github, [failing('kubernetes'), failing('kubernetes', 'wrong digest'), fine('crun')])).toEqual([
      { extension: 'kubernetes', action: 'opened' },
    ]);
    expect(await syncIssues({ ...github, run: 'https://github/run/2' }, [failing('kubernetes', 'still ```` so')])).toEqual([
      { extension: 'kubernetes', action: 'updated' },
    ]);
    expect(issues).toHaveLength(1);
    expect(issues[0]?.title).toBe('kubernetes fails');
    expect(issues[0]?.labels).toEqual(['extension-failure']);
    expect(issues[0]?.body).toContain('https://github/run/2');
    expect(issues[0]?.body).toContain('still  so'); // what fails cannot leave its block
  });

  test('closed when it works again; what this run did not touch is left', async () => {
    await syncIssues(github, [failing('kubernetes'), failing('crun')]);
    expect(await syncIssues(github, [fine('kubernetes')])).toEqual([{ extension: 'kubernetes', action: 'closed' }]);
    expect(issues.map(({ title, state }) => [title, state])).toEqual([
      ['kubernetes fails', 'closed'],
      ['crun fails', 'open'],
    ]);
    expect(issues[0]?.comments).toEqual(['It works again: https://github/run/1']);
  });

  test('an extension works only when all of its steps do', async () => {
    await syncIssues(github, [failing('kubernetes')]);
    await syncIssues(github, [fine('kubernetes'), failing('kubernetes')]);
    expect(issues[0]?.state).toBe('open');
  });

  test('a token that may not write issues is told, and not shown', async () => {
    refuse = true;
    const error = await syncIssues(github, [failing('kubernetes')]).then(
      () => new Error('it did not fail'),
      (thrown: unknown) => thrown as Error,
    );
    expect(error.message).toContain('GitHub answered 403: {"message":"Resource not accessible by integration"}');
    expect(JSON.stringify(error)).not.toContain('secret');
  });

  test('outside of a workflow there is no GitHub', () => {
    expect(githubFrom({})).toBeUndefined();
    expect(githubFrom({ GITHUB_API_URL: 'https://api', GITHUB_REPOSITORY: 'a/b', GITHUB_TOKEN: '' })).toBeUndefined();
  });
});

describe('pull requests', () => {
  let checkout: string;
  let origins: string;
  const about = { branch: 'update/kubernetes', title: 'kubernetes: newer versions', body: 'Pinned.', base: 'main' };
  beforeEach(async () => {
    origins = await mkdtemp(join(dir, 'origins-'));
    checkout = await mkdtemp(join(dir, 'checkout-'));
    await exec('git', ['init', '--quiet', '--bare', '--initial-branch=main', join(origins, 'owner/repo.git')]);
    await exec('git', ['init', '--quiet', '--initial-branch=main'], { cwd: checkout });
    await writeFile(join(checkout, 'pins.json'), '1');
    await exec('git', ['add', '--all'], { cwd: checkout });
    await exec('git', ['-c', 'user.name=t', '-c', 'user.email=t@t', 'commit', '--quiet', '--message', 'first'], { cwd: checkout });
  });

  test('for what changed; the open one gets the next commit; nothing for no change', async () => {
    const where = { ...github, server: origins };
    expect(await propose(where, checkout, about)).toBeUndefined();
    await writeFile(join(checkout, 'pins.json'), '2');
    expect(await propose(where, checkout, about)).toBe('https://github/owner/repo/pull/1');
    expect(pulls).toMatchObject([{ title: 'kubernetes: newer versions', head: 'update/kubernetes', base: 'main' }]);
    await exec('git', ['checkout', '--quiet', 'main'], { cwd: checkout });
    await writeFile(join(checkout, 'pins.json'), '3');
    expect(await propose(where, checkout, { ...about, title: 'kubernetes: newer still' })).toBe('https://github/owner/repo/pull/1');
    expect(pulls).toMatchObject([{ title: 'kubernetes: newer still' }]);
    expect(await exec('git', ['--git-dir', join(origins, 'owner/repo.git'), 'show', 'update/kubernetes:pins.json'])).toBe('3');
    // No file of the checkout keeps the token.
    expect(await readFile(join(checkout, '.git/config'), 'utf8')).not.toMatch(/secret|extraheader/);
  });

  test('a branch that is none is refused', async () => {
    await expect(propose({ ...github, server: origins }, checkout, { ...about, branch: '--upload-pack=x' })).rejects.toThrow(
      'no name for a branch',
    );
  });
});

describe('a release, by its steps', () => {
  test('is planned, built, bound, published and told; an extension that fails holds back no other', async () => {
    const at = (name: string): string => join(dir, name);
    const outputs = { GITHUB_OUTPUT: at('output'), GITHUB_STEP_SUMMARY: at('summary') };
    await writeFile(outputs.GITHUB_OUTPUT, '');
    await writeFile(outputs.GITHUB_STEP_SUMMARY, '');
    expect(await flatcarExt(['keys', 'init', at('keys')])).toMatchObject({ code: 0 });

    const planned = await flatcarExt(['ci', 'plan', ' extension-stager ', '--out', at('matrix.json')], outputs);
    expect(planned.code, planned.err).toBe(0);
    const { include } = JSON.parse(await readFile(at('matrix.json'), 'utf8')) as { include: { extension: string; architecture: string; from: string; versions: string; targets: string }[] }; // prettier-ignore
    const job = include.find(({ architecture }) => architecture === hostArch());
    expect(job).toMatchObject({ extension: 'extension-stager', from: 'build' });
    const output = await readFile(outputs.GITHUB_OUTPUT, 'utf8');
    expect(output).toMatch(/^build<<.*\n2$/m); // two architectures
    expect(output).toContain(JSON.stringify({ include }));

    // Of its targets one of each format will do; and another extension, whose build came to nothing.
    const jobs = [
      { ...job, targets: `portable,${STABLE},${BETA}` },
      { ...job, extension: 'kubernetes', versions: 'kubernetes@9.9.9' },
    ];
    await writeFile(at('matrix.json'), JSON.stringify({ include: jobs }));
    const steps = ['--outcomes', at('outcomes')];
    const built = await flatcarExt(['ci', 'build', '--job', JSON.stringify(jobs[0]), '--out', at('payloads'), ...steps], outputs);
    expect(built.code, built.err).toBe(0);
    const failed = await flatcarExt(['ci', 'build', '--job', JSON.stringify(jobs[1]), '--out', at('payloads'), ...steps], outputs);
    expect(failed).toMatchObject({ code: 1 });
    expect(failed.err).toContain('kubernetes 9.9.9 is not pinned');
    const bound = await flatcarExt(['ci', 'bind', '--matrix', at('matrix.json'), '--payloads', at('payloads'), '--out', at('images'), ...steps], { ...outputs, FLATCAR_EXT_ROOTHASH_KEY: await readFile(at('keys/roothash.key'), 'utf8'), FLATCAR_EXT_ROOTHASH_CERTIFICATE: await readFile(at('keys/roothash.crt'), 'utf8') }); // prettier-ignore
    expect(bound.code, bound.err).toBe(0);
    expect((await readdir(at('images/extension-stager'))).toSorted()).toEqual([STABLE, BETA, 'portable']);
    const manifest = (await readdir(at(`images/extension-stager/${BETA}`))).find((name) => name.endsWith('.manifest.json'));
    expect(await readFile(at(`images/extension-stager/${BETA}/${manifest}`), 'utf8')).toMatch(/"signed": true/);
    const published = await flatcarExt(['ci', 'publish', at('images'), '--payloads', at('payloads'), '--to', at('tree'), '--keys', at('keys'), '--base-url', 'https://extensions.example.org', ...steps], outputs); // prettier-ignore
    expect(published.code, published.err).toBe(0);
    expect(await readdir(at('tree')), published.err).toContain('index.json');

    const outcomes = await readOutcomes(at('outcomes'));
    expect(outcomes.map(({ step, extension, ok }) => `${step} ${extension} ${ok}`).toSorted()).toEqual([
      'bind extension-stager true',
      'bind kubernetes false',
      'build extension-stager true',
      'build kubernetes false',
      'publish extension-stager true',
    ]);
    const env = { ...outputs, GITHUB_API_URL: github.api, GITHUB_REPOSITORY: 'owner/repo', GITHUB_TOKEN: 'secret', GITHUB_SERVER_URL: 'https://github', GITHUB_RUN_ID: '7' }; // prettier-ignore
    const told = await flatcarExt(['ci', 'report', at('outcomes')], env);
    expect(told.code).toBe(1);
    expect(told.out).toContain('2 of 5 steps failed');
    expect(told.err).toContain('failed: kubernetes');
    expect(issues.map(({ title }) => title)).toEqual(['kubernetes fails']);
    expect(issues[0]?.body).toContain('https://github/owner/repo/actions/runs/7');
    const summary = await readFile(outputs.GITHUB_STEP_SUMMARY, 'utf8');
    expect(summary).toContain('<table>');
    expect(summary).toContain('kubernetes 9.9.9 is not pinned');

    // One more release: bound out of what is published, by nothing but the matrix, and published by keys of the environment.
    const [slot] = jobs;
    const more = { ...slot, from: 'published', versions: `extension-stager@${slot?.versions?.split('@')[1] ?? ''}`, targets: OLDER };
    await writeFile(at('more.json'), JSON.stringify({ include: [more] }));
    const from = ['--published', at('tree'), '--keyring', at('tree/keys/import-pubring.gpg')];
    const rebound = await flatcarExt(['ci', 'bind', '--matrix', at('more.json'), '--payloads', at('none'), '--out', at('more'), ...from, '--outcomes', at('later')]); // prettier-ignore
    expect(rebound.code, rebound.err).toBe(0);
    expect(await readdir(at('more/extension-stager'))).toEqual([OLDER]);
    const sums = (await readdir(at('keys/sums'))).find((name) => name.endsWith('.key.asc'));
    const update = (await readdir(at('keys/update'))).find((name) => name.endsWith('.key.pem'));
    const secrets = {
      FLATCAR_EXT_SUMS_KEY: await readFile(at(`keys/sums/${sums}`), 'utf8'),
      FLATCAR_EXT_UPDATE_KEY: await readFile(at(`keys/update/${update}`), 'utf8'),
    };
    const added = await flatcarExt(['ci', 'publish', at('more'), '--to', at('tree'), '--outcomes', at('later')], secrets);
    expect(added.code, added.err).toBe(0);
    expect((await readOutcomes(at('later'))).map(({ step, ok }) => `${step} ${ok}`).toSorted()).toEqual(['bind true', 'publish true']);
    expect(await readdir(at(`tree/${archWords(hostArch()).board}/${OLDER}`))).toContain('flatcar-extension-stager.gz');
    for (const { out, err } of [rebound, added]) expect(out + err).not.toMatch(/PRIVATE KEY/);
    // A broken one is refused, and not shown.
    const broken = { ...secrets, FLATCAR_EXT_UPDATE_KEY: secrets.FLATCAR_EXT_UPDATE_KEY.replace('MII', 'XII') };
    const refused = await flatcarExt(['publish', '--to', at('tree')], broken);
    expect(refused).toMatchObject({ code: 1, err: expect.stringContaining('environment variable FLATCAR_EXT_UPDATE_KEY') });
    expect(refused.err).not.toContain(broken.FLATCAR_EXT_UPDATE_KEY.split('\n')[3]);

    // The same images are planned no more.
    const again = await flatcarExt(['plan', 'extension-stager', '--published', at('tree'), '--keys', at('keys'), '--release', `portable,${STABLE},${OLDER},${BETA}`, '--arch', hostArch()]); // prettier-ignore
    expect(again.out).toContain('nothing is missing');
  }, 600_000);

  test.each([
    ['no JSON', 'kubernetes'],
    [
      'an extension that is a path',
      JSON.stringify({ extension: '../x', architecture: 'arm64', from: 'build', versions: 'x@1', targets: 'portable' }),
    ],
    [
      'an option for a version',
      JSON.stringify({ extension: 'x', architecture: 'arm64', from: 'build', versions: '--key=/x', targets: 'portable' }),
    ],
  ])('a job that is %s is refused', async (_, job) => {
    const { code, err } = await flatcarExt(['ci', 'build', '--job', job, '--out', join(dir, 'none')]);
    expect(code).toBe(1);
    expect(err).toContain('is not what flatcar-ext plan --matrix prints');
  });

  test('outcomes are one file each, whatever they are about', async () => {
    const where = join(dir, 'outcomes-of-its-own');
    await mkdir(where);
    for (const what of ['x86-64 a@1 b@2', 'x86-64 a@1/../..']) await writeOutcome(where, { step: 'bind', extension: 'a', what, ok: true });
    expect(await readdir(where)).toHaveLength(2);
    await writeFile(join(where, 'x.outcome.json'), '{}');
    await expect(readOutcomes(where)).rejects.toThrow('no outcome');
  });
});
