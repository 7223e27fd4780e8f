import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { RateLimitError, UnreachableError } from '@flatcar/core/engine';
import * as v from 'valibot';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { GitHubError, githubApi, githubToken, openGitHub, type GitHubClient } from '../src/index.ts';

// GitHub's client against servers that answer as GitHub does, and as it should not.
const servers: Server[] = [];
let asked: string[];
beforeEach(() => {
  asked = [];
});
afterEach(() => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
});

/** Starts a server that notes method, path and token of each request. */
async function serve(answer: RequestListener): Promise<string> {
  const server = createServer((request, response) => {
    request.resume();
    asked.push(`${request.method} ${request.url} ${request.headers.authorization ?? 'no token'}`);
    answer(request, response);
  });
  servers.push(server);
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
const open = (api: string, more: Partial<Parameters<typeof openGitHub>[0]> = {}): GitHubClient =>
  openGitHub({ api, token: 'secret', pause: 5, ...more });
const failure = (promise: Promise<unknown>): Promise<GitHubError> =>
  promise.then(
    () => {
      throw new Error('it succeeded');
    },
    (error: unknown) => error as GitHubError,
  );
const json =
  (value: unknown): RequestListener =>
  (_, response) =>
    void response.end(JSON.stringify(value));

test('the address and the token are those of the environment', () => {
  expect(githubApi({})).toBe('https://api.github.com');
  expect(githubApi({ GITHUB_API_URL: 'https://github.example/api/v3/' })).toBe('https://github.example/api/v3');
  expect(githubToken({ GITHUB_TOKEN: '', GH_TOKEN: 'second' })).toBe('second');
  expect(githubToken({ GITHUB_TOKEN: 'first', GH_TOKEN: 'second' })).toBe('first');
});

test('the token goes to the API, and neither to where that redirects to nor to a mirror', async () => {
  const other = await serve(json({ here: 'elsewhere' }));
  const api = await serve((request, response) => {
    if (request.url === '/renamed') response.writeHead(301, { location: '/repositories/1' }).end();
    else if (request.url === '/repositories/1') response.end('{"here":"own"}');
    else response.writeHead(302, { location: other }).end();
  });
  expect(await open(api).get('/renamed', v.object({ here: v.string() }))).toEqual({ here: 'own' });
  expect(await open(api).get('/away', v.object({ here: v.string() }))).toEqual({ here: 'elsewhere' });
  const mirrored = openGitHub({ token: 'secret', mirror: other });
  await mirrored.get('/repos/a/b', v.unknown());
  expect(asked).toEqual([
    'GET /renamed Bearer secret',
    'GET /repositories/1 Bearer secret',
    'GET /away Bearer secret',
    'GET / no token',
    'GET /api.github.com/repos/a/b no token',
  ]);
});

test('assets go to hosts of GitHub only, whole and once', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'github-test-'));
  try {
    const file = join(dir, 'asset');
    await writeFile(file, 'x'.repeat(200_000));
    const asset = { name: 'a +b.raw', file, size: 200_000 };
    const other = await serve(json({}));
    const api = await serve((request, response) => {
      let size = 0;
      request
        .on('data', (chunk: Buffer) => (size += chunk.length))
        .once('end', () => response.writeHead(201).end(JSON.stringify({ size })));
    });
    expect(await open(api).upload(`${api}/upload/1{?name,label}`, asset, v.object({ size: v.number() }))).toEqual({ size: 200_000 });
    for (const url of [other, api.replace('127.0.0.1', 'localhost'), 'https://uploads.github.com', 'no URL'])
      await expect(open(api).upload(`${url}/upload/1{?name}`, asset, v.unknown())).rejects.toThrow(
        'GitHub names a host that is not its own',
      );
    expect(asked).toEqual(['POST /upload/1?name=a%20%2Bb.raw Bearer secret']);
    const failing = await serve((_, response) => void response.writeHead(502).end());
    await expect(open(failing).upload(`${failing}/upload/1`, asset, v.unknown())).rejects.toThrow('GitHub answered 502');
    expect(asked).toHaveLength(2);
  } finally {
    await rm(dir, { recursive: true });
  }
});

test('what may have arrived is not sent again; what is only read is, and a limit that ends soon is waited for', async () => {
  let count = 0;
  const api = await serve((request, response) => {
    count += 1;
    if (request.url === '/limited' && count === 1) response.writeHead(403, { 'retry-after': '0' }).end();
    else if (request.url === '/limited') response.end('{}');
    else response.writeHead(502).end('{"message":"Server Error"}');
  });
  await open(api).send('POST', '/limited', v.unknown(), {});
  expect(count).toBe(2);
  expect(await failure(open(api).send('POST', '/x', v.unknown(), {}))).toMatchObject({
    status: 502,
    message: 'GitHub answered 502: Server Error',
  });
  expect(count).toBe(3);
  expect(await failure(open(api).get('/x', v.unknown()))).toMatchObject({ status: 502 });
  expect(count).toBe(7);
});

test('a rate limit of an hour is an error that names the variable where there is no token', async () => {
  const reset = String(Math.floor(Date.now() / 1000) + 3600);
  const api = await serve(
    (_, response) => void response.writeHead(403, { 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': reset }).end(),
  );
  for (const [token, next] of [
    ['secret', 'try again then'],
    [undefined, 'set GITHUB_TOKEN, or try again then'],
  ] as const) {
    const error = await failure(openGitHub({ api, token }).get('/x', v.unknown()));
    expect(error).toBeInstanceOf(RateLimitError);
    expect(error.next).toBe(next);
  }
});

test('an error says in one line what GitHub says', async () => {
  for (const [body, message] of [
    ['{"message":"Bad\\ncredentials"}', 'GitHub answered 401: Bad credentials'],
    ['<html>\n  no JSON', 'GitHub answered 401: <html> no JSON'],
    ['', 'GitHub answered 401'],
    [JSON.stringify({ message: 'x'.repeat(5000) }), `GitHub answered 401: ${'x'.repeat(300)}`],
  ] as const) {
    const api = await serve((_, response) => void response.writeHead(401).end(body));
    const error = await failure(open(api).get('/x', v.unknown()));
    expect(error).toBeInstanceOf(GitHubError);
    expect(error.message).toBe(message);
  }
  const shape = await serve(json({ name: 1 }));
  await expect(open(shape).get('/x', v.object({ name: v.string() }))).rejects.toThrow('invalid response: name');
  const dead = await failure(open('http://127.0.0.1:9').get('/x', v.unknown()));
  expect(dead).toBeInstanceOf(UnreachableError);
});

test('the GraphQL API answers 200 for errors, too; an answer of any status is handed on as it is', async () => {
  const api = await serve((request, response) => {
    if (request.url === '/graphql') response.end('{"errors":[{"message":"not allowed"}]}');
    else response.writeHead(404, { 'x-ratelimit-remaining': '5' }).end('{"message":"Not Found"}');
  });
  await expect(open(api).mutate('mutation', {})).rejects.toThrow('GitHub answered 200: not allowed');
  const answer = await open(api).forward('/repos/a/b');
  expect(answer).toMatchObject({ status: 404, headers: { 'x-ratelimit-remaining': '5' } });
  expect(answer.bytes.toString()).toBe('{"message":"Not Found"}');
});
