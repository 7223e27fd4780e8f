import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { UserError } from '../src/util/errors.ts';
import { fetchBlob, fetchNew, type FetchOptions } from '../src/store/fetch.ts';
import { HttpStatusError, UnreachableError } from '../src/http/errors.ts';
import { mirrored } from '../src/http/mirror.ts';
import { openStore, type Store } from '../src/store/store.ts';
import type { Event } from '../src/util/events.ts';
import { send, serve, type Answer, type TestServer } from './helpers/server.ts';

const body = randomBytes(300_000);
const sha256 = createHash('sha256').update(body).digest('hex');
const quick: FetchOptions = { pause: 5, attempts: 4 };

let dir: string;
let store: Store;
let server: TestServer | undefined;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'fetch-test-'));
  store = openStore(join(dir, 'store'));
});
afterEach(async () => {
  await server?.close();
  server = undefined;
  await rm(dir, { recursive: true, force: true });
});

/** Serves `/file` and fetches it. */
async function fetchFrom(
  answer: Answer | Buffer,
  options: FetchOptions = {},
  pin: { sha256?: string; size?: number } = {},
): Promise<string> {
  server = await serve({ '/file': answer });
  return fetchBlob(store, { url: `${server.url}/file`, sha256, ...pin }, { ...quick, ...options });
}
const failure = (promise: Promise<unknown>): Promise<Error> =>
  promise.then(
    () => {
      throw new Error('it succeeded');
    },
    (error: unknown) => error as Error,
  );
/** Runs `then` once so many bytes of the file that is being fetched have arrived, however slow this machine is. */
function onceArrived(bytes: number, then: () => void): void {
  const arrived = (): Promise<number> =>
    stat(store.partial(sha256)).then(
      ({ size }) => size,
      () => 0,
    );
  void vi.waitUntil(async () => (await arrived()) === bytes, { timeout: 60_000 }).finally(then);
}
/** Everything that the store holds besides locks. */
async function kept(): Promise<string[]> {
  const all = await readdir(store.root, { recursive: true, withFileTypes: true });
  return all
    .filter((entry) => entry.isFile() && !entry.name.endsWith('.lock') && !entry.parentPath.includes('/locks'))
    .map(({ name }) => name);
}

test('a file is fetched once, whoever asks for it again', async () => {
  const path = await fetchFrom(body);
  expect(await readFile(path)).toEqual(body);
  expect(await fetchBlob(store, { url: `${server?.url}/file`, sha256 })).toBe(path);
  expect(server?.asked).toHaveLength(1);
});

test('two that want the same at once fetch it once', async () => {
  server = await serve({ '/file': (request, response) => setTimeout(() => send(request, response, body), 50) });
  const pin = { url: `${server.url}/file`, sha256 };
  const [one, two] = await Promise.all([fetchBlob(store, pin), fetchBlob(openStore(store.root), pin)]);
  expect(one).toBe(two);
  expect(server.asked).toHaveLength(1);
});

test('a wrong digest keeps nothing, and is nothing to fall back on', async () => {
  const error = await failure(fetchFrom(Buffer.from('something else')));
  expect(error).toBeInstanceOf(UserError);
  expect(error).not.toBeInstanceOf(UnreachableError);
  expect(error.message).toContain(`sha256 ${sha256} is pinned`);
  expect(server?.asked).toHaveLength(1);
  expect(await kept()).toEqual([]);
});

test.each([404, 403, 410])('%d is the answer, not a failure of the network: no retry', async (status) => {
  const error = await failure(fetchFrom((_, response) => response.writeHead(status).end()));
  expect(error).toBeInstanceOf(HttpStatusError);
  expect(error).not.toBeInstanceOf(UnreachableError);
  expect(server?.asked).toHaveLength(1);
});

test('429 is asked again when the server said', async () => {
  const times: number[] = [];
  await fetchFrom((request, response, count) => {
    times.push(Date.now());
    if (count === 1) response.writeHead(429, { 'retry-after': '1' }).end();
    else send(request, response, body);
  });
  expect((times[1] ?? 0) - (times[0] ?? 0)).toBeGreaterThan(900);
});

