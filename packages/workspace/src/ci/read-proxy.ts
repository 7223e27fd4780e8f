import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { headerOf, messageOf } from '@flatcar/core/engine';
import { forwardTo, type GitHub } from './github.ts';

/** Paths with the releases of upstream projects; no others are forwarded. */
const READABLE = /^\/repos\/[\w.-]+\/[\w.-]+(?:$|[?]|\/(?:releases|git\/matching-refs\/tags|attestations|license|tags)(?:$|[/?]))/;
const PASSED = new Set(['content-type', 'etag', 'last-modified', 'retry-after']);

async function forward(github: GitHub, own: string, incoming: IncomingMessage, response: ServerResponse): Promise<void> {
  // Normalized as the client below does: `%2e%2e` is the parent folder.
  const { pathname, search } = new URL(incoming.url ?? '', 'http://127.0.0.1');
  const path = `${pathname}${search}`;
  if (incoming.method !== 'GET' || !READABLE.test(path)) {
    response.writeHead(403, { 'content-type': 'application/json' }).end('{"message":"only upstream releases can be read here"}');
    return;
  }
  const answer = await forwardTo(github, path);
  const headers: Record<string, string | string[]> = {};
  for (const [name, value] of Object.entries(answer.headers))
    if (value !== undefined && (PASSED.has(name) || name.startsWith('x-ratelimit-'))) headers[name] = value;
  const link = headerOf(answer.headers, 'link');
  if (link !== undefined) headers['link'] = link.replaceAll(github.api, own); // the next page is read through this port, too
  response.writeHead(answer.status, headers);
  response.end(answer.bytes);
}

/**
 * Serves the releases of upstream projects in GitHub's API on a port of this machine, with the token of the job. Child processes, which parse
 * what upstream wrote, thus have the rate limit of a token (1,000 requests an hour instead of 60) without the token. `use` gets the address
 * for GITHUB_API_URL.
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
