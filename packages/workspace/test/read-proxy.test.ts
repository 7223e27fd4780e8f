import { afterEach, beforeEach, expect, test } from 'vitest';
import { createServer, request, type IncomingHttpHeaders, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { GitHub } from '@flatcar/workspace/ci/github';
import { withReadProxy } from '@flatcar/workspace/ci/read-proxy';

let server: Server;
let github: GitHub;
let asked: { method: string | undefined; url: string | undefined; headers: IncomingHttpHeaders }[];
beforeEach(async () => {
  asked = [];
  server = createServer(({ method, url, headers }, response) => {
    asked.push({ method, url, headers });
    response.writeHead(200, {
      'content-type': 'application/json',
      'x-ratelimit-remaining': '999',
      'set-cookie': 'a=b',
      link: `<http://${headers.host}${url}&page=2>; rel="next"`,
    });
    response.end('[{"tag_name":"v1"}]');
  });
  await new Promise<void>((done) => {
    server.listen(0, '127.0.0.1', done);
  });
  const api = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  github = {
    api,
    graphql: `${api}/graphql`,
    server: 'https://github.test',
    repository: 'owner/repo',
    token: 'secret',
    bot: 'bot',
    run: '',
  };
});
afterEach(() => {
  server.closeAllConnections();
  server.close();
});

test('releases of upstream are read with the token, which the reader does not see; the next page comes the same way', async () => {
  await withReadProxy(github, async (api) => {
    const answer = await fetch(`${api}/repos/a/b.c/releases?per_page=100`, { headers: { authorization: 'Bearer mine', cookie: 'x=y' } });
    expect(await answer.json()).toEqual([{ tag_name: 'v1' }]);
    expect(answer.headers.get('x-ratelimit-remaining')).toBe('999');
    expect(answer.headers.get('set-cookie')).toBeNull();
    expect(answer.headers.get('link')).toBe(`<${api}/repos/a/b.c/releases?per_page=100&page=2>; rel="next"`);
  });
  expect(asked).toMatchObject([{ method: 'GET', url: '/repos/a/b.c/releases?per_page=100', headers: { authorization: 'Bearer secret' } }]);
  expect(asked[0]?.headers.cookie).toBeUndefined();
});

test.each([
  ['GET', '/repos/a/b'],
  ['GET', '/repos/a/b/releases/tags/v1.0%2Bx'],
  ['GET', '/repos/a/b/releases/latest'],
  ['GET', '/repos/a/b/git/matching-refs/tags/v'],
  ['GET', '/repos/a/b/attestations/sha256:00'],
  ['GET', '/repos/a/b/license'],
])('%s %s goes through', async (method, path) => {
  expect(await withReadProxy(github, async (api) => (await fetch(`${api}${path}`, { method })).status)).toBe(200);
});

test.each([
  ['POST', '/repos/a/b/releases'],
  ['DELETE', '/repos/a/b'],
  ['GET', '/repos/a/b/actions/secrets'],
  ['GET', '/repos/a/b/releases-x'],
  ['GET', '/repos/a/b/issues'],
  ['GET', '/repos/a/b/contents/x'],
  ['GET', '/user'],
  ['GET', '/repos/a/b/releases/%2e%2e/%2e%2e/%2e%2e/user'],
  ['POST', '/graphql'],
])('%s %s does not', async (method, path) => {
  expect(await withReadProxy(github, async (api) => (await fetch(`${api}${path}`, { method })).status)).toBe(403);
  expect(asked).toEqual([]);
});

// fetch() would resolve these itself.
test.each([
  '/repos/a/b/releases/%2e%2e/%2e%2e/%2e%2e/%2e%2e/user',
  '/repos/a/b/releases/../issues',
  '/repos/a/b/license/..%2f..',
  '//evil.example/repos/a/b',
  'http://evil.example/user',
])('a step up in a path is resolved before it is looked at: %s', async (path) => {
  await withReadProxy(github, async (api) => {
    const status = await new Promise<number | undefined>((done, failed) => {
      request({ host: '127.0.0.1', port: new URL(api).port, path }, (answer) => {
        answer.resume();
        done(answer.statusCode);
      })
        .on('error', failed)
        .end();
    });
    expect(
      asked.every(({ url }) => /^\/repos\/[^/]+\/[^/]+(?:$|\/license\/)/.test(url ?? '')),
      JSON.stringify(asked),
    ).toBe(true);
    expect([200, 403]).toContain(status);
  });
});

test('a GitHub that does not answer is told, and the port is gone afterwards', async () => {
  const gone = { ...github, api: 'http://127.0.0.1:9' };
  const at = await withReadProxy(gone, async (api) => {
    expect((await fetch(`${api}/repos/a/b`)).status).toBe(502);
    return api;
  });
  await expect(fetch(`${at}/repos/a/b`)).rejects.toThrow();
});
