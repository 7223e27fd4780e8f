import { spawn } from 'node:child_process';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { dirname } from 'node:path';
import { permissionsOf, type FakeState } from './state.ts';

/** The token of git's basic authorization, whatever the user's name. */
function tokenOf(header: string | undefined): string | undefined {
  const [, basic] = /^basic (.+)$/i.exec(header ?? '') ?? [];
  return basic === undefined
    ? undefined
    : Buffer.from(basic, 'base64')
        .toString()
        .replace(/^[^:]*:/, '');
}

/** Whether a push may be answered; everyone may read. */
function allowed(request: IncomingMessage, url: URL): boolean {
  const pushes = url.pathname.endsWith('/git-receive-pack') || url.searchParams.get('service') === 'git-receive-pack';
  if (!pushes) return true;
  return permissionsOf(tokenOf(request.headers.authorization) ?? '')?.permissions['contents'] === 'write';
}

/** Answers git's requests by `git http-backend` on the state's bare repository. */
export function serveGit(state: FakeState, request: IncomingMessage, response: ServerResponse, url: URL): void {
  if (!allowed(request, url)) {
    const known = request.headers.authorization !== undefined;
    response.writeHead(known ? 403 : 401, { 'www-authenticate': 'Basic realm="GitHub"' }).end();
    return;
  }
  const rest = url.pathname.replace(`/${state.owner}/${state.repository}`, '').replace(/^\.git/, '');
  const backend = spawn('git', ['-c', 'http.receivepack=true', '-c', 'safe.directory=*', 'http-backend'], {
    env: {
      PATH: process.env['PATH'],
      GIT_PROJECT_ROOT: dirname(state.gitDir),
      GIT_HTTP_EXPORT_ALL: '1',
      GIT_PROTOCOL: String(request.headers['git-protocol'] ?? ''),
      PATH_INFO: `/${state.gitDir.slice(dirname(state.gitDir).length + 1)}${rest}`,
      QUERY_STRING: url.search.slice(1),
      REQUEST_METHOD: request.method,
      CONTENT_TYPE: request.headers['content-type'] ?? '',
      HTTP_CONTENT_ENCODING: request.headers['content-encoding'] ?? '',
      REMOTE_USER: 'pusher',
      REMOTE_ADDR: '127.0.0.1',
    },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  request.pipe(backend.stdin);
  backend.stdin.on('error', () => undefined); // it may answer before it has read all
  let head = Buffer.alloc(0);
  let begun = false;
  backend.stdout.on('data', (chunk: Buffer) => {
    if (begun) return void response.write(chunk);
    head = Buffer.concat([head, chunk]);
    const end = head.indexOf('\r\n\r\n');
    if (end < 0) return undefined;
    begun = true;
    const headers = head
      .subarray(0, end)
      .toString()
      .split('\r\n')
      .map((line) => line.split(/: */, 2));
    const status = headers.find(([name]) => name?.toLowerCase() === 'status')?.[1];
    response.writeHead(
      Number.parseInt(status ?? '200', 10),
      Object.fromEntries(headers.filter(([name]) => name?.toLowerCase() !== 'status')),
    );
    response.write(head.subarray(end + 4));
    return undefined;
  });
  backend.once('close', () => response.end());
}
