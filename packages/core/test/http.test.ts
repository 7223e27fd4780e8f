import { execFile } from 'node:child_process';
import { createServer, type IncomingHttpHeaders, type RequestListener } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { connect, createServer as createTcpServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { Readable, type Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import * as v from 'valibot';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { getText, httpGet, httpRequest, httpSend } from '../src/http/client.ts';
import type { HttpOptions } from '../src/http/options.ts';
import { HttpError, HttpStatusError, isNetworkFailure, RateLimitError, UnreachableError } from '../src/http/errors.ts';
import type { HttpErrorCode } from '../src/util/error-codes.ts';
import { getJson, getPages } from '../src/http/json.ts';
import { interruptible } from '../src/util/interrupt.ts';
import { makeAuthority, type Authority } from './helpers/tls.ts';

// The HTTP client against servers that do as they like, over http and, where it counts, over https with a certificate of its own.
let authority: Authority;
const servers: Server[] = [];
const sockets = new Set<Socket>();

beforeAll(async () => {
  authority = await makeAuthority();
  authority.trust();
});
afterAll(() => authority.close());
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
  for (const socket of sockets) socket.destroy();
  sockets.clear();
});

async function listen(server: Server): Promise<string> {
  servers.push(server);
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined).once('close', () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}
const serve = async (handler: RequestListener): Promise<string> => `http://${await listen(createServer(handler))}`;
const serveTls = async (handler: RequestListener): Promise<string> => `https://${await listen(createTlsServer(authority, handler))}`;
/** A server that gets the socket once a request has come, and says what it likes. */
const serveRaw = async (talk: (socket: Socket) => void): Promise<string> =>
  `http://${await listen(
    createTcpServer((socket) => {
      socket.once('data', () => talk(socket));
    }),
  )}`;
/** Says a text again and again until the other side has gone; gives up after 20 s, so that a client without limits fails and does not hang. */
function flood(socket: Writable, text: string | Buffer, every = 0): void {
  const until = Date.now() + 20_000;
  const more = (): void => {
    if (socket.destroyed || Date.now() > until) return void socket.destroy();
    const isRoom = socket.write(text);
    if (every > 0) setTimeout(more, every);
    else if (isRoom) setImmediate(more);
    else socket.once('drain', more);
  };
  more();
}

const quick = { max: 1 << 20, pause: 5 } as const;
const failure = (promise: Promise<unknown>): Promise<HttpError> =>
  promise.then(
    () => {
      throw new Error('it succeeded');
    },
    (error: unknown) => error as HttpError,
  );
/** Milliseconds that something takes. */
async function timed<T>(fn: () => Promise<T>): Promise<{ result: T; ms: number }> {
  const began = Date.now();
  return { result: await fn(), ms: Date.now() - began };
}

