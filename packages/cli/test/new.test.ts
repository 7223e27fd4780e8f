import { execFile, spawn } from 'node:child_process';
import { access, copyFile, mkdir, mkdtemp, readdir, readFile, readlink, rm, symlink, writeFile } from 'node:fs/promises';
import { createHash } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify, stripVTControlCharacters } from 'node:util';
import { ARCHES, cacheRoot, openStore, openToolchains, openTools, readToolPins, type Arch } from '@flatcar/core/engine';
import { shareStore } from '@flatcar/testing';
import { scaffold } from '@flatcar/workspace/new/package-files';
import type { Plan, Probe } from '@flatcar/workspace/new/plan';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { probe, reportedVersion } from '@flatcar/workspace/new/probe';

const root = resolve(import.meta.dirname, '../../..');
const run = promisify(execFile);
/** Keys as a terminal sends them. */
const ENTER = '\r';
const DOWN = '\u001B[B';
const BACKSPACE = '\u007F';
const CTRL_C = '\u0003';

/** A static program: nothing but the header of an ELF file (elf(5)). */
function program(arch: Arch): Buffer {
  const header = Buffer.alloc(64);
  header.write('\u007FELF', 0, 'latin1');
  header.set([2, 1, 1], 4);
  header.writeUInt16LE(2, 16);
  header.writeUInt16LE(arch === 'arm64' ? 183 : 62, 18);
  header.writeUInt16LE(56, 54);
  header.writeUInt16LE(64, 58);
  return header;
}

let copy: string;
let cache: string;
let server: Server;
/** By URL without `https://`; `hang` never answers. */
const served = new Map<string, string | Buffer>();
let onHang: () => void;
let env: NodeJS.ProcessEnv;

/** A person at a terminal of the real command, in a copy of the repository. */
interface Person {
  /** Waits until the terminal shows something that it did not show at the last call. */
  sees(text: string): Promise<void>;
  types(keys: string): void;
  kill(): void;
  readonly ended: Promise<{ code: number | null; shown: string }>;
}

function sit(...args: readonly string[]): Person {
  const command = [process.execPath, join(copy, 'packages/cli/src/main.ts'), ...args].map((word) => `'${word}'`).join(' ');
  const line = `stty cols 200 rows 50; echo "pid $$"; exec ${command}`;
  const child = spawn('script', ['--quiet', '--return', '--command', line, '/dev/null'], { env, cwd: copy });
  let shown = '';
  let from = 0;
  let changed = (): void => undefined;
  const add = (data: Buffer): void => {
    shown += stripVTControlCharacters(data.toString());
    changed();
  };
  child.stdout.on('data', add);
  child.stderr.on('data', add);
  const ended = new Promise<{ code: number | null; shown: string }>((done) => {
    child.on('close', (code) => {
      done({ code, shown });
      changed();
    });
  });
  return {
    ended,
    types: (keys) => void child.stdin.write(keys),
    kill: () => void process.kill(Number(/pid (\d+)/.exec(shown)?.[1]), 'SIGKILL'),
    async sees(text) {
      for (;;) {
        const at = shown.indexOf(text, from);
        if (at !== -1) {
          from = at + text.length;
          return;
        }
        if (child.exitCode !== null || child.signalCode !== null) throw new Error(`it ended without '${text}':\n${shown}`);
        await new Promise<void>((next) => {
          changed = next;
          setTimeout(next, 1000);
        });
      }
    },
  };
}

const there = (path: string): Promise<boolean> =>
  access(join(copy, path)).then(
    () => true,
    () => false,
  );
/** Files that are not as they were, and new ones. */
const changed = async (): Promise<string> =>
  (await run('sh', ['-c', 'git diff --name-only; git ls-files --others --exclude-standard'], { cwd: copy })).stdout;
const API = 'api.github.com/repos/example/tool';

/** Links to installed packages; the packages of the repository are those of the copy. */
async function linkModules(from: string, to: string): Promise<void> {
  for (const entry of await readdir(from, { withFileTypes: true })) {
    const { name } = entry;
    if (name.startsWith('.') && name !== '.bin') continue;
    if (entry.isSymbolicLink()) await symlink(await readlink(join(from, name)), join(to, name));
    else if (name === '@flatcar') {
      await mkdir(join(to, name));
      await linkModules(join(from, name), join(to, name));
    } else await symlink(join(from, name), join(to, name));
  }
}