test('500 is tried again', async () => {
  await fetchFrom((request, response, count) => (count < 3 ? response.writeHead(500).end() : send(request, response, body)));
  expect(server?.asked).toHaveLength(3);
});

test('a server that only says 503 has answered: no origin falls back', async () => {
  const error = await failure(fetchFrom((_, response) => response.writeHead(503).end()));
  expect(error).toBeInstanceOf(HttpStatusError);
  expect(error.message).toContain('503');
  expect(server?.asked).toHaveLength(quick.attempts ?? 0);
});

test('a redirect is followed', async () => {
  server = await serve({ '/old': (_, response) => response.writeHead(302, { location: '/new' }).end(), '/new': body });
  await fetchBlob(store, { url: `${server.url}/old`, sha256 });
  expect(server.asked).toEqual(['GET /old', 'GET /new']);
});

test('redirects without end are refused', async () => {
  const error = await failure(fetchFrom((_, response) => response.writeHead(302, { location: '/file' }).end()));
  expect(error.message).toMatch(/302|redirect/i);
  expect(await kept()).toEqual([]);
});

test('a broken connection is resumed, and no byte is fetched twice', async () => {
  const cut = 100_000;
  await fetchFrom((request, response, count) => {
    if (count > 1) return send(request, response, body);
    response.writeHead(200, { 'content-length': body.length });
    response.write(body.subarray(0, cut));
    onceArrived(cut, () => response.destroy());
  });
  expect(server?.asked).toEqual(['GET /file', `GET /file bytes=${cut}-`]);
});

test('a server that ignores Range sends all again, and the file is right', async () => {
  const path = await fetchFrom((_, response, count) => {
    response.writeHead(200, { 'content-length': body.length });
    if (count > 1) response.end(body);
    else response.write(body.subarray(0, 1000), () => setTimeout(() => response.destroy(), 50));
  });
  expect(await readFile(path)).toEqual(body);
});

test('a server that lies about the range is found out by the digest, and asked for the whole once more', async () => {
  const path = await fetchFrom((request, response, count) => {
    if (count === 2) {
      response.writeHead(206, { 'content-range': `bytes 1000-${body.length - 1}/${body.length}` }).end(body.subarray(0, -1000));
      return;
    }
    if (count > 2) return send(request, response, body);
    response.writeHead(200, { 'content-length': body.length });
    response.write(body.subarray(0, 1000));
    onceArrived(1000, () => response.destroy());
  });
  expect(await readFile(path)).toEqual(body);
  expect(server?.asked).toEqual(['GET /file', 'GET /file bytes=1000-', 'GET /file']);
});

test('what an earlier attempt left of another file is fetched once more from zero, and is no wrong digest', async () => {
  for (const [stale, size] of [
    [Buffer.alloc(5000, 'x'), undefined], // shorter than the file
    [Buffer.alloc(5000, 'x'), body.length],
    [Buffer.alloc(body.length, 'x'), undefined], // as long: the server has nothing behind it
    [Buffer.alloc(body.length + 1, 'x'), body.length],
  ] as const) {
    const part = store.partial(sha256);
    await mkdir(dirname(part), { recursive: true });
    await writeFile(part, stale);
    expect(await readFile(await fetchFrom(body, {}, { size }))).toEqual(body);
    expect(server?.asked.at(-1)).toBe('GET /file');
    await server?.close();
    store = openStore(join(dir, `store-${stale.length}-${String(size)}`));
  }
});

test('a wrong file is a wrong digest also behind a stale part: after one more try from zero, and no other', async () => {
  const part = store.partial(sha256);
  await mkdir(dirname(part), { recursive: true });
  await writeFile(part, 'stale');
  const error = await failure(fetchFrom(randomBytes(body.length)));
  expect(error.message).toContain('wrong digest');
  expect(server?.asked).toEqual(['GET /file bytes=5-', 'GET /file']);
  expect(await kept()).toEqual([]);
});