describe('deadlines', () => {
  test('interim answers (103) do not refresh the time for the headers', async () => {
    const url = await serveRaw((socket) => flood(socket, 'HTTP/1.1 103 Early Hints\r\nlink: </x>; rel=preload\r\n\r\n', 150));
    const { result, ms } = await timed(() => failure(httpGet(url, { ...quick, attempts: 1, limits: { headers: 600 } })));
    expect(result).toMatchObject({ code: 'timeout', message: expect.stringContaining('does not respond within 0.6 s') });
    expect(ms).toBeLessThan(5000);
  });
  test('headers that come a byte at a time are late', async () => {
    const url = await serveRaw((socket) => {
      socket.write('HTTP/1.1 200 OK\r\n');
      flood(socket, 'x', 50);
    });
    expect(await failure(httpGet(url, { ...quick, attempts: 1, limits: { headers: 600 } }))).toMatchObject({ code: 'timeout' });
  });
  test('a body that drips has stalled; one whose reader takes its time has not', async () => {
    const limits = { slowest: { bytesPerSecond: 10_000, window: 300 } };
    const drip = await serve((_, response) => {
      response.writeHead(200);
      flood(response, 'x', 20);
    });
    const { result, ms } = await timed(() => failure(httpGet(drip, { ...quick, attempts: 1, limits })));
    expect(result).toMatchObject({ code: 'timeout', message: expect.stringContaining('sends fewer than 10000 bytes a second') });
    expect(ms).toBeLessThan(5000);
    const large = await serve((_, response) => void response.end(Buffer.alloc(1 << 20)));
    const size = await httpSend(large, { ...quick, limits }, async ({ body }) => {
      let bytes = 0;
      for await (const chunk of body) {
        if (bytes === 0) await sleep(1000);
        bytes += chunk.length;
      }
      return bytes;
    });
    expect(size).toBe(1 << 20);
  });
  test('a server that does not accept the body of a request', async () => {
    const url = await serveRaw((socket) => void socket.pause());
    const endless = (): Readable =>
      Readable.from(
        (async function* zeros() {
          for (;;) yield Buffer.alloc(1 << 20);
        })(),
      );
    const options: HttpOptions = { method: 'PUT', body: endless, attempts: 1, limits: { slowest: { bytesPerSecond: 1, window: 500 } } };
    expect(await failure(httpRequest(url, { ...options, max: 1 }))).toMatchObject({
      code: 'timeout',
      message: expect.stringContaining('does not accept the request body'),
    });
  });
  test('pauses that a server asks for have a sum', async () => {
    let count = 0;
    const url = await serve((_, response) => {
      count += 1;
      response.writeHead(429, { 'retry-after': '1' }).end();
    });
    const { result, ms } = await timed(() => failure(httpGet(url, { ...quick, attempts: 10, limits: { waits: 1500 } })));
    expect(result).toBeInstanceOf(RateLimitError);
    expect(count).toBe(2);
    expect(ms).toBeLessThan(4000);
    const never = await serve((_, response) => void response.writeHead(503, { 'retry-after': '9'.repeat(30) }).end());
    expect(await failure(httpGet(never, quick))).toMatchObject({ code: 'rate-limited' });
    const hour = await serve((_, response) => void response.writeHead(503, { 'retry-after': '3600' }).end());
    const late = await failure(httpGet(hour, { ...quick, whenLimited: 'set A_TOKEN' }));
    expect(late).toMatchObject({ code: 'rate-limited', next: 'set A_TOKEN' });
    expect((late as RateLimitError).until.getTime()).toBeGreaterThan(Date.now() + 3_500_000);
  });
  test('all attempts together have a time', async () => {
    let count = 0;
    const url = await serve(() => {
      count += 1; // no answer
    });
    const { result, ms } = await timed(() => failure(httpGet(url, { ...quick, attempts: 100, limits: { headers: 100, total: 1000 } })));
    expect(result).toMatchObject({ code: 'timeout', message: expect.stringContaining('all attempts together') });
    expect(count).toBeGreaterThan(1);
    expect(ms).toBeLessThan(5000);
  });
  test('a connection that does not come about in time is no connection', async () => {
    // TCP is there, and nobody speaks TLS.
    const host = await listen(createTcpServer(() => undefined));
    const error = await failure(httpGet(`https://${host}`, { ...quick, attempts: 1 }));
    expect(error).toBeInstanceOf(UnreachableError);
  });
});

test('a process ends when its uploads are answered, and waits for no deadline of theirs', async () => {
  const url = await serve((request, response) => {
    request.resume().on('end', () => void response.end());
  });
  const client = join(import.meta.dirname, '../src/http/client.ts');
  const script = `
    import { Readable } from 'node:stream';
    import { httpRequest } from ${JSON.stringify(client)};
    const bytes = Buffer.alloc(2 << 20);
    // As a file's: its end is known only by one more read, and the response comes before.
    async function* body() {
      yield bytes;
      await new Promise((resolve) => setTimeout(resolve, 300));
    }
    const put = { method: 'PUT', max: 1, headers: { 'content-length': String(bytes.length) }, body: () => Readable.from(body()) };
    await httpRequest(${JSON.stringify(url)}, put);`;
  const ended = promisify(execFile)(process.execPath, ['--input-type=module', '--eval', script], { timeout: 15_000 });
  await expect(ended).resolves.toEqual({ stdout: '', stderr: '' });
});