beforeAll(async () => {
  copy = await mkdtemp(join(tmpdir(), 'new-'));
  cache = await mkdtemp(join(tmpdir(), 'new-cache-'));
  shareStore(cacheRoot(), cache); // tools, as there may be no network
  const files = 'git ls-files -z --cached --others --exclude-standard | tar --create --null --ignore-failed-read --files-from=-';
  await run('sh', ['-c', `${files} 2>/dev/null | tar --extract --directory ${copy}`], { cwd: root });
  // Its own folder with links to what is installed: nothing that is written here comes to the repository.
  await mkdir(join(copy, 'node_modules'));
  await linkModules(join(root, 'node_modules'), join(copy, 'node_modules'));
  await run('git', ['init', '--quiet'], { cwd: copy });
  await run('git', ['add', '--all'], { cwd: copy });
  const person = ['-c', 'user.name=test', '-c', 'user.email=test@example.org', '-c', 'commit.gpgsign=false'];
  await run('git', [...person, 'commit', '--quiet', '--message', 'copy'], { cwd: copy });
  server = createServer((request, response) => {
    const answer = served.get(decodeURI((request.url ?? '').slice(1)));
    if (answer === 'hang') return onHang();
    response.writeHead(answer === undefined ? 404 : 200);
    response.end(answer);
  });
  await new Promise<void>((ready) => {
    server.listen(0, '127.0.0.1', ready);
  });
  const { CI: _, ...others } = process.env;
  env = {
    ...others,
    TERM: 'xterm',
    SHELL: '/bin/sh',
    FLATCAR_EXT_MIRROR: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    FLATCAR_EXT_CACHE: cache,
    GITHUB_TOKEN: '',
    GH_TOKEN: '',
    GITHUB_API_URL: '',
  };
});
afterAll(async () => {
  server.closeAllConnections();
  server.close();
  for (const dir of [copy, cache]) await rm(dir, { recursive: true, force: true });
});
/** Options that leave no question open. */
const ALL = [
  '--url',
  'https://example.org/tool-1.2.3-linux-amd64',
  '--version',
  '1.2.3',
  '--license',
  'MIT',
  '--summary',
  'a tool',
  '--no-build',
];
/** Where scripts/run keeps which lock is installed. */
const installed = (): string => join(copy, 'node_modules/.installed');
beforeEach(async () => {
  await copyFile(join(copy, 'package-lock.json'), installed());
  served.clear();
  for (const arch of ARCHES) served.set(`example.org/tool-1.2.3-linux-${arch === 'arm64' ? 'arm64' : 'amd64'}`, program(arch));
});
afterEach(async () => {
  await run('git', ['checkout', '--quiet', '.'], { cwd: copy });
  await run('git', ['clean', '-fdq', 'extensions'], { cwd: copy });
});

