import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { dispatcher, messageOf } from '@flatcar/core';
import { request } from 'undici';
import type { GitHub } from './github.ts';

/** What upstream's releases are asked for: nothing else goes through. */
const READABLE = /^\/repos\/[\w.-]+\/[\w.-]+(?:$|[?]|\/(?:releases|git\/matching-refs\/tags|attestations|license|tags)(?:$|[/?]))/;
const PASSED = new Set(['content-type', 'etag', 'last-modified', 'retry-after']);

async function forward({ api, token }: GitHub, own: string, incoming: IncomingMessage, response: ServerResponse): Promise<void> {
  // As the client below writes it: `%2e%2e` is a step up.
  const { pathname, search } = new URL(incoming.url ?? '', 'http://127.0.0.1');
  const path = `${pathname}${search}`;
  if (incoming.method !== 'GET' || !READABLE.test(path)) {
    response.writeHead(403, { 'content-type': 'application/json' }).end('{"message":"only upstream releases can be read here"}');
    return;
  }
  const answer = await request(`${api}${path}`, {
    dispatcher: dispatcher(),
    headersTimeout: 30_000,
    bodyTimeout: 60_000,
    headers: {
      authorization: `Bearer ${token}`,
      accept: 'application/vnd.github+json',
      'x-github-api-version': '2022-11-28',
      'user-agent': 'flatcar-ext',
    },
  });
  const headers: Record<string, string | string[]> = {};
  for (const [name, value] of Object.entries(answer.headers))
    if (value !== undefined && (PASSED.has(name) || name.startsWith('x-ratelimit-'))) headers[name] = value;
  const { link } = answer.headers;
  if (typeof link === 'string') headers['link'] = link.replaceAll(api, own); // the next page comes through here, too
  response.writeHead(answer.statusCode, headers);
  response.end(Buffer.from(await answer.body.arrayBuffer()));
}

/**
 * Serves what can be read of upstream projects in GitHub's API on a port of this machine, with the token of the job. Child processes,
 * which handle what upstream wrote, so have the rate limit of a token (1,000 requests an hour instead of 60) without having the token.
 * `use` gets the address for GITHUB_API_URL.
 */
export async function withReadProxy<T>(github: GitHub, use: (api: string) => Promise<T>): Promise<T> {
  let own = '';
  const server = createServer((incoming, response) => {
    forward(github, own, incoming, response).catch((error: unknown) => {
      if (!response.headersSent) response.writeHead(502, { 'content-type': 'application/json' });
      response.end(JSON.stringify({ message: messageOf(error) }));
    });
  });
  await new Promise<void>((done, failed) => {
    server.once('error', failed).listen(0, '127.0.0.1', done);
  });
  own = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  try {
    return await use(own);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}