test('a part is continued only if the server has the same version of the file (If-Range), across processes', async () => {
  const [old, now] = [randomBytes(body.length), body];
  const conditions: (string | undefined)[] = [];
  const answer: Answer = (request, response, count) => {
    conditions.push(request.headers['if-range']?.toString());
    const [content, tag] = count === 1 ? [old, '"one"'] : [now, '"two"'];
    if (count > 1 && request.headers['if-range'] === tag) return send(request, response, content);
    response.writeHead(200, { 'content-length': content.length, etag: tag });
    if (count > 1) return void response.end(content);
    response.write(content.subarray(0, 1000));
    onceArrived(1000, () => response.destroy());
  };
  const error = await failure(fetchFrom(answer, { attempts: 1 }));
  expect(error).toMatchObject({ code: 'broken' });
  store = openStore(store.root);
  expect(await readFile(await fetchBlob(store, { url: `${server?.url}/file`, sha256 }, quick))).toEqual(body);
  // The server sent the new file at once: no byte was fetched for nothing.
  expect(conditions).toEqual([undefined, '"one"']);
  expect(await kept()).toEqual([sha256]);
});

test('206 where no part was asked for is not a file', async () => {
  const error = await failure(
    fetchFrom((_, response) => void response.writeHead(206, { 'content-range': `bytes 0-9/${body.length}` }).end(body.subarray(0, 10))),
  );
  expect(error).toMatchObject({ code: 'protocol', message: expect.stringContaining('another part of the file') });
  expect(error).not.toBeInstanceOf(UnreachableError);
  expect(await kept()).toEqual([]);
});

test('a file without a known digest has a limit, with a length and without', async () => {
  for (const length of [{}, { 'content-length': 100_001 }]) {
    const here = await serve({ '/file': (_, response) => void response.writeHead(200, length).end(Buffer.alloc(100_001)) });
    try {
      const error = await failure(fetchNew(store, `${here.url}/file`, { ...quick, max: 100_000 }));
      expect(error).toMatchObject({ code: 'too-large', message: expect.stringContaining('more than 100000 bytes') });
      expect(await kept()).toEqual([]);
      expect((await fetchNew(store, `${here.url}/file`, { ...quick, max: 100_001 })).size).toBe(100_001);
      store = openStore(join(dir, 'another'));
    } finally {
      await here.close();
    }
  }
});

test('a file without a known digest is not taken compressed, unless that is what it is', async () => {
  const plain = Buffer.from('a program');
  const packed = gzipSync(plain);
  const compressed: Answer = (_, response) => void response.writeHead(200, { 'content-encoding': 'gzip' }).end(packed);
  const here = await serve({ '/tool': compressed, '/tool.tar.gz': compressed });
  try {
    const error = await failure(fetchNew(store, `${here.url}/tool`, { ...quick, max: 1000 }));
    expect(error).toMatchObject({ code: 'encoding' });
    expect(await readFile((await fetchNew(store, `${here.url}/tool.tar.gz`, { ...quick, max: 1000 })).path)).toEqual(packed);
  } finally {
    await here.close();
  }
});

test('a file without a known digest is continued only where the server names its version', async () => {
  for (const tag of [undefined, 'W/"weak"', '"strong"']) {
    const here = await serve({
      '/file': (request, response, count) => {
        if (count > 1 && request.headers['if-range'] !== undefined) return send(request, response, body);
        response.writeHead(200, { 'content-length': body.length, ...(tag && { etag: tag }) });
        if (count > 1) return void response.end(body);
        response.write(body.subarray(0, 1000), () => setTimeout(() => response.destroy(), 200));
      },
    });
    try {
      const { path } = await fetchNew(store, `${here.url}/file`, { ...quick, max: body.length, resume: true });
      expect(await readFile(path)).toEqual(body);
      expect(here.asked).toEqual(['GET /file', tag === '"strong"' ? 'GET /file bytes=1000-' : 'GET /file']);
    } finally {
      await here.close();
    }
  }
});

