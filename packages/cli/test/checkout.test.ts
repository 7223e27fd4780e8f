import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { cacheRoot, exec } from '@flatcar/core/engine';
import { copyRepository, linkPackages } from '@flatcar/testing/checkout';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { failureRecord, inputsOf } from '@flatcar/workspace/ci/backoff';
import { readPlan } from '@flatcar/workspace/ci/job';
import { readOutcomes } from '@flatcar/workspace/ci/outcome';
import { FakeGitHub } from '@flatcar/workspace/test/helpers/fake-github';

// Steps of the workflows that change a checkout, or ask git what changed: in a copy of this repository.
let checkout: string;
let dir: string;

const git = (...args: string[]): Promise<string> => exec('git', ['-c', 'user.name=t', '-c', 'user.email=t@t', ...args], { cwd: checkout });
const commit = async (file: string): Promise<void> => {
  await writeFile(join(checkout, file), `${await readFile(join(checkout, file), 'utf8')}\n`);
  await git('commit', '--quiet', '--all', '--message', file);
};
async function ci(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<{ exitCode?: number | undefined; all: string }> {
  const plain = Object.fromEntries(
    Object.entries(process.env).filter(([key]) => !/^(?:GITHUB_|FLATCAR_EXT_(?!RELEASES$)|FORCE_COLOR|TURBO_)/.test(key)),
  );
  return execa(join(checkout, 'packages/cli/bin/flatcar-ext'), ['ci', ...args], {
    cwd: dir,
    all: true,
    reject: false,
    extendEnv: false,
    env: { ...plain, PATH: `${join(checkout, 'node_modules/.bin')}:${process.env['PATH'] ?? ''}`, FLATCAR_EXT_CACHE: cacheRoot(), ...env },
  });
}

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'checkout-'));
  checkout = join(dir, 'repository');
  await copyRepository(checkout);
  await linkPackages(checkout);
  await git('init', '--quiet');
  await git('add', '--all');
  await git('commit', '--quiet', '--message', 'first');
});
afterAll(() => rm(dir, { recursive: true, force: true }));

test('ci test: what every change must pass, and all tests of what a change has an effect on', async () => {
  const listed = async (base: string): Promise<string[]> => {
    const { exitCode, all } = await ci(['test', '--base', base, '--dry-run']);
    expect(exitCode, all).toBe(0);
    const [usual, ...more] = all.split('\n');
    expect(usual).toBe('what every change must pass: unit, docs, merge, machine, without tests of the tag full');
    return more;
  };
  expect(await listed('HEAD')).toEqual([]);
  await commit('extensions/ripgrep/README.md');
  expect(await listed('HEAD~1')).toEqual(['everything else of extensions/ripgrep/: merge, tests of the tag full']);
  await commit('docs/security.md');
  expect(await listed('HEAD~1')).toEqual([]);
  // The small extensions stand for all that core builds; core has merge tests of its own, and knows other distributions.
  await commit('packages/core/src/debian/archive.ts');
  expect(await listed('HEAD~1')).toEqual(['everything else of packages/core/: merge, tests of the tag full', 'ubuntu: ubuntu']);
  await commit('packages/components/index.ts');
  const [users = ''] = await listed('HEAD~1');
  expect(users).toMatch(/^everything else of extensions\/.* extensions\/kubernetes\/ .* packages\/components\/: merge/);
  expect(users).not.toContain('extensions/yq/');
  await commit('.github/workflows/ci.yml');
  expect(await listed('HEAD~1')).toEqual(['workflows: workflows']);
  const unknown = await ci(['test', '--base', 'no-such-branch', '--dry-run']);
  expect(unknown).toMatchObject({ exitCode: 1, all: expect.stringContaining("did not start from a commit 'no-such-branch'") as string });
}, 300_000);

test('ci update: each by itself; one whose upstream cannot be reached holds back no other, and leaves the checkout as it was', async () => {
  // Nobody listens there: kubernetes has an upstream to ask, extension-stager has none.
  const { exitCode, all } = await ci(['update', ' kubernetes  extension-stager ', '--outcomes', join(dir, 'outcomes')], {
    FLATCAR_EXT_MIRROR: 'http://127.0.0.1:9',
  });
  expect(exitCode, all).toBe(1);
  expect(all).toContain('could not be updated: kubernetes');
  const { outcomes } = await readOutcomes(join(dir, 'outcomes'));
  expect(outcomes.map(({ step, extension, ok }) => `${step} ${extension} ${ok}`).toSorted()).toEqual([
    'update extension-stager true',
    'update kubernetes false',
  ]);
  expect(outcomes.find(({ ok }) => !ok)?.error).toContain('cannot be reached');
  expect(await git('status', '--short')).toBe('');
}, 600_000);