describe('on a terminal', { timeout: 240_000 }, () => {
  test('it prompts for what it cannot find out, again after a wrong answer, and writes the package', async () => {
    const person = sit('new', 'tool', '--version', '1.2.3', '--no-build');
    await person.sees('Where does it come from?');
    await person.sees('files of GitHub releases');
    person.types(DOWN + ENTER);
    await person.sees('Which URL?');
    person.types(`https://example.org/tool-1.2.3-linux-amd64${ENTER}`);
    await person.sees('What is it, in one line?');
    person.types(ENTER);
    await person.sees('It cannot be empty.');
    person.types(`a tool of a test${ENTER}`);
    await person.sees('Its licence, as SPDX?');
    person.types(`GPL2${ENTER}`);
    await person.sees('It is not a valid SPDX expression');
    person.types(`${BACKSPACE.repeat(4)}MIT${ENTER}`);
    const { code, shown } = await person.ended;
    expect({ code, shown }).toMatchObject({ code: 0, shown: expect.stringContaining('tool 1.2.3: ') });
    const definition = await readFile(join(copy, 'extensions/tool/extension.ts'), 'utf8');
    expect(definition).toContain("summary: 'a tool of a test'");
    expect(definition).toContain("upstream('https://example.org/tool-{version}-linux-{arch}'");
    // Where nothing else lists versions, the page does that the files are on.
    expect(definition).toMatch(/kind: 'page', url: 'https:\/\/example\.org\/', track: 'newest', tagPrefix: 'tool-'/);
    expect(JSON.parse(await readFile(join(copy, 'extensions/tool/pins.json'), 'utf8'))).toMatchObject({
      '1.2.3': { licenses: { tool: 'MIT' } },
    });
    expect(await readFile(join(copy, 'README.md'), 'utf8')).toContain('| [tool](extensions/tool/README.md) | a tool of a test | 1.2.3 |');
    const lock = await readFile(join(copy, 'package-lock.json'), 'utf8');
    expect(lock).toContain('"extensions/tool": {');
    expect(await readFile(installed(), 'utf8')).toBe(lock);
  });

  test('Enter accepts what was found', async () => {
    const assets = ['amd64', 'arm64'].map((arch) => ({ name: `tool-linux-${arch}` }));
    served
      .set(`${API}/releases/latest`, JSON.stringify({ tag_name: 'v1.2.3', draft: false, prerelease: false, assets }))
      .set(`${API}/license`, JSON.stringify({ license: { spdx_id: 'ISC' } }))
      .set(API, JSON.stringify({ description: 'A tool of a page.' }));
    for (const arch of ARCHES)
      served.set(`github.com/example/tool/releases/download/v1.2.3/tool-linux-${arch === 'arm64' ? 'arm64' : 'amd64'}`, program(arch));
    const person = sit('new', 'tool', '--github', 'example/tool', '--checksum', 'none', '--no-build');
    await person.sees('What is it, in one line?');
    await person.sees('A tool of a page');
    person.types(ENTER);
    await person.sees('Its licence, as SPDX?');
    await person.sees('ISC');
    person.types(ENTER);
    expect(await person.ended).toMatchObject({ code: 0 });
    expect(await readFile(join(copy, 'extensions/tool/extension.ts'), 'utf8')).toContain("summary: 'A tool of a page'");
    expect(await readFile(join(copy, 'extensions/tool/pins.json'), 'utf8')).toContain('"tool": "ISC"');
  });

  test.each([
    ['the first question', [], 'Where does it come from?'],
    ['a later question', ['--url', 'https://example.org/tool-1.2.3-linux-amd64', '--version', '1.2.3', '--no-build'], 'What is it'],
  ])('Ctrl-C at %s ends it, and nothing is written', async (_, args, question) => {
    const person = sit('new', 'tool', ...args);
    await person.sees(question);
    person.types(CTRL_C);
    const { code, shown } = await person.ended;
    expect({ code, shown }).toMatchObject({ code: 130, shown: expect.stringContaining('nothing was written') });
    expect(await changed()).toBe('');
  });

  test('Ctrl-C while it pins leaves nothing', async () => {
    const hung = new Promise<void>((resolved) => {
      onHang = resolved;
    });
    served.set('example.org/tool-1.2.3-linux-arm64', 'hang');
    const person = sit('new', 'tool', ...ALL);
    await hung;
    person.types(CTRL_C);
    expect(await person.ended).toMatchObject({ code: 130 });
    expect(await there('extensions/tool')).toBe(false);
    expect(await changed()).toBe('');
    served.set('example.org/tool-1.2.3-linux-arm64', program('arm64'));
  });

  test('killed, it leaves no part of the package, and the next run succeeds', async () => {
    const hung = new Promise<void>((resolved) => {
      onHang = resolved;
    });
    served.set('example.org/tool-1.2.3-linux-arm64', 'hang');
    const person = sit('new', 'tool', ...ALL);
    await hung;
    person.kill();
    await person.ended;
    expect(await there('extensions/tool')).toBe(false);
    expect(await changed()).toBe('');
    served.set('example.org/tool-1.2.3-linux-arm64', program('arm64'));
    expect(await sit('new', 'tool', ...ALL).ended).toMatchObject({ code: 0 });
  });
});

