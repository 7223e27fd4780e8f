import { execFile } from 'node:child_process';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { jsonObject, parseJson } from '@flatcar/core/engine';
import { serveGit } from './git.ts';
import { answer, answerGraphql } from './rest.ts';
import { permissionsOf, type FakeState } from './state.ts';

/** A GitHub with one repository: issues and pull requests by its REST API, and git over http. */
export interface FakeGitHub {
  readonly state: FakeState;
  /** As GITHUB_SERVER_URL. */
  readonly url: string;
  /** As GITHUB_API_URL. */
  readonly api: string;
  close(): Promise<void>;
}

async function textOf(request: IncomingMessage): Promise<string> {
  let text = '';
  for await (const chunk of request) text += String(chunk);
  return text;
}

async function serveRest(state: FakeState, request: IncomingMessage, response: ServerResponse, url: URL, base: string): Promise<void> {
  const reply = (status: number, json: unknown, headers: Record<string, string> = {}): void =>
    void response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(json));
  const method = request.method ?? 'GET';
  const body = await textOf(request);
  const path = url.pathname.replace(/^\/api/, '');
  state.requests.push(`${method} ${path}${url.search}`);
  const fault = state.fault?.(`${method} ${path}`);
  if (fault !== undefined) return reply(fault.status, { message: fault.message });
  const [, given] = /^(?:bearer|token) (.+)$/i.exec(request.headers.authorization ?? '') ?? [];
  const token = given === undefined ? undefined : permissionsOf(given);
  if (given !== undefined && token === undefined) return reply(401, { message: 'Bad credentials' });
  const prefix = `/repos/${state.owner}/${state.repository}`;
  const asked = {
    method,
    path: path.slice(prefix.length),
    query: url.searchParams,
    body: body === '' ? {} : parseJson(jsonObject, body, { what: 'request', where: path }),
    permissions: token?.permissions,
    isApp: token?.isApp ?? false,
    base,
  };
  const said = path === '/graphql' ? answerGraphql(state, asked) : path.startsWith(prefix) ? answer(state, asked) : undefined;
  if (said === undefined) {
    state.unknown.push(`${method} ${path}`);
    return reply(404, { message: 'Not Found' });
  }
  const following = new URL(url);
  following.searchParams.set('page', String(Number(url.searchParams.get('page') ?? 1) + 1));
  return reply(said.status, said.json, said.more === true ? { link: `<${base}${following.pathname}${following.search}>; rel="next"` } : {});
}

/** Starts a fake GitHub on this machine; its one repository is empty, below `dir`. */
export async function startGitHub(dir: string, owner = 'flatcar', repository = 'extensions'): Promise<FakeGitHub> {
  const gitDir = join(dir, `${repository}.git`);
  const git = (...args: string[]): Promise<unknown> => promisify(execFile)('git', args);
  await git('init', '--quiet', '--bare', '--initial-branch=main', gitDir);
  // GitHub serves any commit that a branch or a pull request has.
  await git('--git-dir', gitDir, 'config', 'uploadpack.allowAnySHA1InWant', 'true');
  const state: FakeState = {
    owner,
    repository,
    gitDir,
    settings: { actionsMayOpenPulls: false, allowAutoMerge: false },
    issues: [],
    pulls: [],
    labels: new Set(),
    requests: [],
    pushes: [],
    unknown: [],
    fault: undefined,
  };
  let base = '';
  const server = createServer((request, response) => {
    const url = new URL(request.url ?? '/', base);
    if (url.pathname.startsWith('/api/')) {
      serveRest(state, request, response, url, base).catch((error: unknown) => response.writeHead(500).end(String(error)));
      return;
    }
    if (url.pathname.endsWith('/git-receive-pack')) state.pushes.push(url.pathname);
    serveGit(state, request, response, url);
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    state,
    url: base,
    api: `${base}/api`,
    close: () =>
      new Promise<void>((done) => {
        server.close(() => done());
        server.closeAllConnections();
      }),
  };
}
