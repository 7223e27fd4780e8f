import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { hostArch, openStore, openTools, sidecarPaths, type Manifest } from '@flatcar/core/engine';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { flatcarExt, type Ended } from './helpers/ci.ts';

// Names and texts of others by the real commands: whatever they hold, the terminal and the runner of a workflow get text.
const NASTY = 'evil\u001B[2J\u001B]8;;http://evil\u0007\u009B31m\u202E\u200B\r\n::error file=x::owned\n  ##[group]x\n\u001B[8mhidden';
const IN_ACTIONS = { GITHUB_ACTIONS: 'true', FORCE_COLOR: '0' };

let dir: string;
let image: string;
let hostile: string;

/** Throws where an output has what a terminal or GitHub's runner acts on. */
function expectHarmless({ out, err }: Ended): void {
  for (const text of [out, err]) {
    expect(text).not.toMatch(/[\p{Cf}\u2028\u2029]|(?![\t\n])\p{Cc}/u);
    const commands = text.split('\n').filter((line) => line.trimStart().startsWith('::') || line.includes('##['));
    expect(commands).toEqual([]);
  }
}

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'hostile-names-'));
  const built = await flatcarExt(['build', 'extension-stager', '--release', 'portable', '--arch', hostArch(), '--out', dir]);
  expect(built.code, built.err).toBe(0);
  expect(await flatcarExt(['keys', 'init', join(dir, 'keys')])).toMatchObject({ code: 0 });
  const sums = join(dir, 'extension-stager/portable/SHA256SUMS');
  const name = (await readdir(join(dir, 'extension-stager/portable'))).find((one) => one.endsWith('.raw')) ?? '';
  image = join(dir, 'extension-stager/portable', name);
  // The same image with one more file, whose name is anything but a name.
  hostile = join(dir, 'hostile', basename(image));
  await mkdir(join(dir, 'hostile'));
  const store = openStore();
  const tools = openTools(store);
  const tree = join(dir, 'tree');
  await tools.run('unsquashfs', ['-quiet', '-no-progress', '-no-xattrs', '-d', tree, image]);
  await mkdir(join(tree, 'usr/bin'), { recursive: true });
  await writeFile(join(tree, 'usr/bin', NASTY.replaceAll('/', '_')), 'x', { mode: 0o755 });
  await tools.run('mksquashfs', [tree, hostile, '-quiet', '-no-progress', '-all-root', '-comp', 'zstd']);
  const manifest = JSON.parse(await readFile(sidecarPaths(image).manifest, 'utf8')) as Manifest;
  const changed = { ...manifest, version: `1${NASTY}`, components: [{ name: NASTY, version: NASTY, license: NASTY, origin: 'files' }] };
  await writeFile(sidecarPaths(hostile).manifest, JSON.stringify(changed));
  await copyFile(sidecarPaths(image).sbom, sidecarPaths(hostile).sbom);
  await copyFile(sums, join(dir, 'hostile/SHA256SUMS'));
}, 240_000);
afterAll(() => rm(dir, { recursive: true, force: true }));

describe('an image with hostile names', () => {
  test.each([
    ['inspect', (): string[] => ['inspect', hostile]],
    ['inspect --json', (): string[] => ['inspect', hostile, '--json']],
    ['diff', (): string[] => ['diff', image, hostile]],
    ['diff --json', (): string[] => ['diff', image, hostile, '--json']],
    ['lint', (): string[] => ['lint', hostile]],
    ['lint --json', (): string[] => ['lint', hostile, '--json']],
    ['verify', (): string[] => ['verify', hostile]],
    [
      'publish',
      (): string[] => [
        'publish',
        dirname(hostile),
        '--tree',
        join(dir, 'published'),
        '--base-url',
        'http://localhost',
        '--keys',
        join(dir, 'keys'),
      ],
    ],
  ])('%s', async (title, args) => {
    const ended = await flatcarExt(args(), IN_ACTIONS);
    expectHarmless(ended);
    expect(ended.err).not.toContain('please report');
    if (!title.endsWith('--json')) return;
    // JSON stays JSON, and has the names as they are.
    const json = JSON.stringify(JSON.parse(ended.out));
    expect(json).toContain(JSON.stringify(NASTY.replaceAll('/', '_')).slice(1, 20));
  });

  test('has one row for one file', async () => {
    const { out } = await flatcarExt(['inspect', hostile]);
    expect(out.split('\n').filter((line) => line.includes('owned') && line.includes('evil'))).not.toEqual([]);
    expect(out.split('\n').filter((line) => line.includes('owned') && !line.includes('evil'))).toEqual([]);
  });
});

describe('a manifest, a record and a matrix with hostile texts', () => {
  const files: Record<string, string> = {
    'x.payload.json': JSON.stringify({ [NASTY]: 1, extension: NASTY }),
    'matrix.json': JSON.stringify({ include: [{ id: NASTY, [NASTY]: NASTY }] }),
    'broken.json': `{"a": ${NASTY}`,
  };
  test.each([
    ['bind', (): string[] => ['bind', join(dir, 'x.payload.json'), '--release', 'portable', '--out', join(dir, 'bound')]],
    ['ci bind', (): string[] => ['ci', 'bind', '--matrix', join(dir, 'matrix.json'), '--out', join(dir, 'bound')]],
    ['ci build', (): string[] => ['ci', 'build', '--matrix', join(dir, 'broken.json')]],
    ['ci build --job', (): string[] => ['ci', 'build', '--job', JSON.stringify({ id: NASTY, [NASTY]: 1 })]],
    ['ci report', (): string[] => ['ci', 'report', '--workflow', 'release', '--matrix', join(dir, 'matrix.json'), '--outcomes', dir]],
    [
      'ci report --results',
      (): string[] => ['ci', 'report', '--workflow', 'release', '--results', JSON.stringify({ [NASTY]: { result: 'failure' } })],
    ],
  ])('%s', async (_, args) => {
    for (const [name, text] of Object.entries(files)) await writeFile(join(dir, name), text);
    const ended = await flatcarExt(args(), IN_ACTIONS);
    expect(ended.code, ended.err).toBeGreaterThan(0);
    expectHarmless(ended);
    expect(ended.err).not.toContain('please report');
  });
});

