import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';

/** What a test server does with one request; `count` is how often this path was asked for, beginning with 1. */
export type Answer = (request: IncomingMessage, response: ServerResponse, count: number) => void;

/** An HTTP server on a free port of this machine. */
export interface TestServer {
  readonly url: string;
  /** `METHOD path range` of every request, in order. */
  readonly asked: string[];
  close(): Promise<void>;
}

/** Sends a body as a well-behaved server does: with its length, and parts of it when asked by Range. */
export function send(request: IncomingMessage, response: ServerResponse, body: Buffer): void {
  const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
  if (from === 0) response.writeHead(200, { 'content-length': body.length });
  else if (from >= body.length) response.writeHead(416);
  else
    response.writeHead(206, { 'content-length': body.length - from, 'content-range': `bytes ${from}-${body.length - 1}/${body.length}` });
  response.end(from >= body.length ? undefined : body.subarray(from));
}

/** Serves answers by path; everything else is 404. */
export async function serve(answers: Readonly<Record<string, Answer | Buffer>>): Promise<TestServer> {
  const asked: string[] = [];
  const counts = new Map<string, number>();
  const sockets = new Set<Socket>();
  const server = createServer((request, response) => {
    const path = request.url ?? '';
    asked.push([request.method, path, request.headers.range].filter(Boolean).join(' '));
    const count = (counts.get(path) ?? 0) + 1;
    counts.set(path, count);
    const answer = answers[path];
    if (answer === undefined) response.writeHead(404).end('not here');
    else if (Buffer.isBuffer(answer)) send(request, response, answer);
    else answer(request, response, count);
  });
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    asked,
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => {
        server.close(resolve);
      });
    },
  };
}
