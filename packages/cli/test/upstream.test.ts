import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';

const root = resolve(import.meta.dirname, '../../..');
const pins = join(root, 'extensions/kubernetes/pins.json');
/** By URL without `https://`: content, or a status. */
const served = new Map<string, string | number>();
let server: Server;
let env: NodeJS.ProcessEnv;
let cache: string;

interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Runs the real command. */
function run(...args: string[]): Promise<Ran> {
  return new Promise((done) => {
    const child = execFile(join(root, 'packages/cli/bin/flatcar-ext'), args, { env, maxBuffer: 64 << 20 }, (_, out, err) => {
      done({ code: child.exitCode ?? -1, out, err });
    });
  });
}

beforeAll(async () => {
  cache = await mkdtemp(join(tmpdir(), 'cli-upstream-'));
  server = createServer((request, response) => {
    const answer = served.get(decodeURI((request.url ?? '').slice(1))) ?? 404;
    response.writeHead(typeof answer === 'number' ? answer : 200);
    response.end(typeof answer === 'number' ? '' : answer);
  });
  await new Promise<void>((ready) => {
    server.listen(0, '127.0.0.1', ready);
  });
  env = {
    ...process.env,
    FLATCAR_EXT_MIRROR: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    FLATCAR_EXT_CACHE: cache,
    GOPROXY: 'off',
    GITHUB_TOKEN: '',
    GH_TOKEN: '',
    GITHUB_API_URL: '',
  };
});
afterAll(async () => {
  server.close();
  await rm(cache, { recursive: true, force: true });
});
beforeEach(() => {
  served.clear();
  const releases = (...tags: string[]): string => JSON.stringify(tags.map((tag_name) => ({ tag_name, draft: false, prerelease: false })));
  served
    .set('dl.k8s.io/release/stable.txt', 'v9.1.0')
    .set('dl.k8s.io/release/stable-9.0.txt', 'v9.0.7')
    .set('api.github.com/repos/kubernetes-sigs/cri-tools/releases?per_page=100', releases('v9.1.0', 'v9.0.0', 'v1.36.0', 'v1.37.0-rc.0'))
    .set('api.github.com/repos/containernetworking/plugins/releases?per_page=100', releases('v0.1.0'));
});

describe('outdated', () => {
  test('tells what upstream has, as a table and as JSON', async () => {
    const { code, out, err } = await run('outdated', 'kubernetes', '--json');
    expect({ code, err }).toEqual({ code: 0, err: '' });
    const { rows, errors } = JSON.parse(out) as {
      rows: { of: string; lead?: string; current?: string; newest?: string; outdated: boolean }[];
      errors: unknown[];
    };
    expect(errors).toEqual([]);
    expect(rows.filter(({ of }) => of === 'version').map(({ newest, outdated }) => [newest, outdated])).toEqual([
      ['9.1.0', true],
      ['9.0.7', true],
    ]);
    // Of the coupled: the newest that is not newer than the minor it goes with, and never a pre-release.
    const crictl = rows.filter(({ of }) => of === 'cri');
    expect(crictl.length).toBeGreaterThan(0);
    for (const { newest } of crictl) expect([undefined, '1.36.0']).toContain(newest);
    expect(rows.filter(({ of }) => of === 'cni').every(({ outdated }) => !outdated)).toBe(true);
    expect((await run('outdated', 'kubernetes')).out).toMatch(
      /kubernetes +- +9\.1\.0 +- +outdated +kubernetes https:\/\/dl\.k8s\.io\/release/,
    );
  });
  test('what fails is told beside what does not, and ends with 1', async () => {
    served.set('api.github.com/repos/containernetworking/plugins/releases?per_page=100', 404);
    const { code, out, err } = await run('outdated', 'kubernetes', '--json');
    expect(code).toBe(1);
    const { rows, errors } = JSON.parse(out) as { rows: unknown[]; errors: { of: string; error: string }[] };
    expect(rows.length).toBeGreaterThan(2);
    expect(errors).toEqual([expect.objectContaining({ of: 'cni', error: 'GitHub answered 404' })]);
    expect(err).toMatch(/1 version source could not be reached/);
    expect(err).toMatch(/at: extensions\/kubernetes\/extension\.ts:\d+ \(github containernetworking\/plugins\)/);
  });
  test('an extension that is not there', async () => {
    expect(await run('outdated', 'nothing')).toMatchObject({ code: 2, err: expect.stringMatching(/there is no extension 'nothing'/) });
  });
});

describe('bump', () => {
  test('that something could not be asked is never that it is up to date', async () => {
    served.clear();
    const { code, out, err } = await run('bump', '--dry-run', 'kubernetes', 'node-exporter');
    expect(code).toBe(1);
    expect(out).toBe('nothing is outdated among the extensions that could be checked\n');
    expect(err).toMatch(/2 of 2 extensions could not be bumped/);
    expect(err).toMatch(/at: kubernetes: extensions\/kubernetes\/extension\.ts:\d+ \(https:\/\/dl\.k8s\.io\/release\/stable\.txt\)/);
  });
});

describe('pin', () => {
  test('writes nothing when upstream has not the files', async () => {
    const before = await readFile(pins, 'utf8');
    const { code, err } = await run('pin', 'kubernetes@9.1.0', '--coupled', 'cni=0.1.0');
    expect(code).toBe(1);
    expect(err).toMatch(/could not be pinned; nothing was written/);
    expect(err).toMatch(/at: https:\/\/dl\.k8s\.io\/v9\.1\.0\/bin\/linux\/arm64\/kubelet\.sha256/);
    expect(await readFile(pins, 'utf8')).toBe(before);
  });
  test.each([
    ['kubernetes@v1.0.0', [], 2, /is not NAME or NAME@VERSION[^]*no leading v/],
    ['kubernetes@1.0.0-rc.1', [], 2, /not a version to pin/],
    ['kubernetes@9.1.0', ['--coupled', 'cri'], 2, /expected name=value/],
    ['kubernetes@9.1.0', ['--coupled', 'etcd=1'], 1, /'etcd' is not coupled to kubernetes/],
    ['nothing', [], 2, /there is no extension 'nothing'/],
  ])('%s %j', async (name, more, code, message) => {
    expect(await run('pin', name, ...more)).toMatchObject({ code, err: expect.stringMatching(message) });
  });
});

test('list tells of each component what is pinned, published and signed', async () => {
  const rows = JSON.parse((await run('list', '--json')).out) as Record<string, unknown>[];
  expect(rows.length).toBeGreaterThan(0);
  for (const { pinned, hashPublished, signatureChecked } of rows)
    expect([pinned, hashPublished, signatureChecked].every((one) => typeof one === 'boolean')).toBe(true);
});
