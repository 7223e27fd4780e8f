import { spawn, type ChildProcess } from 'node:child_process';
import { createHash } from 'node:crypto';
import { access, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { once } from 'node:events';
import { gzipSync } from 'node:zlib';
import { cacheRoot } from '@flatcar/core/engine';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';

const bin = resolve(import.meta.dirname, '../bin/flatcar-ext');
const COMMANDS = [
  'build',
  'bind',
  'list',
  'releases',
  'remove',
  'doctor',
  'completion',
  'version',
  'lint',
  'explain',
  'inspect',
  'diff',
  'verify',
  'test',
  'pin',
  'outdated',
  'new',
  'bump',
  'docs',
  'cache',
  'butane',
  'ignition',
  'ci',
];

/** vitest asks its children for colours. */
const { FORCE_COLOR: _, ...plainEnv } = process.env;

interface Said {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

function start(args: readonly string[], env: Readonly<Record<string, string>> = {}): { child: ChildProcess; said: Promise<Said> } {
  const child = spawn(bin, args, { env: { ...plainEnv, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
  let [out, err] = ['', ''];
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()));
  return { child, said: once(child, 'close').then(([code]) => ({ code: code as number | null, out, err })) };
}
const flatcarExt = (args: readonly string[], env?: Readonly<Record<string, string>>): Promise<Said> => start(args, env).said;

/** A tar of one program, as youki's release has it. */
function archive(text: string): Buffer {
  const header = Buffer.alloc(512);
  header.write('youki');
  header.write('0000755\0', 100);
  header.write('0000000\0', 108);
  header.write('0000000\0', 116);
  header.write(`${text.length.toString(8).padStart(11, '0')}\0`, 124);
  header.write('00000000000\0', 136);
  header.write('        0', 148);
  header.write('ustar\u000000', 257);
  header.write(
    `${header
      .reduce((sum, byte) => sum + byte, 0)
      .toString(8)
      .padStart(6, '0')}\0 `,
    148,
  );
  const body = Buffer.alloc(Math.ceil(text.length / 512) * 512);
  body.write(text);
  return gzipSync(Buffer.concat([header, body, Buffer.alloc(1024)]));
}

// youki from a mirror that serves archives of the real layout, with pins of its own.
let dir: string;
let server: Server;
let mirror: string;
let pins: string;
/** What the server does instead of answering. */
let answer: ((url: string) => 'drip' | number | undefined) | undefined;
const asked: string[] = [];
const files = new Map<string, Buffer>();

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'cli-test-'));
  const bytes: Record<string, { sha256: string; size: number; proof: string }> = {};
  for (const machine of ['x86_64', 'aarch64']) {
    const url = `https://github.com/youki-dev/youki/releases/download/v9.9.9/youki-9.9.9-${machine}-musl.tar.gz`;
    const body = archive(`#!/bin/sh\necho youki on ${machine}\n`);
    bytes[url] = {
      sha256: createHash('sha256').update(body).digest('hex'),
      size: body.length,
      proof: 'nothing published: as first downloaded',
    };
    files.set(url.replace('https:/', ''), body);
  }
  pins = join(dir, 'pins.json');
  await writeFile(pins, JSON.stringify({ '9.9.9': { revision: 0, licenses: { youki: 'Apache-2.0' }, bytes } }));
  server = createServer((request, response) => {
    asked.push(request.url ?? '');
    const body = files.get(request.url ?? '');
    const said = answer?.(request.url ?? '');
    if (typeof said === 'number') response.writeHead(said).end();
    else if (body === undefined) response.writeHead(404).end();
    else if (said === 'drip') {
      response.writeHead(200, { 'content-length': body.length });
      response.write(body.subarray(0, 10));
    } else response.writeHead(200, { 'content-length': body.length }).end(body);
  });
  await new Promise<void>((done) => {
    server.listen(0, '127.0.0.1', done);
  });
  mirror = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(async () => {
  server.closeAllConnections();
  server.close();
  await rm(dir, { recursive: true, force: true });
});
beforeEach(() => {
  answer = undefined;
  asked.length = 0;
});
const buildYouki = (out: string, more: readonly string[] = [], env: Readonly<Record<string, string>> = {}): ReturnType<typeof start> =>
  start(['build', 'youki', '--pins', pins, '--origin', 'upstream', '--mirror', mirror, '--out', join(dir, out), ...more], env);

test('--help names every command, the environment and the exit codes', async () => {
  const { out } = await flatcarExt(['--help']);
  for (const word of [...COMMANDS, 'FLATCAR_EXT_CACHE', 'Exit codes']) expect(out).toContain(word);
});

test.each([
  [['bild'], /unknown command 'bild'[^]*build/],
  [['build', '--relase', 'stable'], /unknown option '--relase'[^]*--release/],
  [['build', '--profile', 'best'], /fast, publish/],
  [['build', '--origin', 'mirror'], /auto, upstream, source/],
  [['inspect'], /missing required argument/],
  [['build', 'kubernets'], /no extension 'kubernets'[^]*kubernetes/],
  [['build', 'kubernetes@1.2'], /not pinned[^]*1\.3\d/],
  [['build', 'kubernetes', '--arch', 'amd65'], /unknown architecture 'amd65'[^]*x86-64/],
  [['build', 'kubernetes', '--release', '4593.2.99'], /4593\.2\.99[^]*nearest known release is 4593\.2\.\d/],
  [['build', 'kubernetes', '--release', 'stabel'], /stabel[^]*stable/],
  [['build', 'kubernetes', '--key', 'k.pem'], /--key and --certificate go together/],
  [['explain', 'no-rule'], /no rule 'no-rule'/],
])('%s is wrong usage', async (args, says) => {
  const { code, out, err } = await flatcarExt(args);
  expect({ code, out }).toEqual({ code: 2, out: '' });
  expect(err).toMatch(says);
  expect(err).not.toMatch(/\n\s+at .*\.ts:\d+/);
});

test.each([[['inspect', '/nothing/here.raw'], /here\.raw/]])('%s fails with what to do, and no stack trace', async (args, says) => {
  const { code, err } = await flatcarExt(args);
  expect(code).toBe(1);
  expect(err).toMatch(says);
  expect(err).not.toMatch(/\n\s+at .*\.ts:\d+/);
});

test('--debug shows where an error came from', async () => {
  expect((await flatcarExt(['--debug', 'explain', 'no-rule'])).err).toMatch(/at .*lint\.ts:\d+/);
});

test('explain knows all rules: of images, of images side by side, of releases, of sources and of waivers', async () => {
  const { out } = await flatcarExt(['explain', '--json']);
  const ids = (JSON.parse(out) as { rule: string }[]).map(({ rule }) => rule);
  expect(ids).toEqual(
    expect.arrayContaining(['usr-sbin', 'collision', 'needs-glibc', 'portable-needs-host', 'missing-pin', 'unused-waiver']),
  );
  const { out: collision } = await flatcarExt(['explain', 'collision']);
  expect(collision).toMatch(/checks: .*\n.*why: .*\n.*fix: .*\n.*waive: *not possible: .*conflicts/);
  expect((await flatcarExt(['explain', 'needs-glibc'])).out).toContain("{ 'needs-glibc': 'the reason' }");
  expect(await flatcarExt(['explain', 'needs-glib'])).toMatchObject({
    code: 2,
    err: expect.stringContaining("did you mean 'needs-glibc'") as unknown,
  });
});

test.each([[['list', '--json']], [['releases', '--json']], [['explain', '--json']], [['cache', 'stats', '--json']]])(
  '%s prints one JSON value and nothing else',
  async (args) => {
    const { code, out, err } = await flatcarExt(args, { FLATCAR_EXT_CACHE: join(dir, 'cache') });
    expect(code, err).toBe(0);
    expect(JSON.parse(out)).toBeTypeOf('object');
  },
);

test('list tells of every extension what a job matrix needs', async () => {
  const rows = JSON.parse((await flatcarExt(['list', '--json'])).out) as {
    extension: string;
    version: string;
    origins: string[];
    fromSource: boolean;
    noSource?: string;
  }[];
  const names = await readdir(resolve(import.meta.dirname, '../../../extensions'));
  expect([...new Set(rows.map(({ extension }) => extension))].toSorted()).toEqual(names.toSorted());
  // What has no source route says why.
  for (const row of rows.filter(({ fromSource, origins }) => !fromSource && origins[0] !== 'files')) expect(row.noSource).toBeTruthy();
});

test('nothing is coloured and no cursor moves where output is no terminal', async () => {
  for (const args of [['list'], ['releases'], ['explain']]) {
    const { out, err } = await flatcarExt(args);
    // oxlint-disable-next-line no-control-regex -- escape sequences are what is looked for
    expect(out + err).not.toMatch(/\u001B/);
  }
});

test('a reader that goes away is no error', async () => {
  const { child, said } = start(['list', '--json']);
  child.stdout?.destroy();
  const { err } = await said;
  expect(err).not.toMatch(/EPIPE|at .*\.ts/);
});

describe('build', () => {
  const cache = (): Record<string, string> => ({ FLATCAR_EXT_CACHE: cacheRoot() });

  test('makes images of both architectures, portable and bound, and prints where they are and how to use them', async () => {
    const { code, out, err } = await buildYouki('both', ['--arch', 'x86-64,arm64', '--release', 'portable,4593.2.5'], cache()).said;
    expect(code, err).toBe(0);
    const images = [
      'portable/youki.portable_9.9.9_x86-64.raw',
      'portable/youki.portable_9.9.9_arm64.raw',
      '4593.2.5/youki.4593.2.5_9.9.9_x86-64.raw',
      '4593.2.5/youki.4593.2.5_9.9.9_arm64.raw',
    ];
    for (const image of images) {
      expect(out).toContain(join(dir, 'both/youki', image));
      await access(join(dir, 'both/youki', image));
    }
    expect(out).toMatch(/ln -s .* \/etc\/extensions\/youki-4593\.2\.5\.raw/);
    expect(err).toMatch(/binding youki 9\.9\.9 x86-64 to portable, 4593\.2\.5/);
  });

  test('what was made is inspected, linted, compared, verified and bound to another release', async () => {
    const [a, b] = await Promise.all([buildYouki('one', ['--json']).said, buildYouki('two', ['--release', '4593.2.5', '--json']).said]);
    expect([a.code, b.code], a.err + b.err).toEqual([0, 0]);
    const [image] = JSON.parse(a.out) as { file: string; sha256: string }[];
    const [bound] = JSON.parse(b.out) as { file: string }[];
    const [one, two] = [image?.file ?? '', bound?.file ?? ''];
    const inspected = JSON.parse((await flatcarExt(['inspect', one, '--json'])).out) as object;
    expect(JSON.stringify(inspected)).toContain('usr/bin/youki');
    expect((await flatcarExt(['lint', one, two])).out).toContain('nothing found');
    const difference = await flatcarExt(['diff', one, two]);
    expect(difference.out).toContain('extension-release.youki');
    expect(difference.out).not.toContain('usr/bin/youki');
    expect((await flatcarExt(['verify', one])).code).toBe(0);
    const rebound = await flatcarExt([
      'bind',
      join(dir, 'one/youki/payload'),
      '--release',
      '4081.3.10',
      '--out',
      join(dir, 'rebound'),
      '--json',
    ]);
    expect(rebound.code, rebound.err).toBe(0);
    expect(JSON.parse(rebound.out)).toEqual([expect.objectContaining({ target: '4081.3.10' })]);
    // A changed byte is found.
    const bytes = await readFile(one);
    bytes.writeUInt8(bytes.readUInt8(2000) ^ 1, 2000);
    await writeFile(one, bytes);
    const verified = await flatcarExt(['verify', one]);
    expect(verified.code).toBe(1);
  });

  test('--origin upstream never compiles: a server that says 404 or 503 is an error', async () => {
    answer = () => 404;
    const { code, err } = await buildYouki('never', [], { FLATCAR_EXT_CACHE: join(dir, 'fresh') }).said;
    expect(code).toBe(1);
    expect(err).toMatch(/404/);
    expect(err).not.toMatch(/compiling|FROM SOURCE/);
    await expect(access(join(dir, 'never/youki/portable'))).rejects.toThrow();
  });

  test('--origin auto does not fall back where the server answers', async () => {
    answer = () => 403;
    const { code, err } = await flatcarExt(['build', 'youki', '--pins', pins, '--mirror', mirror, '--out', join(dir, 'auto')], {
      FLATCAR_EXT_CACHE: join(dir, 'fresh'),
    });
    expect(code).toBe(1);
    expect(err).toMatch(/403/);
    expect(err).not.toMatch(/FROM SOURCE/);
  });

  test('--origin auto falls back loudly where no server answers, to an origin that is pinned', async () => {
    const { code, err } = await flatcarExt(
      ['build', 'youki', '--pins', pins, '--mirror', 'http://127.0.0.1:9', '--out', join(dir, 'auto')],
      { FLATCAR_EXT_CACHE: join(dir, 'fresh') },
    );
    expect(code).toBe(1);
    expect(err).toMatch(/cannot be reached[^]*BUILDING FROM SOURCE \(cargo\)/);
    expect(err).toMatch(/has no pin for this origin/); // the fixture's pins have none
  });

  test.each(['SIGINT', 'SIGTERM'] as const)('%s during a download leaves nothing half-written', async (signal) => {
    answer = () => 'drip';
    const store = join(dir, `store ${signal}`);
    const { child, said } = buildYouki(`stopped ${signal}`, [], { FLATCAR_EXT_CACHE: store });
    await expect.poll(() => asked.length, { timeout: 120_000 }).toBeGreaterThan(0);
    await new Promise((done) => {
      setTimeout(done, 200);
    });
    child.kill(signal);
    const { code, err } = await said;
    expect(code).toBe(signal === 'SIGINT' ? 130 : 143);
    expect(err).toContain('interrupted');
    await expect(access(join(dir, `stopped ${signal}`, 'youki'))).rejects.toThrow();
    expect(await readdir(join(store, 'temp')).catch(() => [])).toEqual([]);
    expect(await readdir(join(store, 'blobs')).catch(() => [])).toEqual([]);
  });

  test.each(['SIGINT', 'SIGTERM'] as const)('%s ends a command that waits for a server within two seconds', async (signal) => {
    const open = new Set<Socket>();
    const silent = createServer(() => undefined).on('connection', (socket: Socket) => open.add(socket));
    await new Promise<void>((done) => {
      silent.listen(0, '127.0.0.1', done);
    });
    const url = `http://127.0.0.1:${(silent.address() as AddressInfo).port}`;
    try {
      for (const args of [
        ['releases', 'update', '--from', `${url}/releases.json`],
        ['outdated', 'youki', '--mirror', url],
        ['build', 'youki', '--pins', pins, '--mirror', url, '--out', join(dir, 'silent')],
        ['plan', '--tree', url, '--trust-first-use'],
      ]) {
        const before = open.size;
        const { child, said } = start(args, { FLATCAR_EXT_CACHE: join(dir, 'silent store'), GITHUB_API_URL: url });
        let isOver = false;
        child.once('exit', () => (isOver = true));
        await expect.poll(() => open.size > before || isOver, { timeout: 120_000 }).toBe(true);
        if (isOver) throw new Error(`${args.join(' ')}: ${(await said).err}`);
        const killed = Date.now();
        child.kill(signal);
        expect((await said).code, args.join(' ')).toBe(signal === 'SIGINT' ? 130 : 143);
        expect(Date.now() - killed, args.join(' ')).toBeLessThan(2000);
      }
    } finally {
      silent.closeAllConnections();
      silent.close();
    }
  });

  test('two builds at once into one folder both succeed', async () => {
    const both = await Promise.all([buildYouki('same', ['--json']).said, buildYouki('same', ['--json']).said]);
    expect(both.map(({ code }) => code)).toEqual([0, 0]);
    expect(both[0]?.out).toBe(both[1]?.out);
    const left = await readdir(join(dir, 'same/youki/portable'));
    expect(left.filter((name) => name.endsWith('.tmp') || name.startsWith('.'))).toEqual([]);
  });
});