// Whenever it is killed, the repository is whole: the package is there or it is not, the lists are old or new, and the next run completes the rest.
test('killed at any moment, the next run completes it', { timeout: 600_000 }, async () => {
  const args = ['new', 'tool', ...ALL, '--yes'];
  const start = (): { pid: number; ended: Promise<number | null> } => {
    const child = spawn(process.execPath, [join(copy, 'packages/cli/src/main.ts'), ...args], { env, cwd: copy, stdio: 'ignore' });
    return { pid: child.pid ?? 0, ended: new Promise((done) => void child.on('close', done)) };
  };
  const clean = (): Promise<unknown> => run('sh', ['-c', 'rm -rf extensions/tool && git checkout --quiet .'], { cwd: copy });
  const wait = (ms: number): Promise<void> => new Promise((done) => void setTimeout(done, ms));
  const began = Date.now();
  expect(await start().ended).toBe(0);
  const whole = Date.now() - began;
  const expected = { status: await changed(), lock: await readFile(join(copy, 'package-lock.json'), 'utf8') };
  expect(expected.status).toMatch(/README\.md\npackage-lock\.json/);
  const outcomes = new Map<string, number>();
  for (let kill = 0; kill < 14; kill += 1) {
    await clean();
    const { pid, ended } = start();
    // Twelve over the whole run, and some just behind the rename.
    if (kill < 12) await wait((whole * (kill + 0.5)) / 12);
    else while (!(await there('extensions/tool/extension.ts'))) await wait(1);
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // it had ended
    }
    await ended;
    const isThere = await there('extensions/tool');
    if (isThere)
      for (const name of ['extension.ts', 'pins.json', 'README.md', 'package.json', 'CHANGELOG.md'])
        expect(await there(`extensions/tool/${name}`), name).toBe(true);
    const lock = await readFile(join(copy, 'package-lock.json'), 'utf8');
    expect(() => JSON.parse(lock) as unknown).not.toThrow();
    const isListed = lock.includes('"extensions/tool"');
    const name = isListed ? 'listed' : isThere ? 'in place' : 'absent';
    outcomes.set(name, (outcomes.get(name) ?? 0) + 1);
    if (name === 'listed') continue; // it was done
    expect(await start().ended).toBe(0);
    expect(await changed()).toBe(expected.status);
    expect(await readFile(join(copy, 'package-lock.json'), 'utf8')).toBe(expected.lock);
    expect(await readdir(join(copy, 'dist/new')).catch(() => [])).toEqual([]);
    // Nothing that it started runs on.
    const folders = (await run('sh', ['-c', 'readlink /proc/[0-9]*/cwd 2>/dev/null || true'])).stdout.split('\n');
    expect(folders.filter((folder) => folder.startsWith(copy))).toEqual([]);
  }
  console.log(`kills: ${JSON.stringify(Object.fromEntries(outcomes))}`);
  expect(outcomes.get('absent') ?? 0).toBeGreaterThan(3);
  await clean();
});