test('a body that is cut off for good is resumed as often as allowed, and its host is not unreachable', async () => {
  const error = await failure(
    fetchFrom((_, response) => {
      response.writeHead(200, { 'content-length': body.length });
      response.write('x', () => setTimeout(() => response.destroy(), 5));
    }),
  );
  expect(error).toMatchObject({ code: 'broken' });
  expect(error).not.toBeInstanceOf(UnreachableError);
  expect(server?.asked.length).toBe(quick.attempts);
});

test.each([
  ['with a length', (_: unknown, response: ServerResponse) => void response.end(body.subarray(0, 5000))],
  ['in chunks', (_: unknown, response: ServerResponse) => void response.write(body.subarray(0, 5000), () => response.end())],
])('a body that ends in good order but short is no failure of the network (%s)', async (_, answer) => {
  const error = await failure(fetchFrom(answer, {}, { size: body.length }));
  expect(error).not.toBeInstanceOf(UnreachableError);
  expect(error.message).toContain(`5000 bytes where ${body.length} are pinned`);
  expect(await kept()).toEqual([]);
});

test('more bytes than pinned are not even read', async () => {
  let sent = 0;
  const error = await failure(
    fetchFrom(
      (_, response) => {
        const more = (): void => {
          while (!response.destroyed && sent < 200 << 20) {
            sent += 1 << 20;
            if (!response.write(Buffer.alloc(1 << 20))) return void response.once('drain', more);
          }
          response.end();
        };
        more();
      },
      {},
      { size: 1000 },
    ),
  );
  expect(error.message).toContain('more than the pinned 1000 bytes');
  expect(sent).toBeLessThan(50 << 20);
  expect(await kept()).toEqual([]);
});

test('a slow drip is given up', async () => {
  const error = await failure(
    fetchFrom(
      (_, response) => {
        response.writeHead(200, { 'content-length': body.length });
        const timer = setInterval(() => response.write('x'), 20);
        response.once('close', () => clearInterval(timer));
      },
      { attempts: 1, limits: { slowest: { bytesPerSecond: 10_000, window: 200 } } },
    ),
  );
  expect(error).toMatchObject({
    code: 'timeout',
    message: expect.stringMatching(/^127\.0\.0\.1:\d+ sends fewer than 10000 bytes a second$/),
  });
  expect(error).not.toBeInstanceOf(UnreachableError);
});

test('a closed port is unreachable, and is not asked for every file', async () => {
  const url = 'http://127.99.0.1:9'; // a port that nobody listens on, unlike one that was closed just now
  const one = await failure(fetchBlob(store, { url: `${url}/a`, sha256 }, quick));
  const before = Date.now();
  const two = await failure(fetchBlob(store, { url: `${url}/b`, sha256: sha256.replace(/^./, '0') }, { pause: 60_000 }));
  expect([one, two].every((error) => error instanceof UnreachableError)).toBe(true);
  expect(Date.now() - before).toBeLessThan(60_000);
});

test('each file of a host that cannot be reached has an error of its own', async () => {
  const url = 'http://127.99.0.2:9';
  const failed = (path: string, digit: string, options: FetchOptions = {}): Promise<Error> =>
    failure(fetchBlob(store, { url: path, sha256: sha256.replace(/^./, digit) }, { ...quick, ...options }));
  for (const [path, digit] of [
    ['/a', '0'],
    ['/b', '1'],
  ] as const)
    expect(await failed(`${url}${path}`, digit)).toMatchObject({ where: `${url}${path}` });
  const { host } = new URL(url);
  const mirror = await failed('https://dl.example.org/c', '2', { mirror: url });
  expect(mirror).toMatchObject({ where: `${url}/dl.example.org/c` });
  expect(mirror.message).toContain(`${host} cannot be reached: `);
});

