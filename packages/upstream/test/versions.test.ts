import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { upstream as releaseOrigin, UnreachableError, UserError, type VersionSource } from '@flatcar/core/engine';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { findOutdated } from '../src/update/outdated.ts';
import { keptVersions, listVersions, newerMajor } from '../src/sources/versions.ts';
import { extensionOf, openFakeInternet, type Answer, type FakeInternet } from './fake-internet.ts';

let internet: FakeInternet;
type Source = VersionSource extends infer S ? (S extends VersionSource ? Omit<S, 'track'> : never) : never;
const list = (source: Source | { tagPrefix?: string }): Promise<string[]> =>
  listVersions(
    { track: 'newest', ...('kind' in source ? source : { kind: 'github', repo: 'example/tool', ...source }) },
    internet.context(),
  );
const json = (value: unknown, headers: Record<string, string> = {}): Answer => ({ body: JSON.stringify(value), headers });
const release = (tag_name: string, more: object = {}): object => ({ tag_name, draft: false, prerelease: false, assets: [], ...more });
const GITHUB = 'api.github.com/repos/example/tool/releases?per_page=100';

beforeAll(async () => {
  internet = await openFakeInternet();
});
afterAll(() => internet.close());
beforeEach(() => {
  internet.served.clear();
  internet.asked.length = 0;
});
afterEach(() => vi.unstubAllEnvs());

