// `--origin auto` builds from source only where there is no connection to upstream's host: never because of what a server answers.
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { loadExtension } from '../src/definition/load.ts';
import { buildExtension } from '../src/pipeline/build.ts';
import { openStore } from '../src/store/store.ts';
import { openTools } from '../src/tools/tools.ts';

const CORE = pathToFileURL(join(import.meta.dirname, '../src/engine.ts')).href;
const SHA256 = 'a'.repeat(64);
let root: string;
let dir: string;
let server: Server | undefined;
const sockets = new Set<Socket>();

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'fallback-'));
  dir = join(root, 'tool');
  await mkdir(dir);
  await writeFile(
    join(dir, 'extension.ts'),
    `import { binary, cargo, defineExtension, upstream } from '${CORE}';
export default defineExtension({
  name: 'tool',
  summary: 'a tool',
  versions: { kind: 'date', track: 'newest' },
  components: () => [binary('tool', '1.0.0', upstream('https://dl.example.org/tool'), cargo('tool', ['tool']))],
});
`,
  );
  const bytes = { 'https://dl.example.org/tool': { sha256: SHA256, size: 100, proof: 'nothing published: as first downloaded' } };
  await writeFile(join(dir, 'pins.json'), JSON.stringify({ '2026.11.24': { licenses: { tool: 'MIT' }, bytes } }));
});
afterAll(() => rm(root, { recursive: true, force: true }));
afterEach(() => {
  server?.close();
  for (const socket of sockets) socket.destroy();
});

/** Builds from a mirror; gives the error, and whether it fell back. */
async function build(mirror: string): Promise<{ error: Error; isFallback: boolean }> {
  const store = openStore(join(root, 'store'));
  const notices: string[] = [];
  const error = await buildExtension(await loadExtension(dir), {
    version: '2026.11.24',
    arch: 'x86-64',
    targets: ['portable'],
    payloadsOnly: true,
    profile: 'fast',
    origin: 'auto',
    out: join(root, 'out'),
    store,
    tools: openTools(store),
    report: (event) => {
      if (event.type === 'notice') notices.push(event.text);
    },
    mirror,
  }).then(
    () => {
      throw new Error('it was built');
    },
    (reason: unknown) => reason as Error,
  );
  return { error, isFallback: notices.some((text) => text.includes('BUILDING FROM SOURCE')) };
}

const answer = (status: string, headers = '', body = ''): string => `HTTP/1.1 ${status}\r\nconnection: close\r\n${headers}\r\n${body}`;

test.each<[string, string | ((socket: Socket) => void)]>([
  ['a loop of redirects', answer('302 Found', 'location: /dl.example.org/tool\r\n')],
  ['a redirect to a file', answer('302 Found', 'location: file:///etc/passwd\r\n')],
  ['a redirect to data', answer('302 Found', 'location: data:,x\r\n')],
  ['a redirect to a socket', answer('302 Found', 'location: unix:/run/x.sock\r\n')],
  ['headers over the limit', answer('200 OK', `x-long: ${'x'.repeat(20_000)}\r\n`)],
  ['what is no HTTP', 'SSH-2.0-OpenSSH_9.2\r\n'],
  ['a body that is too short', answer('200 OK', 'content-length: 50\r\n', 'x'.repeat(50))],
  ['a body that is cut off', answer('200 OK', 'content-length: 100\r\n', 'x'.repeat(50))],
  ['a body that is too long', answer('200 OK', 'content-length: 200\r\n', 'x'.repeat(200))],
  ['a body with another digest', answer('200 OK', 'content-length: 100\r\n', 'x'.repeat(100))],
  [
    'a part that was not asked for',
    answer('206 Partial Content', 'content-range: bytes 0-9/100\r\ncontent-length: 10\r\n', 'x'.repeat(10)),
  ],
  ['404', answer('404 Not Found', 'content-length: 0\r\n')],
  ['503', answer('503 Busy', 'content-length: 0\r\n')],
  ['a rate limit', answer('429 Wait', 'retry-after: 100000\r\ncontent-length: 0\r\n')],
  ['a reset', (socket) => void socket.resetAndDestroy()],
])('%s is no reason to build from source', { timeout: 120_000 }, async (_, said) => {
  server = createServer((socket) => {
    sockets.add(socket.on('error', () => undefined));
    socket.once('data', () => (typeof said === 'string' ? socket.end(said) : said(socket)));
  });
  await new Promise<void>((resolve) => server?.listen(0, '127.0.0.1', resolve));
  const { error, isFallback } = await build(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  expect(error.message).not.toMatch(/has no pin for this origin/);
  expect(isFallback).toBe(false);
});

test.each(['http://127.77.0.1:9', 'https://127.77.0.2:9', 'http://no-such-host.invalid'])('no connection to %s is one', async (mirror) => {
  const { error, isFallback } = await build(mirror);
  expect(isFallback).toBe(true);
  expect(error.message).toMatch(/has no pin for this origin/); // the fixture has none
});