test('a host that does not speak TLS is still asked by http', async () => {
  server = await serve({ '/file': body });
  const secure = await failure(
    fetchBlob(store, { url: `${server.url.replace('http:', 'https:')}/file`, sha256 }, { ...quick, attempts: 1 }),
  );
  expect(secure).toMatchObject({ code: 'tls' });
  expect(secure).not.toBeInstanceOf(UnreachableError);
  expect(await readFile(await fetchBlob(store, { url: `${server.url}/file`, sha256 }, quick))).toEqual(body);
});

test('a mirror stands in for every host', async () => {
  server = await serve({ '/dl.example.org/v1/tool?x=1': body });
  await fetchBlob(store, { url: 'https://dl.example.org/v1/tool?x=1', sha256 }, { mirror: `${server.url}/` });
  expect(server.asked).toEqual(['GET /dl.example.org/v1/tool?x=1']);
  expect(mirrored('https://dl.example.org/a', undefined)).toBe('https://dl.example.org/a');
});

test('a damaged blob is noticed and fetched again', async () => {
  const path = await fetchFrom(body);
  await writeFile(path, 'damaged', { flag: 'r+' }).catch(async () => {
    await rm(path);
    await writeFile(path, 'damaged');
  });
  expect(await readFile(await fetchBlob(openStore(store.root), { url: `${server?.url}/file`, sha256 }))).toEqual(body);
  expect(server?.asked).toHaveLength(2);
});

test('a signal stops it, and what came is resumed the next time', async () => {
  const stop = new AbortController();
  const half = body.length / 2;
  const error = await failure(
    fetchFrom(
      (request, response, count) => {
        if (count > 1) return send(request, response, body);
        response.writeHead(200, { 'content-length': body.length });
        response.write(body.subarray(0, half));
        onceArrived(half, () => stop.abort());
      },
      { signal: stop.signal },
    ),
  );
  expect(error.name).toBe('AbortError');
  await fetchBlob(store, { url: `${server?.url}/file`, sha256 });
  expect(server?.asked).toEqual(['GET /file', `GET /file bytes=${half}-`]);
});

test('a download is reported when it begins, with its total, and when it is complete', async () => {
  const events: Event[] = [];
  await fetchFrom(body, { report: (event) => void events.push(event) });
  const about = { type: 'download', url: `${server?.url}/file` };
  expect(events[0]).toMatchObject({ ...about, state: 'begun', received: 0 });
  expect(events).toContainEqual(expect.objectContaining({ ...about, state: 'running', total: body.length }));
  expect(events.at(-1)).toEqual({ ...about, state: 'complete', received: body.length, total: body.length });
});

test('bytes of an earlier run are not reported as received, and a file that cannot be fetched is', async () => {
  const stop = new AbortController();
  const half = body.length / 2;
  const events: Event[] = [];
  const options = { report: (event: Event): void => void events.push(event) };
  const cut: Answer = (request, response, count) => {
    if (count > 1) return send(request, response, body);
    response.writeHead(200, { 'content-length': body.length });
    response.write(body.subarray(0, half));
    onceArrived(half, () => stop.abort());
  };
  await failure(fetchFrom(cut, { ...options, signal: stop.signal }));
  expect(events.at(-1)).toMatchObject({ type: 'download', state: 'failed', received: half });
  await fetchBlob(store, { url: `${server?.url}/file`, sha256 }, options);
  expect(events.at(-1)).toMatchObject({ type: 'download', state: 'complete', received: body.length - half });
});

test('a full disk is told with the file that was being written, and nothing of it is taken for the file', async ({ skip }) => {
  skip(process.getuid?.() !== 0, 'skipped: only root can mount');
  const partial = dirname(store.partial(sha256));
  await mkdir(partial, { recursive: true });
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'none', partial]);
  try {
    await expect(fetchFrom(body)).rejects.toMatchObject({
      message: expect.stringContaining('no space left'),
      where: store.partial(sha256),
      next: expect.stringContaining('free some space'),
    });
  } finally {
    execFileSync('umount', ['--lazy', partial]);
  }
});