describe('limits', () => {
  const refused = async (url: string, code: HttpErrorCode, options: Partial<HttpOptions> & { max?: number } = {}): Promise<HttpError> => {
    const error = await failure(httpGet(url, { ...quick, ...options }));
    expect(error).toMatchObject({ code });
    expect(error).not.toBeInstanceOf(UnreachableError);
    return error;
  };
  test('headers of more than 16 KiB, in one line or many, or without an end', async () => {
    let count = 0;
    await refused(
      await serve((_, response) => {
        count += 1;
        response.writeHead(200, { 'x-long': 'x'.repeat(20_000) }).end();
      }),
      'protocol',
    );
    expect(count).toBe(1); // another attempt would bring the same
    const many = Object.fromEntries(Array.from({ length: 400 }, (_, index) => [`x-${index}`, 'x'.repeat(50)]));
    await refused(await serve((_, response) => void response.writeHead(200, many).end()), 'protocol');
    const endless = await serveRaw((socket) => {
      socket.write('HTTP/1.1 200 OK\r\nx-endless: ');
      flood(socket, 'x'.repeat(1000));
    });
    await refused(endless, 'protocol');
  });
  test('interim answers have a number', async () => {
    const url = await serveRaw((socket) => flood(socket, 'HTTP/1.1 103 Early Hints\r\nlink: </x>; rel=preload\r\n\r\n'));
    expect((await refused(url, 'protocol')).message).toContain('more than 10 interim responses');
    const few = await serveRaw(
      (socket) =>
        void socket.end(`${'HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n'.repeat(3)}HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok`),
    );
    expect(await getText(few, quick)).toBe('ok');
  });
  test('a body, by its length before it is read, and by what comes', async () => {
    let sent = 0;
    const url = await serve((request, response) => {
      if (request.url === '/length') response.writeHead(200, { 'content-length': 10 * 2 ** 30 });
      response.on('error', () => undefined);
      const more = (): void => {
        while (!response.destroyed && sent < 500 << 20) {
          sent += 1 << 16;
          if (!response.write(Buffer.alloc(1 << 16))) return void response.once('drain', more);
        }
      };
      more();
    });
    const error = await refused(`${url}/length`, 'too-large', { max: 1000 });
    expect(error.message).toContain('more than 1000 bytes');
    await refused(`${url}/chunks`, 'too-large', { max: 1000 });
    expect(sent).toBeLessThan(100 << 20);
    expect(await getText(await serve((_, response) => void response.end('x'.repeat(1000))), { max: 1000 })).toHaveLength(1000);
  });
  test('the body of an error is read for its first lines only', async () => {
    let isClosed = false;
    const url = await serve((_, response) => {
      response.writeHead(404);
      response.once('close', () => {
        isClosed = true;
      });
      flood(response, 'x'.repeat(1024));
    });
    const error = await failure(httpGet(url, { ...quick, limits: { slowest: { bytesPerSecond: 1, window: 5000 } } }));
    expect(error).toBeInstanceOf(HttpStatusError);
    await expect.poll(() => isClosed).toBe(true);
  });
  test('a compressed answer was not asked for, whether it is one or lies', async () => {
    for (const body of [gzipSync('text'), 'text']) {
      const url = await serve((request, response) => {
        expect(request.headers['accept-encoding']).toBe('identity');
        response.writeHead(200, { 'content-encoding': 'gzip' }).end(body);
      });
      await refused(url, 'encoding');
    }
    expect(
      await getText(await serve((_, response) => void response.writeHead(200, { 'content-encoding': 'identity' }).end('text')), quick),
    ).toBe('text');
  });
  test('what is no HTTP is no answer', async () => {
    const ssh = await refused(await serveRaw((socket) => void socket.end('SSH-2.0-OpenSSH_9.2\r\n')), 'protocol');
    expect(ssh.message).toMatch(/^the response of 127\.0\.0\.1:\d+ is not valid HTTP/);
    await refused(await serveRaw((socket) => void socket.end('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n')), 'protocol');
    await refused(
      await serveRaw((socket) => void socket.end('HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 5\r\n\r\nabcde')),
      'broken',
    );
  });
});