test('ci update in a workflow: outcomes of all steps outside of the checkout, pull requests for news only, and no token in a child', async () => {
  const bare = join(dir, 'server/owner/repo.git');
  const fake = await FakeGitHub.start(dirname(bare));
  const { github } = fake;
  const bin = join(checkout, 'packages/cli/bin/flatcar-ext');
  const seen = join(dir, 'seen');
  // A stand-in for bump alone, whose upstreams cannot be had here: bird and docker have news, gvisor fails half-way, btop has none.
  const ask = `for (const [method, path] of [['GET', '/repos/some/project/releases'], ['POST', '/repos/owner/repo/pulls'], ['GET', '/repos/owner/repo/issues'], ['GET', '/user']]) console.error(method, path, (await fetch(process.env.GITHUB_API_URL + path, { method })).status)`;
  const bumped = (name: string): string =>
    JSON.stringify([
      {
        extension: name,
        from: '1.0.0',
        version: '1.0.1',
        pinned: { revision: 0, lines: [] },
        proofs: [],
        changes: [`${name} 1.0.0 → 1.0.1`],
        dropped: [],
        noDifference: 'not requested',
      },
    ]);
  await rename(bin, `${bin}-real`);
  await writeFile(
    bin,
    `#!/bin/bash
[ "$1" = bump ] || exec "$0-real" "$@"
env >>'${seen}'
case $2 in
  bird) node --input-type=module -e "${ask}"; echo '{}' >>extensions/bird/pins.json; echo '${bumped('bird')}' ;;
  docker) echo '{}' >>packages/components/runc/pins.json; echo '{}' >>extensions/docker/pins.json; echo '${bumped('docker')}' ;;
  gvisor) echo half >>extensions/gvisor/CHANGELOG.md; echo 'the second branch failed' >&2; exit 1 ;;
  *) echo '[]' ;;
esac
`.replace('#!/bin/bash\n', `#!/bin/bash\ncd '${checkout}'\n`),
    { mode: 0o755 },
  );
  await git('add', '--all');
  await git('commit', '--quiet', '--message', 'stand-in');
  await exec('git', ['init', '--quiet', '--bare', '--initial-branch=main', bare]);
  await git('push', '--quiet', bare, 'HEAD:refs/heads/main');
  const temp = await mkdtemp(join(dir, 'runner-'));
  const env = {
    GITHUB_ACTIONS: 'true',
    RUNNER_TEMP: temp,
    GITHUB_API_URL: github.api,
    GITHUB_SERVER_URL: github.server,
    GITHUB_REPOSITORY: 'owner/repo',
    GITHUB_RUN_ID: '1',
    GITHUB_REF_NAME: 'main',
    GITHUB_TOKEN: github.token,
    UPDATE_TOKEN: 'secret',
    AWS_SECRET_ACCESS_KEY: 'secret',
    GITHUB_STEP_SUMMARY: '',
  };
  try {
    const { exitCode, all } = await ci(['update', 'hardening gvisor docker bird btop'], env);
    expect(exitCode, all).toBe(1);
    const { outcomes } = await readOutcomes(join(temp, 'outcomes'));
    expect(outcomes.map(({ extension, ok }) => `${extension} ${ok}`)).toEqual([
      'bird true',
      'btop true',
      'docker true',
      'gvisor false',
      'hardening true',
      'shared-components true',
    ]);
    const branches = (await exec('git', ['for-each-ref', '--format=%(refname:short)', 'refs/heads/update'], { cwd: bare })).split('\n');
    expect(branches).toEqual(['update/bird', 'update/shared-components']);
    expect(fake.pulls.map(({ title }) => title)).toEqual(['Shared components: newer versions', 'bird: newer versions']);
    expect(fake.pulls[1]?.body).toContain('`bird 1.0.0 → 1.0.1`');
    expect(await exec('git', ['diff', '--name-only', 'main', 'update/bird'], { cwd: bare })).toBe('extensions/bird/pins.json');
    expect(await readFile(seen, 'utf8')).not.toMatch(/secret|ghs_/);
    // Upstream's releases can be read without a token, and nothing else.
    expect(all).toContain('GET /repos/some/project/releases 404');
    expect(all).toContain('POST /repos/owner/repo/pulls 403');
    expect(all).toContain('GET /repos/owner/repo/issues 403');
    expect(all).toContain('GET /user 403');
    expect(await git('status', '--short')).toBe('');
    fake.changes();
    await ci(['update', 'hardening gvisor docker bird btop'], env);
    expect(fake.changes()).toEqual([]);
    const told = await ci(['report', '--workflow', 'update', '--results', '{"update":{"result":"failure"}}'], env);
    expect(told.exitCode).toBe(1);
    expect(fake.issues.map(({ title }) => title)).toEqual(['gvisor: update fails']);
    expect((await ci(['update', 'gvisor', '--limit', '0'], env)).exitCode).toBe(2);
    expect((await ci(['update', 'no-such'], env)).exitCode).toBe(2);
  } finally {
    await fake.stop();
    await git('reset', '--quiet', '--hard', 'HEAD~1');
  }
}, 600_000);