describe('GitHub', () => {
  test('releases over all pages, without drafts, pre-releases and tags of other things', async () => {
    const next = 'https://api.github.com/repositories/1/releases?per_page=100&page=2';
    internet.served.set(
      GITHUB,
      json([release('v1.10.0'), release('v2.0.0-rc.1'), release('v2.0.0', { prerelease: true }), release('api/v9.0.0')], {
        link: `<${next}>; rel="next", <${next}>; rel="last"`,
      }),
    );
    internet.served.set(
      'api.github.com/repositories/1/releases?per_page=100&page=2',
      json([release('v1.9.0'), release('v3.0.0', { draft: true })], { link: '<https://api.github.com/1>; rel="prev"' }),
    );
    expect(await list({})).toEqual(['1.10.0', '1.9.0']);
  });
  test('the prefix of a tag may be anything', async () => {
    internet.served.set(GITHUB, json([release('shim-a/v0.6.1'), release('shim-b/v0.9.0'), release('v8.0.0')]));
    expect(await list({ tagPrefix: 'shim-a/v' })).toEqual(['0.6.1']);
    internet.served.set(GITHUB, json([release('1.30'), release('1.30.1'), release('v9')]));
    expect(await list({ tagPrefix: '' })).toEqual(['1.30.1', '1.30']);
  });
  test('tags, if there are no releases', async () => {
    const refs = ['v1.0.0', 'v1.1.0', 'v1.2.0-beta'].map((tag) => ({ ref: `refs/tags/${tag}`, object: { type: 'tag' } }));
    internet.served.set(GITHUB, json([])).set('api.github.com/repos/example/tool/git/matching-refs/tags/v?per_page=100', json(refs));
    expect(await list({})).toEqual(['1.1.0', '1.0.0']);
  });
  test('a rate limit of an hour is an error that says what to do', async () => {
    const reset = String(Math.floor(Date.now() / 1000) + 3600);
    const headers = { 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': reset };
    for (const status of [403, 429]) {
      internet.served.set(GITHUB, { ...json({ message: 'API rate limit exceeded' }, headers), status });
      await expect(list({})).rejects.toThrow(
        expect.objectContaining({
          message: expect.stringMatching(/no more requests until \d{4}-/),
          next: expect.stringMatching(/GITHUB_TOKEN/),
        }),
      );
    }
    expect(internet.asked).toHaveLength(2);
  });
  test('a limit that ends at once is waited for, and so are failures', async () => {
    let count = 0;
    internet.served.set(GITHUB, () => {
      count += 1;
      if (count === 1) return { status: 429, headers: { 'retry-after': '0' } };
      if (count === 2) return { status: 502 };
      return json([release('v1.0.0')]);
    });
    expect(await list({})).toEqual(['1.0.0']);
  });
  test.each([
    ['soon', 'a date that is none'],
    ['Wed, 21 Oct 2015 07:28:00 GMT', 'a date that is past'],
    ['', 'nothing'],
  ])("Retry-After '%s' (%s) neither hides the answer nor requiredPaths a time", async (value) => {
    let count = 0;
    internet.served.set(GITHUB, () => {
      count += 1;
      return count === 1 ? { status: 429, headers: { 'retry-after': value } } : json([release('v1.0.0')]);
    });
    expect(await list({})).toEqual(['1.0.0']);
    internet.served.set(GITHUB, { status: 429, headers: { 'retry-after': value } });
    const error: unknown = await list({}).catch((reason: unknown) => reason);
    expect(String(error)).not.toMatch(/Invalid time|cannot be reached|2015/);
    expect(error).toBeInstanceOf(UserError);
  });
  test('a limit with an invalid reset time is an error with its status', async () => {
    internet.served.set(GITHUB, { status: 403, headers: { 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': 'later' } });
    await expect(list({})).rejects.toThrow(/answered 403/);
  });
  test.each([
    [404, /answered 404/],
    [401, /answered 401/],
    [403, /answered 403/],
    [500, /answered 500/],
  ])('%i is an error, never an empty list', async (status, message) => {
    internet.served.set(GITHUB, { status });
    await expect(list({})).rejects.toThrow(message);
  });
  test('something that is not a list is an error', async () => {
    internet.served.set(GITHUB, '<html>sign in</html>');
    await expect(list({})).rejects.toThrow(/not JSON/);
    internet.served.set(GITHUB, json({ message: 'moved' }));
    await expect(list({})).rejects.toThrow(/invalid response: /);
    internet.served.set(GITHUB, json([release('release-1')]));
    await expect(list({})).rejects.toThrow(/lists no version/);
  });
  test('a next page at another host is not followed', async () => {
    internet.served.set(GITHUB, json([release('v1.0.0')], { link: '<http://evil.example/>; rel="next"' }));
    await expect(list({})).rejects.toThrow(/another host/);
  });
  test('a token goes to the API, not to a mirror', async () => {
    vi.stubEnv('GITHUB_TOKEN', 'secret');
    internet.served.set(GITHUB, json([release('v1.0.0')]));
    await list({});
    expect(internet.asked[0]?.headers.authorization).toBeUndefined();
    vi.stubEnv('GITHUB_API_URL', `${internet.mirror}/api/`);
    internet.served.set('api/repos/example/tool/releases?per_page=100', json([release('v2.0.0')]));
    const { mirror: _, ...direct } = internet.context();
    expect(await listVersions({ kind: 'github', repo: 'example/tool', track: 'newest' }, direct)).toEqual(['2.0.0']);
    expect(internet.asked[1]?.headers.authorization).toBe('Bearer secret');
  });
  test('a token does not follow to another host', async () => {
    vi.stubEnv('GITHUB_TOKEN', 'secret');
    vi.stubEnv('GITHUB_API_URL', `${internet.mirror}/api`);
    internet.served
      .set('api/repos/example/tool/releases?per_page=100', {
        status: 302,
        headers: { location: `${internet.mirror.replace('127.0.0.1', 'localhost')}/else` },
      })
      .set('else', json([release('v1.0.0')]));
    const { mirror: _, ...direct } = internet.context();
    expect(await listVersions({ kind: 'github', repo: 'example/tool', track: 'newest' }, direct)).toEqual(['1.0.0']);
    expect(internet.asked.map(({ headers }) => headers.authorization)).toEqual(['Bearer secret', undefined]);
  });
  test("GitLab's token goes to GitLab, or to the host that GITLAB_HOST names, and to no other that a definition names", async () => {
    vi.stubEnv('GITLAB_TOKEN', 'secret');
    internet.served.set('api/v4/projects/a%2Fb/releases?per_page=100', json([{ tag_name: 'v1.0.0' }]));
    const source = { kind: 'gitlab', repo: `${internet.mirror}/a/b`, track: 'newest' } as const;
    for (const host of ['', internet.mirror]) {
      vi.stubEnv('GITLAB_HOST', host);
      const { mirror: _, ...direct } = internet.context();
      expect(await listVersions(source, direct)).toEqual(['1.0.0']);
    }
    expect(internet.asked.map(({ headers }) => headers.authorization)).toEqual([undefined, 'Bearer secret']);
  });
  test('a host that does not answer', async () => {
    const context = { ...internet.context(), mirror: 'http://127.0.0.1:9' };
    await expect(listVersions({ kind: 'github', repo: 'example/tool', track: 'newest' }, context)).rejects.toThrow(UnreachableError);
  });
});

describe('GitLab', () => {
  test('releases of all pages, and tags if there are none', async () => {
    const base = 'gitlab.com/api/v4/projects/virt%2Ftool';
    internet.served.set(
      `${base}/releases?per_page=100`,
      json([{ tag_name: 'v1.14.0' }, { tag_name: 'v2.0.0', upcoming_release: true }], {
        link: `<https://${base}/releases?page=2>; rel="next"`,
      }),
    );
    internet.served.set(`${base}/releases?page=2`, json([{ tag_name: 'v1.13.3' }]));
    expect(await list({ kind: 'gitlab', repo: 'virt/tool' })).toEqual(['1.14.0', '1.13.3']);
    internet.served.set('gitlab.example.org/api/v4/projects/a%2Fb%2Fc/releases?per_page=100', json([]));
    internet.served.set(
      'gitlab.example.org/api/v4/projects/a%2Fb%2Fc/repository/tags?per_page=100',
      json([{ name: 'v3.1.0' }, { name: 'v3.2.0-rc1' }]),
    );
    expect(await list({ kind: 'gitlab', repo: 'https://gitlab.example.org/a/b/c' })).toEqual(['3.1.0']);
  });
});

describe('other sources', () => {
  test("kubernetes' channels, as many minors as are kept", async () => {
    internet.served
      .set('dl.k8s.io/release/stable.txt', 'v1.37.1')
      .set('dl.k8s.io/release/stable-1.36.txt', 'v1.36.4\n')
      .set('dl.k8s.io/release/stable-1.35.txt', 'v1.35.8');
    const source: VersionSource = { kind: 'kubernetes', url: 'https://dl.k8s.io/release', track: '3 minors' };
    expect(await keptVersions(source, internet.context())).toEqual(['1.37.1', '1.36.4', '1.35.8']);
    internet.served.set('dl.k8s.io/release/stable-1.35.txt', { status: 404 });
    await expect(listVersions(source, internet.context())).rejects.toThrow(/404/);
    internet.served.set('dl.k8s.io/release/stable.txt', '<html>');
    await expect(listVersions(source, internet.context())).rejects.toThrow(/does not contain a version/);
  });
  test("Docker's index pages: what both architectures have", async () => {
    const html = (...names: string[]): string =>
      `<html><pre>${names.map((name) => `<a href="${name}">${name}</a> 2026-09-01 80 MB`).join('\n')}</pre></html>`;
    internet.served.set(
      'example.org/stable/x86_64/',
      html('../', 'docker-29.9.0.tgz', 'docker-29.8.2.tgz', 'docker-rootless-extras-30.0.0.tgz', 'docker-30.0.0-rc.1.tgz'),
    );
    internet.served.set('example.org/stable/aarch64/', html('../', 'docker-29.8.2.tgz', 'docker-28.5.2.tgz'));
    const source: Source = { kind: 'page', url: 'https://example.org/stable/{machine}/', tagPrefix: 'docker-' };
    expect(await list(source)).toEqual(['29.8.2']);
    expect(await list({ ...source, url: 'https://example.org/stable/x86_64/' })).toEqual(['29.9.0', '29.8.2']);
    internet.served.set('example.org/stable/aarch64/', 'maintenance');
    await expect(list(source)).rejects.toThrow(/no links/);
  });
  test('JSON documents: HashiCorp, a text, a list', async () => {
    internet.served.set(
      'example.org/vault/index.json',
      json({ name: 'vault', versions: { '1.20.0': {}, '1.20.1': {}, '1.21.0-rc1': {}, '1.20.1+ent': {} } }),
    );
    expect(await list({ kind: 'json', url: 'https://example.org/vault/index.json#versions' })).toEqual(['1.20.1+ent', '1.20.1', '1.20.0']);
    internet.served.set('example.org/?mode=json', json({ Version: '1.104.1', all: ['v1.104.1', 'v1.104.0'], more: [{ version: '2.0' }] }));
    expect(await list({ kind: 'json', url: 'https://example.org/?mode=json#Version' })).toEqual(['1.104.1']);
    expect(await list({ kind: 'json', url: 'https://example.org/?mode=json#all', tagPrefix: 'v' })).toEqual(['1.104.1', '1.104.0']);
    expect(await list({ kind: 'json', url: 'https://example.org/?mode=json#more' })).toEqual(['2.0']);
    await expect(list({ kind: 'json', url: 'https://example.org/?mode=json#none' })).rejects.toThrow(/invalid response: /);
  });
  test('a Go module, by the real go from a proxy', async () => {
    const proxy = join(internet.dir, 'proxy', 'example.org', 'tool', '@v');
    await mkdir(proxy, { recursive: true });
    await writeFile(join(proxy, 'list'), 'v1.2.0\nv1.10.0\nv1.11.0-rc.1\n');
    for (const version of ['v1.2.0', 'v1.10.0', 'v1.11.0-rc.1']) {
      await writeFile(join(proxy, `${version}.info`), JSON.stringify({ Version: version, Time: '2026-01-01T00:00:00Z' }));
      await writeFile(join(proxy, `${version}.mod`), 'module example.org/tool\n');
    }
    vi.stubEnv('GOPROXY', `file://${join(internet.dir, 'proxy')}`);
    vi.stubEnv('GOSUMDB', 'off');
    expect(await list({ kind: 'go', module: 'example.org/tool' })).toEqual(['1.10.0', '1.2.0']);
    await expect(list({ kind: 'go', module: 'example.org/absent' })).rejects.toMatchObject({
      message: "the Go module proxy has no module 'example.org/absent'",
      next: expect.stringContaining('/v2'),
    });
    await expect(list({ kind: 'go', module: 'absent' })).rejects.toThrow("'absent' is not a valid Go module");
    // Major versions from 2 on have paths of their own; one may be left out.
    expect(await newerMajor('example.org/tool', '1.10.0', internet.context())).toBeUndefined();
    const major = join(internet.dir, 'proxy/example.org/tool/v2/@v');
    await mkdir(major, { recursive: true });
    await writeFile(join(major, 'list'), 'v2.4.1\n');
    await writeFile(join(major, 'v2.4.1.info'), JSON.stringify({ Version: 'v2.4.1', Time: '2026-01-01T00:00:00Z' }));
    await writeFile(join(major, 'v2.4.1.mod'), 'module example.org/tool/v2\n');
    expect(await newerMajor('example.org/tool', '1.10.0', internet.context())).toEqual({ module: 'example.org/tool/v2', version: '2.4.1' });
    expect(await newerMajor('example.org/tool/v2', '2.4.1', internet.context())).toBeUndefined();
  });
  test('a source by date offers none', async () => {
    expect(await list({ kind: 'date' })).toEqual([]);
  });
});

describe('outdated', () => {
  const pinned = (
    runc: string,
  ): { revision: number; coupled: Record<string, string>; licenses: Record<string, string>; bytes: object } => ({
    revision: 0,
    coupled: { runc },
    licenses: {},
    bytes: {},
  });
  const loaded = (name: string, keep: string, pins: Record<string, ReturnType<typeof pinned>>) => ({
    dir: internet.dir,
    extension: extensionOf([releaseOrigin('https://example.org/{version}')], {
      name,
      versions: { kind: 'github', repo: `example/${name}`, track: keep },
      coupled: { runc: { kind: 'github', repo: 'example/runc', track: 'newest' } },
    }),
    pins: pins as never,
    fixture: false,
  });
  const answers = (name: string, ...tags: string[]): unknown =>
    internet.served.set(`api.github.com/repos/example/${name}/releases?per_page=100`, json(tags.map((tag) => release(tag))));

  test('each kept branch, and what is coupled', async () => {
    answers('tool', 'v2.4.1', 'v2.3.7', 'v2.3.6', 'v1.7.40');
    answers('runc', 'v1.5.2', 'v1.5.1');
    const { rows, errors } = await findOutdated(
      [loaded('tool', '2 minors', { '2.3.6': pinned('1.5.1'), '2.2.9': pinned('1.5.2') })],
      internet.context(),
    );
    expect(errors).toEqual([]);
    const of = 'github example/tool';
    expect(rows).toEqual([
      { extension: 'tool', of: 'version', source: of, newest: '2.4.1', outdated: true },
      { extension: 'tool', of: 'version', source: of, current: '2.3.6', newest: '2.3.7', outdated: true },
      { extension: 'tool', of: 'runc', lead: '2.3.6', source: 'github example/runc', current: '1.5.1', newest: '1.5.2', outdated: true },
      { extension: 'tool', of: 'runc', lead: '2.2.9', source: 'github example/runc', current: '1.5.2', newest: '1.5.2', outdated: false },
    ]);
  });
  test('no downgrade is proposed, and a failure does not hide other results', async () => {
    answers('one', 'v1.0.0');
    answers('runc', 'v1.5.1');
    const two = [loaded('one', 'newest', { '1.1.0': pinned('1.5.1') }), loaded('two', 'newest', {})];
    const { rows, errors } = await findOutdated(two, internet.context());
    expect(rows[0]).toEqual({
      extension: 'one',
      of: 'version',
      source: 'github example/one',
      current: '1.1.0',
      newest: '1.1.0',
      outdated: false,
    });
    expect(errors).toEqual([expect.objectContaining({ extension: 'two', of: 'version', error: expect.stringMatching(/404/) })]);
  });
});
