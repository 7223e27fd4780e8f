import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { exec } from '@flatcar/core';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { githubFrom, syncIssues, type GitHub } from '../src/ci/issues.ts';
import type { Outcome } from '../src/ci/outcome.ts';
import { propose } from '../src/ci/propose.ts';

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'ci-test-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

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