test('ci update with automerge: a real bump of a patch release is merged by GitHub, and one of a minor release is not', async () => {
  const bare = join(dir, 'server-automerge/owner/repo.git');
  const fake = await FakeGitHub.start(dirname(bare));
  const { github } = fake;
  // Stands in for all upstream hosts: https://host/path is asked of <mirror>/host/path.
  const served = new Map<string, string>();
  const upstream = createServer((request, response) => {
    const found = served.get((request.url ?? '').slice(1));
    response.writeHead(found === undefined ? 404 : 200).end(found);
  });
  await new Promise<void>((done) => void upstream.listen(0, '127.0.0.1', done));
  const mirror = `http://127.0.0.1:${(upstream.address() as AddressInfo).port}`;
  const release = (version: string): void => {
    for (const arch of ['amd64', 'arm64']) {
      const text = `#!/bin/sh\necho ${version} ${arch}\n`;
      served.set(`example.org/v${version}/${arch}/tiny`, text);
      served.set(`example.org/v${version}/${arch}/tiny.sha256`, createHash('sha256').update(text).digest('hex'));
    }
    served.set('example.org/index.json', JSON.stringify([version]));
  };
  const write = async (name: string, text: string): Promise<void> => {
    await mkdir(dirname(join(checkout, name)), { recursive: true });
    await writeFile(join(checkout, name), text);
  };
  const env = {
    GITHUB_API_URL: github.api,
    GITHUB_GRAPHQL_URL: github.graphql,
    GITHUB_SERVER_URL: github.server,
    GITHUB_REPOSITORY: 'owner/repo',
    GITHUB_REF_NAME: 'main',
    GITHUB_TOKEN: github.token,
    FLATCAR_EXT_MIRROR: mirror,
    FLATCAR_EXT_BOT: '',
    UPDATE_AUTOMERGE: 'true',
  };
  const update = async (): Promise<string> => {
    const { exitCode, all } = await ci(['update', 'tiny', '--outcomes', join(dir, 'outcomes-automerge')], env);
    expect(exitCode, all).toBe(0);
    return all;
  };
  try {
    await write(
      'extensions/tiny/package.json',
      JSON.stringify({
        name: 'tiny',
        version: '0.0.0',
        private: true,
        license: 'Apache-2.0',
        type: 'module',
        dependencies: { '@flatcar/core': '*' },
      }),
    );
    await write('extensions/tiny/README.md', '# tiny\n');
    await write(
      'extensions/tiny/extension.ts',
      `import { defineExtension, upstream } from '@flatcar/core/engine';
export default defineExtension({
  name: 'tiny',
  summary: 'a tiny tool',
  versions: { kind: 'json', url: 'https://example.org/index.json', track: 'newest' },
  components: ({ version }) => [{ name: 'tiny', version, origins: [upstream('https://example.org/v{version}/{arch}/tiny', { checksum: '{url}.sha256' })], install: [{ from: 'tiny', to: 'usr/bin/' }] }],
});
`,
    );
    release('1.2.3');
    const pinned = await execa(
      join(checkout, 'packages/cli/bin/flatcar-ext'),
      ['pin', 'tiny', '--license', 'tiny=MIT', '--mirror', mirror],
      { cwd: checkout, all: true, reject: false },
    );
    expect(pinned.exitCode, pinned.all).toBe(0);
    await git('add', '--all');
    await git('commit', '--quiet', '--message', 'tiny');
    await exec('git', ['init', '--quiet', '--bare', '--initial-branch=main', bare]);
    await git('push', '--quiet', bare, 'HEAD:refs/heads/main');

    release('1.2.4');
    await update();
    expect(fake.pulls[0]?.body).toContain('**Merged automatically**');
    expect(fake.pulls[0]?.body).toContain('`tiny 1.2.3 → 1.2.4`');
    expect(fake.pulls[0]?.auto_merge).toEqual({ merge_method: 'squash' });
    // A person takes it back: the same versions do not set it again.
    fake.pulls[0]!.auto_merge = null;
    fake.changes();
    await update();
    expect(fake.changes()).toEqual([]);

    fake.pulls[0]!.auto_merge = {};
    release('1.3.0');
    await update();
    expect(fake.pulls).toHaveLength(1);
    expect(fake.pulls[0]?.body).toContain('- `1.2.3 → 1.3.0 is not a patch release`');
    expect(fake.pulls[0]?.auto_merge).toBeNull();
  } finally {
    await fake.stop();
    upstream.closeAllConnections();
    upstream.close();
    await git('reset', '--quiet', '--hard', 'HEAD~1');
  }
}, 600_000);