test('bind writes nowhere but below --out, whatever a record names', async () => {
  const built = join(dir, 'extension-stager/payload');
  const name = (await readdir(built)).find((one) => one.endsWith('.payload.json')) ?? '';
  const payload = JSON.parse(await readFile(join(built, name), 'utf8')) as object;
  const lie = { extension: '/tmp/x', version: '1/../../x', upstream: '../1', revision: -1, arch: '../x', format: '../x', file: '../../x' };
  for (const [field, value] of Object.entries(lie)) {
    await rm(join(dir, 'forged'), { recursive: true, force: true });
    await mkdir(join(dir, 'forged'));
    const record = join(dir, 'forged/a.payload.json');
    await writeFile(record, JSON.stringify({ ...payload, [field]: value }));
    const { code, err } = await flatcarExt(['bind', record, '--release', 'portable', '--out', join(dir, 'forged/out')]);
    expect(code, field).toBe(1);
    expect(err).toContain(`invalid payload record: ${field}: `);
    expect(err).toContain(`at: ${record}:1`);
    expect(await readdir(join(dir, 'forged'))).toEqual(['a.payload.json']);
  }
}, 60_000);

describe('a server whose answers are hostile', () => {
  let server: Server;
  let url: string;
  beforeAll(async () => {
    server = createServer((_, response) => {
      response.writeHead(418, { 'content-type': 'application/json' });
      response.end(JSON.stringify({ message: NASTY, [NASTY]: [NASTY] }));
    });
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  afterAll(() => new Promise((done) => server.close(done)));

  test.each([
    ['outdated', (): string[] => ['outdated', 'youki', '--mirror', url]],
    ['outdated --json', (): string[] => ['outdated', 'youki', '--mirror', url, '--json']],
    ['plan', (): string[] => ['plan', 'restic', '--tree', url, '--trust-first-use']],
    ['new', (): string[] => ['new', 'evil', '--yes', '--url', `${url}/evil-{version}-{arch}`, '--checksum', 'none']],
    [
      'mirror',
      (): string[] => ['mirror', '--to', join(dir, 'mirror'), '--tree', url, '--trust-first-use', '--base-url', 'http://localhost'],
    ],
  ])('%s', async (_, args) => {
    const ended = await flatcarExt(args(), { ...IN_ACTIONS, GITHUB_API_URL: url });
    expect(ended.code, ended.err).toBeGreaterThan(0);
    expectHarmless(ended);
    expect(ended.err).not.toContain('please report');
  });
});

describe('words of a command line that are hostile', () => {
  const LONG = 'x'.repeat(100_000);
  test.each([
    'explain',
    'list',
    'lint',
    'inspect',
    'build',
    'outdated',
    'pin',
    'bump',
    'verify',
    'plan',
    'test',
    'withdraw',
    'docs',
    'cache',
  ])(
    '%s',
    async (command) => {
      for (const word of command === 'explain' ? [NASTY, '', LONG, '--\n::error::x', `--${NASTY}`, '-'] : [NASTY, '', LONG]) {
        const ended = await flatcarExt([command, word], IN_ACTIONS);
        expectHarmless(ended);
        expect(ended.err, JSON.stringify(word.slice(0, 50))).not.toMatch(/please report|\n\s+at .*:\d+:\d+|at: *$/m);
        // A file that is not there is no mistake of the command line.
        expect(word === '' ? [2] : [1, 2], `${command} ${JSON.stringify(word.slice(0, 50))}\n${ended.err}`).toContain(ended.code);
        expect(ended.err.length).toBeLessThan(10_000);
      }
    },
    120_000,
  );

  test.each([
    ['pin', 'yq', '--license', 'a=b', '--license', 'c=d'],
    ['new', 'yq', '--program', 'a', '--program', 'b', '--package', 'a', '--package', 'b', '--stamp', 'a=b', '--stamp', 'c=d'],
  ])('an option that takes several values takes them: %j', async (...args) => {
    expect((await flatcarExt(args)).err).not.toMatch(/twice/);
  });

  test.each([
    ['plan', '--release', 'stable', '--release', 'lts'],
    ['build', '--out=/a', 'yq', '--out=/b'],
  ])('an option that is specified twice: %j', async (...args) => {
    const { code, err } = await flatcarExt(args);
    expect(err).toMatch(/^error: --(?:release|out) is specified twice\n {2}do: specify it once\n$/);
    expect(code).toBe(2);
  });

  test('words after -- are words, and an empty one of a workflow is none', async () => {
    expect(await flatcarExt(['list', '--', '--json'])).toMatchObject({ code: 2 });
    const matrix = join(dir, 'none.json');
    expect(await flatcarExt(['ci', 'plan', 'extension-stager', '', '--out', matrix])).toMatchObject({ code: 0 });
  });
});