describe('without a terminal', { timeout: 240_000 }, () => {
  /** Runs the command of the copy. */
  const flatcarExt = async (...args: readonly string[]): Promise<{ code: number; out: string; err: string }> =>
    run(process.execPath, [join(copy, 'packages/cli/src/main.ts'), ...args], { env, cwd: copy }).then(
      ({ stdout, stderr }) => ({ code: 0, out: stdout, err: stderr }),
      ({ code, stdout, stderr }: { code: number; stdout: string; stderr: string }) => ({ code, out: stdout, err: stderr }),
    );
  const text = (path: string): Promise<string> => readFile(join(copy, path), 'utf8');
  const TOOL = ['--url', 'https://example.org/tool-1.2.3-linux-amd64', '--version', '1.2.3', '--license', 'MIT', '--summary', 'a tool'];

  test('without a build, the test fails until it is completed, and lint names the line', async () => {
    const { code, out } = await flatcarExt('new', 'tool', ...TOOL, '--no-build');
    expect({ code, out }).toMatchObject({ code: 0, out: expect.stringContaining('which fails until then') });
    expect(await text('extensions/tool/test/extension.test.ts')).toContain("{ run: ['tool', '--version'], says: /NOT TRIED/ }");
    const linted = await flatcarExt('lint', 'tool');
    expect(linted.code).toBe(1);
    expect(`${linted.out}${linted.err}`).toMatch(/not-tried[\s\S]*extensions\/tool\/test\/extension\.test\.ts:4/);
  });

  test('what cannot be built is kept, and the errors name existing files and the next step', async () => {
    const { code, err } = await flatcarExt('new', 'tool', ...TOOL, '--unit', '/usr/bin/other --daemon');
    expect({ code, err }).toMatchObject({ code: 1, err: expect.stringContaining('tool was written, but could not be built or tried') });
    const named = [...err.matchAll(/^ +at: (\S+?)(?::\d+)?$/gm)].map(([, path = '']) => path);
    expect(named).toContain(join(copy, 'extensions/tool/files/usr/lib/systemd/system/tool.service'));
    for (const path of named) await access(path);
    expect(err).toContain('do: correct it and run flatcar-ext build tool, or remove it');
    expect(await text('package-lock.json')).toContain('"extensions/tool": {');
    expect(await text('extensions/tool/test/extension.test.ts')).toContain('/NOT TRIED/');
  });

  test('a license that SPDX does not have is refused before anything is fetched', async () => {
    served.clear();
    const { code, err } = await flatcarExt('new', 'tool', ...TOOL.map((word) => (word === 'MIT' ? 'GPL-9' : word)));
    expect({ code, err }).toMatchObject({ code: 2, err: expect.stringContaining("'GPL-9' is not a valid SPDX expression") });
  });

  test('an extension of own files: a folder with the layout of the image, and everything that npm and lint require', async () => {
    const tree = await mkdtemp(join(tmpdir(), 'new-tree-'));
    try {
      await mkdir(join(tree, 'usr/bin'), { recursive: true });
      await mkdir(join(tree, 'usr/share/site'), { recursive: true });
      await mkdir(join(tree, 'usr/lib/systemd/system'), { recursive: true });
      await writeFile(join(tree, 'usr/bin/site-hello'), '#!/bin/sh\necho hello from site-hello\n', { mode: 0o755 });
      await writeFile(join(tree, 'usr/share/site/data'), 'data\n');
      await writeFile(
        join(tree, 'usr/lib/systemd/system/site.service'),
        '[Unit]\nDescription=Site\n\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/usr/bin/site-hello\n',
      );
      const made = await flatcarExt('new', 'site', '--files', tree, '--summary', 'the tools of a site', '--unit', 'site.service');
      expect(made).toEqual({ code: 0, out: expect.any(String), err: expect.any(String) });
      expect(Object.keys(JSON.parse(await text('extensions/site/pins.json')) as object)).toEqual([
        expect.stringMatching(/^20\d\d\.\d\d\.\d\d$/),
      ]);
      expect(await text('extensions/site/extension.ts')).toMatch(
        /kind: 'date'[\s\S]*components: \(\) => \[\],\n {2}start: \['site\.service'\]/,
      );
      expect(await text('extensions/site/test/extension.test.ts')).toContain("paths: ['/usr/bin/site-hello', '/usr/share/site/data']");
      expect(await text('extensions/site/CHANGELOG.md')).toContain('first version');
      expect(await text('README.md')).toContain('| [site](extensions/site/README.md) |');
      expect(JSON.parse(await text('extensions/site/package.json'))).toMatchObject({ dependencies: { '@flatcar/core': '*' } });
      // As in a fresh clone: the lock and the packages agree, and nothing of lint is left.
      await run('npm', ['ci', '--dry-run', '--offline', '--ignore-scripts', '--no-audit', '--no-fund'], { env, cwd: copy });
      await run(join(root, 'node_modules/.bin/turbo'), ['boundaries'], { env: { ...env, TURBO_TELEMETRY_DISABLED: '1' }, cwd: copy });
      expect(await flatcarExt('lint', 'site')).toMatchObject({ code: 0 });
      expect(await flatcarExt('docs', '--check')).toMatchObject({ code: 0 });
      expect((await run(join(root, 'node_modules/.bin/oxfmt'), ['--check', 'extensions/site'], { env, cwd: copy })).stdout).toContain(
        'correct',
      );
    } finally {
      await rm(tree, { recursive: true, force: true });
    }
  });

  test('own files without a folder get a placeholder; a folder with another layout is refused', async () => {
    expect(await flatcarExt('new', 'empty-site', '--files', '--summary', 'to be filled in')).toMatchObject({ code: 0 });
    expect(await text('extensions/empty-site/files/usr/share/empty-site/README')).toBe('to be filled in\n');
    const tree = await mkdtemp(join(tmpdir(), 'new-tree-'));
    try {
      await mkdir(join(tree, 'etc'));
      await writeFile(join(tree, 'etc/x'), 'x');
      expect(await flatcarExt('new', 'other-site', '--files', tree, '--summary', 'x')).toMatchObject({
        code: 1,
        err: expect.stringContaining("'etc/x' is not below usr/"),
      });
      expect(await flatcarExt('new', 'other-site', '--files', tree, '--go', 'example.org/x')).toMatchObject({ code: 2 });
    } finally {
      await rm(tree, { recursive: true, force: true });
    }
  });
});