test('ci plan: what failed not long ago is held back and told, until --retry; without an answer of GitHub nothing is', async () => {
  const fake = await FakeGitHub.start();
  const { api, token } = fake.github;
  const file = join(dir, 'plan.json');
  const env = { GITHUB_API_URL: api, GITHUB_REPOSITORY: 'owner/repo', GITHUB_TOKEN: token };
  const plan = async (...more: string[]): Promise<{ all: string; ids: string[]; held: string[] }> => {
    const { exitCode, all } = await ci(['plan', 'ripgrep', '--out', file, ...more], env);
    expect(exitCode, all).toBe(0);
    const { include, held } = await readPlan(file);
    return { all, ids: include.map(({ id }) => id), held: held.map(({ job }) => job.id) };
  };
  try {
    expect(await plan()).toMatchObject({ ids: ['ripgrep-x86-64', 'ripgrep-arm64'], held: [] });
    const { include } = await readPlan(file);
    const inputs = (await inputsOf(checkout, include))?.get('ripgrep-arm64') ?? '';
    const body = failureRecord([{ inputs, count: 6, last: new Date().toISOString() }]);
    fake.issues.push(fake.issue({ title: 'ripgrep: release fails', body, labels: ['extension-failure'] }));
    const held = await plan();
    expect(held).toMatchObject({ ids: ['ripgrep-x86-64'], held: ['ripgrep-arm64'] });
    expect(held.all).toMatch(/ripgrep-arm64 is held back until 20\d\d-.*: it failed 6 times/);
    expect(await plan('--retry')).toMatchObject({ ids: ['ripgrep-x86-64', 'ripgrep-arm64'], held: [] });
    fake.refuse(() => [500, 'down']);
    const down = await plan();
    expect(down.held).toEqual([]);
    expect(down.all).toContain('no build is held back, as the issues cannot be read: GitHub answered 500: down');
  } finally {
    await fake.stop();
  }
}, 600_000);

test('a checkout that git cannot read: a notice with its words, and no image for publishing', async () => {
  const run = (...args: string[]): Promise<{ exitCode?: number | undefined; all: string }> =>
    execa(join(checkout, 'packages/cli/bin/flatcar-ext'), args, { cwd: dir, all: true, reject: false });
  const payloads = join(dir, 'payloads');
  const built = await run('build', 'hardening', '--profile', 'publish', '--payloads-only', '--out', payloads);
  expect(built.exitCode, built.all).toBe(0);
  const away = join(dir, 'git-away');
  await rename(join(checkout, '.git'), away);
  try {
    for (const args of [
      ['build', 'hardening', '--profile', 'publish'],
      ['bind', payloads, '--release', '4593.2.5', '--out', join(dir, 'bound')],
    ]) {
      const { exitCode, all } = await run(...args);
      expect(all).toMatch(/the build record would name no commit: the folder has no \.git[^]*--profile fast/);
      expect(exitCode).toBe(1);
    }
    const fast = await run('build', 'hardening', '--release', 'portable', '--out', join(dir, 'fast'));
    expect(fast.all).toContain('the build record names no commit: the folder has no .git');
    expect(fast.exitCode, fast.all).toBe(0);
  } finally {
    await rename(away, join(checkout, '.git'));
  }
}, 600_000);