describe('redirects', () => {
  test.each([301, 302, 303, 307, 308])('%i is followed from http to https', async (status) => {
    const secure = await serveTls((_, response) => void response.end('secure'));
    const url = await serve((_, response) => void response.writeHead(status, { location: secure }).end());
    expect(await httpGet(url, quick)).toMatchObject({ bytes: Buffer.from('secure'), url: `${secure}/` });
  });
  test('from https to http is refused, directly and on the way', async () => {
    let count = 0;
    const plain = await serve((_, response) => {
      count += 1;
      response.end('forged');
    });
    const secure = await serveTls((_, response) => void response.writeHead(302, { location: plain }).end());
    const first = await serve((_, response) => void response.writeHead(302, { location: secure }).end());
    for (const url of [secure, first]) {
      const error = await failure(httpGet(url, quick));
      expect(error).toMatchObject({
        code: 'redirect',
        message: `the server redirects from https to ${plain}, which anybody in between could forge`,
      });
      expect(error).not.toBeInstanceOf(UnreachableError);
    }
    expect(count).toBe(0);
  });
  test.each(['file:///etc/passwd', 'data:text/plain,x', 'unix:/run/x.sock', 'ftp://127.0.0.1/x', 'javascript:1', 'http://[', 'http://:80'])(
    'to %s is refused',
    async (location) => {
      const url = await serve((_, response) => void response.writeHead(302, { location }).end());
      const error = await failure(httpGet(url, quick));
      expect(error).toMatchObject({ code: 'redirect' });
      expect(error).not.toBeInstanceOf(UnreachableError);
    },
  );
  test('a loop ends, and its bodies are not read', async () => {
    let count = 0;
    let open = 0;
    const url = await serve((_, response) => {
      count += 1;
      open += 1;
      response.once('close', () => {
        open -= 1;
      });
      response.writeHead(302, { location: '/again' });
      flood(response, 'x'.repeat(1024));
    });
    const error = await failure(httpGet(url, quick));
    expect(error).toMatchObject({ code: 'redirect', message: expect.stringContaining('redirects more than 10 times') });
    expect(error).not.toBeInstanceOf(UnreachableError);
    expect(count).toBe(11);
    await expect.poll(() => open).toBe(0);
  });
  test('nothing but GET and HEAD follows one, and a caller may follow none', async () => {
    let count = 0;
    const url = await serve((request, response) => {
      request.resume();
      count += 1;
      response.writeHead(302, { location: '/there' }).end();
    });
    for (const options of [
      { method: 'POST', body: () => 'x' },
      { method: 'PUT', body: () => 'x' },
      { method: 'DELETE' },
      { redirects: 0 },
    ] as const)
      expect((await httpRequest(url, { ...quick, ...options })).status).toBe(302);
    expect(count).toBe(4);
    expect((await failure(httpGet(url, { ...quick, redirects: 0 }))).message).toBe('the server answered 302');
  });
});

describe('credentials', () => {
  const headers = { authorization: 'Bearer secret', cookie: 'a=b', 'x-api-key': 'secret', accept: 'application/json' };
  let got: IncomingHttpHeaders[] = [];
  const note: RequestListener = ({ headers: received }, response) => {
    got.push(received);
    response.end('ok');
  };
  afterEach(() => {
    got = [];
  });
  test('go to their own origin only: not to another host, port or scheme that it redirects to', async () => {
    const other = await serve(note);
    const secure = await serveTls(note);
    for (const target of [other, other.replace('127.0.0.1', 'localhost'), secure]) {
      const url = await serve((request, response) => {
        if (request.url === '/start') return void response.writeHead(302, { location: '/own' }).end();
        expect(request.headers).toMatchObject(headers);
        response.writeHead(302, { location: target }).end();
      });
      await httpGet(`${url}/start`, { ...quick, headers });
    }
    expect(got).toHaveLength(3);
    for (const one of got) {
      expect(one).toMatchObject({ accept: 'application/json' });
      for (const name of ['authorization', 'cookie', 'x-api-key']) expect(one[name], name).toBeUndefined();
    }
  });
  test('do not go to a mirror', async () => {
    const mirror = await serve(note);
    await httpGet('https://api.example.org/list?page=1', { ...quick, headers, mirror });
    expect(got[0]).toMatchObject({ accept: 'application/json' });
    for (const name of ['authorization', 'cookie', 'x-api-key']) expect(got[0]?.[name], name).toBeUndefined();
  });
  test('of a URL are sent by Basic to its origin only, and are in no error', async () => {
    const other = await serve(note);
    const url = await serve((request, response) => {
      note(request, response.writeHead(302, { location: other }));
    });
    const withUser = `${url.replace('//', '//user:p%40ss@')}/x`;
    await httpGet(withUser, quick);
    expect(got.map(({ authorization }) => authorization)).toEqual([`Basic ${Buffer.from('user:p@ss').toString('base64')}`, undefined]);
    const errors = await Promise.all([
      failure(httpGet(withUser, { ...quick, redirects: 0 })),
      failure(httpGet('http://user:p%40ss@127.0.0.1:9/x', quick)),
      failure(httpGet('https://api.example.org/', { ...quick, mirror: 'http://user:p%40ss@127.0.0.1:9' })),
      failure(httpGet('ftp://user:p%40ss@127.0.0.1:9/x', quick)),
    ]);
    for (const error of errors) expect(`${error.message} ${error.where} ${error.next} ${error.stack}`).not.toMatch(/p%40ss|p@ss/);
  });
  test('the next page of a list is on its own host', async () => {
    const url = await serve((request, response) => {
      if (request.url === '/bad') response.setHeader('link', '<http://127.0.0.1:9/>; rel="next"');
      if (request.url === '/1') response.setHeader('link', '</2>; rel="next"');
      response.end('[1]');
    });
    const pages = (path: string): Promise<number[]> => getPages(`${url}${path}`, v.number(), (at) => httpGet(at, { ...quick, headers }));
    expect(await pages('/1')).toEqual([1, 1]);
    expect(await failure(pages('/bad'))).toMatchObject({ code: 'redirect', message: 'the list continues on another host' });
    const endless = await serve((_, response) => void response.writeHead(200, { link: '</x>; rel="next"' }).end('[]'));
    expect(await failure(getPages(endless, v.number(), (at) => httpGet(at, quick)))).toMatchObject({ code: 'too-large' });
  });
});