test('without a terminal, an unknown value is an error that names its option, and so is a wrong license', async () => {
  const args = [
    join(copy, 'packages/cli/src/main.ts'),
    'new',
    'tool',
    '--url',
    'https://example.org/tool-1.2.3-linux-amd64',
    '--version',
    '1.2.3',
    '--no-build',
  ];
  await expect(run(process.execPath, args, { env, cwd: copy })).rejects.toMatchObject({
    stderr: expect.stringMatching(/no --summary given: What is it, in one line\?\n.*pass --summary/),
  });
  await expect(run(process.execPath, [...args, '--summary', 'x', '--license', 'GPL2'], { env, cwd: copy })).rejects.toMatchObject({
    stderr: expect.stringContaining("'GPL2' is not a valid SPDX expression"),
  });
  expect(await changed()).toBe('');
});

test('k3s: from a saved listing to a Butane config, with a version that has a plus sign', { timeout: 600_000 }, async () => {
  const dir = await mkdtemp(join(tmpdir(), 'new-k3s-'));
  const flatcarExt = async (...args: readonly string[]): Promise<string> =>
    (await run(process.execPath, [join(copy, 'packages/cli/src/main.ts'), ...args], { env, cwd: copy })).stdout;
  try {
    const names = [
      'k3s',
      'k3s-arm64',
      'k3s-armhf',
      'k3s-airgap-images-amd64.tar.zst',
      'k3s-airgap-images-arm64.tar.zst',
      'k3s-images.txt',
      'sha256sum-amd64.txt',
      'sha256sum-arm64.txt',
    ];
    const listing = join(dir, 'listing.json');
    await writeFile(
      listing,
      JSON.stringify({ tag_name: 'v1.33.1+k3s1', draft: false, prerelease: false, assets: names.map((name) => ({ name })) }),
    );
    for (const [arch, word, name] of [
      ['x86-64', 'amd64', 'k3s'],
      ['arm64', 'arm64', 'k3s-arm64'],
    ] as const) {
      const at = 'github.com/k3s-io/k3s/releases/download/v1.33.1+k3s1';
      const digest = createHash('sha256').update(program(arch)).digest('hex');
      served.set(`${at}/${name}`, program(arch)).set(`${at}/sha256sum-${word}.txt`, `${digest}  ${name}\n`);
    }
    await flatcarExt(
      'new',
      'k3s',
      '--github',
      'k3s-io/k3s',
      '--listing',
      listing,
      '--license',
      'Apache-2.0',
      '--summary',
      'k3s, a small Kubernetes',
      '--no-build',
    );
    const definition = await readFile(join(copy, 'extensions/k3s/extension.ts'), 'utf8');
    expect(definition).toContain(
      "releases.asset('k3s{arch}', { arch: { 'x86-64': '', arm64: '-arm64' }, checksum: 'sha256sum-{goarch}.txt' })",
    );
    const pins = JSON.parse(await readFile(join(copy, 'extensions/k3s/pins.json'), 'utf8')) as Record<
      string,
      { bytes: Record<string, { proof: string }> }
    >;
    expect(Object.keys(pins)).toEqual(['1.33.1+k3s1']);
    expect(Object.values(pins['1.33.1+k3s1']?.bytes ?? {}).map(({ proof }) => proof)).toEqual(['sha256 list', 'sha256 list']);

    const [images, keys, tree] = ['images', 'keys', 'tree'].map((name) => join(dir, name));
    if (images === undefined || keys === undefined || tree === undefined) throw new Error('folders');
    await flatcarExt('build', 'k3s', '--arch', 'x86-64,arm64', '--release', 'portable', '--profile', 'publish', '--out', images);
    await flatcarExt('keys', 'init', keys);
    await flatcarExt('publish', images, '--tree', tree, '--keys', keys, '--base-url', 'https://extensions.example.org');
    const file = 'k3s.portable_1.33.1+k3s1_x86-64.raw';
    await access(join(tree, 'k3s/portable', file)); // its name has the plus sign, and URLs have it escaped
    expect(await readFile(join(tree, 'k3s/portable/SHA256SUMS'), 'utf8')).toContain(`  ${file}`);
    const url = 'https://extensions.example.org';
    const node = ['--release', 'portable', '--arch', 'x86-64', '--base-url', url, '--tree', tree, '--minimal'];
    const trust = ['--root', join(keys, 'metadata')];
    for (const wanted of ['k3s', 'k3s@1.33', 'k3s@1.33.1+k3s1']) {
      const butane = await flatcarExt('butane', wanted, ...node, ...trust);
      expect(butane).toContain(`source: ${url}/k3s/portable/k3s.portable_1.33.1%2Bk3s1_x86-64.raw`);
      expect(butane).toContain(`path: /opt/extensions/k3s/${file}`);
    }
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
});

test.each([
  ['xz (XZ Utils) 5.8.1\nliblzma 5.8.1', 'xz', '5.8.1'],
  ['PowerDNS Recursor 5.4.9 (C) PowerDNS.COM BV', 'pdns_recursor', '5.4.9'],
  ['tig version 2.5.8\nncursesw version 6.5.20250216', 'tig', '2.5.8'],
  ['chronyd (chrony) version 4.6.1 (+CMDMON +NTP)', 'chronyd', '4.6.1'],
  ['yq (https://github.com/mikefarah/yq/) version v4.54.2', 'yq', '4.54.2'],
  ['usage: tool [-a 1.2] [-b 3.4]', 'tool', undefined],
  ['no version here', 'tool', undefined],
])('%j: the version that %s reports is %s', (output, program, version) => {
  expect(reportedVersion(output, program)).toBe(version);
});

test('the test of a program without a version is a line of its help: xz, in a dated extension', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'probe-'));
  try {
    const tools = await readToolPins();
    const plan: Plan = {
      name: 'tool',
      summary: 'a tool',
      version: '2026.11.27',
      license: '0BSD',
      track: 'newest',
      programs: ['tool'],
      debian: { component: 'tool', packages: ['xz-utils'], suite: tools.suite, programs: ['xz'] },
    };
    const core = pathToFileURL(join(root, 'packages/core/src/engine.ts')).href;
    const written = (name: string, probes: readonly Probe[] = []): string =>
      scaffold(plan, probes).find(({ path }) => path === name)?.text ?? '';
    await writeFile(
      join(dir, 'extension.ts'),
      written('extension.ts')
        .replace('@flatcar/core', core)
        .replace(/(?=programs:)/, "rename: { xz: 'tool' }, "),
    );
    const bytes = ARCHES.flatMap((arch) =>
      ['xz-utils', 'liblzma5', 'libc6', 'libgcc-s1'].flatMap((name) => {
        const { path, sha256, size } = tools.packages[arch][name] ?? {};
        return path === undefined ? [] : [[`debian:${path}`, { sha256, size, proof: 'nothing published: as first downloaded' }]];
      }),
    );
    const lock = { revision: 0, licenses: { tool: '0BSD' }, snapshot: tools.snapshot, bytes: Object.fromEntries(bytes) };
    await writeFile(join(dir, 'pins.json'), JSON.stringify({ '2026.11.27': lock }));
    const store = openStore();
    const report = (): void => undefined;
    const context = { store, tools: openTools(store), toolchains: openToolchains(store), report, cache: new Map() };
    const { probes, others } = await probe(dir, plan, context, report);
    expect(others).toEqual([{ program: 'tool', reported: expect.stringMatching(/^5\./) }]);
    expect(probes).toEqual([{ run: ['tool', '--help'], says: expect.stringMatching(/^Compress or decompress FILEs/) }]);
    // The written test asks it so, and the program answers so.
    const [, args = '', says = ''] = /run: \['tool', '(.*)'\], says: \/(.*)\/ \}/.exec(written('test/extension.test.ts', probes)) ?? [];
    expect(await context.tools.run('xz', [args])).toMatch(new RegExp(says));
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
});