describe('attempts', () => {
  const failing = async (status: number, after: Record<string, string> = {}): Promise<{ url: string; count: () => number }> => {
    let count = 0;
    const url = await serve((request, response) => {
      request.resume();
      count += 1;
      response.writeHead(status, after).end('why');
    });
    return { url, count: () => count };
  };
  test.each([408, 425, 429, 500, 502, 503, 504])('%i is tried again, and is an error in the end', async (status) => {
    const { url, count } = await failing(status);
    expect(await failure(httpGet(url, quick))).toMatchObject({ code: 'status', status });
    expect(count()).toBe(4);
  });
  test.each([400, 401, 403, 404, 410, 418])('%i is not', async (status) => {
    const { url, count } = await failing(status);
    expect(await failure(httpGet(url, quick))).toMatchObject({ code: 'status', status });
    expect(count()).toBe(1);
  });
  test('a connection that breaks, in the headers or in the body, is tried again', async () => {
    for (const start of [
      '',
      'HTTP/1.1 200 OK\r\ncontent-le',
      'HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nxxx',
      'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab',
    ]) {
      let count = 0;
      const url = await serveRaw((socket) => {
        count += 1;
        socket.end(count < 3 ? start : 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok');
      });
      expect(await getText(url, quick), start).toBe('ok');
      expect(count, start).toBe(3);
    }
  });
  test('one that breaks each time is broken, and its host is not unreachable', async () => {
    for (const end of [
      (socket: Socket) => socket.resetAndDestroy(),
      (socket: Socket) => socket.end('HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nxxx'),
    ]) {
      const error = await failure(httpGet(await serveRaw((socket) => void end(socket)), quick));
      expect(error).toMatchObject({ code: 'broken' });
      expect(isNetworkFailure(error)).toBe(true);
      expect(error).not.toBeInstanceOf(UnreachableError);
    }
  });
  test('what must not arrive twice is not sent twice: a POST, unless it is known to change nothing', async () => {
    let count = 0;
    const url = await serveRaw((socket) => {
      count += 1;
      socket.resetAndDestroy();
    });
    const post: HttpOptions = { method: 'POST', body: () => '{}' };
    expect(await failure(httpRequest(url, { ...quick, ...post }))).toMatchObject({ code: 'broken' });
    expect(count).toBe(1);
    await failure(httpRequest(url, { ...quick, ...post, idempotent: true }));
    expect(count).toBe(5);
    const busy = await failing(500);
    expect((await httpRequest(busy.url, { ...quick, ...post })).bytes.toString()).toBe('why');
    expect(busy.count()).toBe(1);
    const limited = await failing(429, { 'retry-after': '0' });
    expect(await failure(httpRequest(limited.url, { ...quick, ...post }))).toBeInstanceOf(RateLimitError);
    expect(limited.count()).toBe(4);
  });
  test('a body is sent whole each time, and its length is right', async () => {
    const received: string[] = [];
    const url = await serve((request, response) => {
      let length = 0;
      request.on('data', (chunk: Buffer) => (length += chunk.length));
      request.once('end', () => {
        received.push(`${request.headers['content-length']} ${length}`);
        response.writeHead(received.length % 2 === 1 ? 503 : 200).end();
      });
    });
    const bytes = Buffer.alloc(300_001, 'x');
    for (const body of [() => bytes, () => bytes.toString(), () => Readable.from([bytes.subarray(0, 5), bytes.subarray(5)])])
      await httpRequest(url, { ...quick, method: 'PUT', body, headers: { 'content-length': '300001' } });
    expect(received).toEqual(Array.from({ length: 6 }, () => '300001 300001'));
  });
  test('a header of a token with a line end is an error that says so, and shows no token', async () => {
    const { url, count } = await failing(200);
    const error = await failure(httpGet(url, { ...quick, headers: { authorization: 'Bearer secret\n' } }));
    expect(error).toMatchObject({ code: 'request' });
    expect(`${error.message} ${error.next}`).not.toContain('secret');
    expect(count()).toBe(0);
  });
  test('JSON that is none is an error of the server', async () => {
    const url = await serve((_, response) => void response.end('<html>'));
    await expect(getJson(url, quick)).rejects.toThrow('the response is not JSON');
  });
});

describe('only a host without a connection is unreachable', () => {
  test.each(['http://127.0.0.1:9/', 'https://127.0.0.1:9/', 'http://no-such-host.invalid/'])('%s', async (url) => {
    const error = await failure(httpGet(url, quick));
    expect(error).toBeInstanceOf(UnreachableError);
    expect(error.message).toContain(`${new URL(url).host} cannot be reached`);
  });
  test('not one whose certificate is not trusted, or that does not speak TLS', async () => {
    const untrusted = await makeAuthority();
    try {
      const url = `https://${await listen(createTlsServer(untrusted, (_, response) => void response.end()))}`;
      const error = await failure(httpGet(url, quick));
      expect(error).toMatchObject({ code: 'tls', next: expect.stringContaining('NODE_EXTRA_CA_CERTS') });
      expect(error).not.toBeInstanceOf(UnreachableError);
      const plain = await serve((_, response) => void response.end());
      expect(await failure(httpGet(plain.replace('http:', 'https:'), quick))).toMatchObject({ code: 'tls' });
    } finally {
      await untrusted.close();
      authority.trust();
    }
  });
});

describe('a signal ends a request at once, with its own reason', () => {
  test.each<[string, (socket: Socket) => void]>([
    ['while headers are awaited', () => undefined],
    ['between interim answers', (socket) => flood(socket, 'HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n', 200)],
    ['in a body', (socket) => void socket.write('HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nx')],
    [
      'in a pause that the server asked for',
      (socket) => void socket.end('HTTP/1.1 429 Wait\r\nretry-after: 50\r\ncontent-length: 0\r\n\r\n'),
    ],
  ])('%s', async (_, talk) => {
    const url = await serveRaw(talk);
    for (const isAround of [false, true]) {
      const stop = new AbortController();
      const reason = new Error('stopped by a person');
      setTimeout(() => stop.abort(reason), 300);
      const request = (): Promise<HttpError> => failure(httpGet(url, isAround ? quick : { ...quick, signal: stop.signal }));
      const { result, ms } = await timed(() => (isAround ? interruptible(stop.signal, request) : request()));
      expect(result).toBe(reason);
      expect(ms).toBeLessThan(2000);
    }
  });
  test('one that has aborted already sends nothing', async () => {
    let count = 0;
    const url = await serve(() => {
      count += 1;
    });
    await expect(httpGet(url, { ...quick, signal: AbortSignal.abort() })).rejects.toThrow(/abort/i);
    expect(count).toBe(0);
  });
});

// One dispatcher is made per process: what it reads of the environment is tried in processes of their own.
describe('the environment', () => {
  interface Outcome {
    readonly text?: string;
    readonly name?: string;
    readonly message?: string;
    readonly next?: string;
    readonly code?: string;
  }
  async function get(url: string, env: Record<string, string>, mirror?: string): Promise<Outcome & { all: string }> {
    const args = [join(import.meta.dirname, 'helpers/get.ts'), url, ...(mirror === undefined ? [] : [mirror])];
    const clean = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/proxy$|^NODE_/i.test(name)));
    const { stdout, stderr } = await promisify(execFile)(process.execPath, args, { env: { ...clean, ...env } });
    return { ...(JSON.parse(stdout) as Outcome), all: stdout + stderr };
  }
  /** A proxy that opens tunnels, and what it was asked for. */
  async function startProxy(status = 200): Promise<{ host: string; asked: string[] }> {
    const asked: string[] = [];
    const server = createServer((request, response) => {
      asked.push(`${request.method} ${request.url} ${request.headers['proxy-authorization'] ?? ''}`.trim());
      response.end('by the proxy');
    });
    server.on('connect', ({ url = '', headers }, socket: Socket) => {
      asked.push(`CONNECT ${url} ${headers['proxy-authorization'] ?? ''}`.trim());
      socket.on('error', () => undefined);
      if (status !== 200) return void socket.end(`HTTP/1.1 ${status} No\r\ncontent-length: 0\r\n\r\n`);
      const [host, port] = url.split(':');
      const onward = connect(Number(port), host, () => {
        socket.write('HTTP/1.1 200 Connection established\r\n\r\n');
        socket.pipe(onward).pipe(socket);
      }).on('error', () => socket.destroy());
      sockets.add(onward);
    });
    return { host: await listen(server), asked };
  }
  test('NODE_EXTRA_CA_CERTS: an authority of a proxy or a mirror', async () => {
    const url = await serveTls((_, response) => void response.end('trusted'));
    expect(await get(url, {})).toMatchObject({ code: 'tls', next: expect.stringContaining('NODE_EXTRA_CA_CERTS') });
    expect(await get(url, { NODE_EXTRA_CA_CERTS: authority.file })).toMatchObject({ text: 'trusted' });
    expect(await get('https://dl.example.org/x', { NODE_EXTRA_CA_CERTS: authority.file }, url)).toMatchObject({ text: 'trusted' });
  });
  test('proxies, with user and password, and hosts without one', async () => {
    const secure = await serveTls((_, response) => void response.end('secure'));
    const plain = await serve((_, response) => void response.end('plain'));
    const proxy = await startProxy();
    const env = {
      https_proxy: `http://user:s3cret@${proxy.host}`,
      http_proxy: `http://${proxy.host}`,
      NODE_EXTRA_CA_CERTS: authority.file,
    };
    const basic = `Basic ${Buffer.from('user:s3cret').toString('base64')}`;
    expect(await get(secure, env)).toMatchObject({ text: 'secure' });
    expect(proxy.asked).toEqual([`CONNECT ${new URL(secure).host} ${basic}`]);
    expect(await get(plain, env)).toMatchObject({ text: 'by the proxy' });
    expect(await get(plain, { ...env, no_proxy: '127.0.0.1' })).toMatchObject({ text: 'plain' });
    expect(proxy.asked).toHaveLength(2);
  });
  test.each(['https', 'http'])('a proxy that cannot be reached is named without its password (%s)', async (scheme) => {
    const { all, ...error } = await get(`${scheme}://dl.example.org/x`, { [`${scheme}_proxy`]: 'http://user:s3cret@127.0.0.1:9' });
    expect(error).toMatchObject({
      name: 'UnreachableError',
      next: expect.stringContaining(`proxy in ${scheme}_proxy (http://127.0.0.1:9)`),
    });
    expect(all).not.toContain('s3cret');
  });
  test('a proxy that opens no tunnel: there is no connection', async () => {
    const proxy = await startProxy(403);
    const { all, ...error } = await get('https://dl.example.org/x', { https_proxy: `http://user:s3cret@${proxy.host}` });
    expect(error).toMatchObject({ name: 'UnreachableError', code: 'unreachable' });
    expect(all).not.toContain('s3cret');
    expect(proxy.asked).toHaveLength(1);
  });
  test.each([
    'socks5://user:s3cret@127.0.0.1:9',
    'user:s3cret@127.0.0.1:9',
    'http//user:s3c/ret@127.0.0.1:9',
    'http://user:s3c/ret@127.0.0.1:9',
  ])('a setting that is not the URL of an HTTP proxy is an error without its password (%s)', async (https_proxy) => {
    const { all, ...error } = await get('https://dl.example.org/x', { https_proxy });
    expect(error.name).toMatch(/^(?:UsageError|UnreachableError|HttpError)$/);
    expect(all).not.toMatch(/s3c/);
  });
});
