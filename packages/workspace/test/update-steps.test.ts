import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { exec } from '@flatcar/core/engine';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { GitHub } from '@flatcar/workspace/ci/github';
import { SHARED_STEP, updateAll, type StepResult, type UpdateStep } from '@flatcar/workspace/ci/update-steps';
import { FakeGitHub } from './helpers/fake-github.ts';

// Updates in a real checkout that pushes to a real repository; GitHub's API alone is a stand-in, and steps are functions.
let dir: string;
let checkout: string;
let bare: string;
let github: GitHub;
let fake: FakeGitHub;
let outcomes: [name: string, error: string | undefined][];
let told: string[];

const who = ['-c', 'user.name=person', '-c', 'user.email=person@example.org'];
const git = (cwd: string, ...args: string[]): Promise<string> => exec('git', [...who, ...args], { cwd });
async function write(root: string, files: Readonly<Record<string, string>>): Promise<void> {
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(root, name)), { recursive: true });
    await writeFile(join(root, name), text);
  }
}
const step = (name: string, more: Partial<UpdateStep> = {}): UpdateStep => ({
  name,
  args: [name],
  title: `${name}: newer versions`,
  mayShare: false,
  ...more,
});

type Work = (root: string) => Promise<string | undefined | void>;
/** Steps by their names: what they do to the checkout, and with what error. */
async function update(works: Readonly<Record<string, Work>>, steps = Object.keys(works).map((name) => step(name))): Promise<void> {
  await updateAll(steps, {
    dir: checkout,
    github,
    base: 'main',
    run: async ([name = '']): Promise<StepResult> => ({ error: (await works[name]?.(checkout)) ?? undefined, stdout: '' }),
    done: (name, error) => Promise.resolve(void outcomes.push([name, error])),
    report: (line) => void told.push(line),
  });
}
const bump =
  (name: string, version: string, date = '2026-11-27'): Work =>
  (root) =>
    write(root, {
      [`extensions/${name}/pins.json`]: `{"${version}": {}}\n`,
      [`extensions/${name}/CHANGELOG.md`]: `# Changes of ${name}\n\n## ${version} (${date})\n\n- ${version}\n`,
    });
const nothing: Work = () => Promise.resolve();
const branches = async (): Promise<string[]> =>
  (await git(bare, 'for-each-ref', '--format=%(refname:short)', 'refs/heads')).split('\n').filter((one) => one !== 'main');
const filesOf = async (branch: string): Promise<string[]> =>
  (await git(bare, 'diff-tree', '-r', '--name-only', 'main', branch)).split('\n');
const tipOf = (branch: string): Promise<string> => git(bare, 'rev-parse', branch);

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'updates-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));
beforeEach(async () => {
  const server = await mkdtemp(join(dir, 'server-'));
  bare = join(server, 'owner/repo.git');
  checkout = await mkdtemp(join(dir, 'checkout-'));
  await git(dir, 'init', '--quiet', '--bare', '--initial-branch=main', bare);
  await git(checkout, 'init', '--quiet', '--initial-branch=main');
  await write(checkout, {
    '.gitignore': 'node_modules/\n',
    'README.md': 'all\n',
    'docs/page.md': 'page\n',
    'packages/components/runc/pins.json': '{}\n',
  });
  for (const name of ['a', 'b', 'c']) await bump(name, '1.0')(checkout);
  await git(checkout, 'add', '--all');
  await git(checkout, 'commit', '--quiet', '--message', 'first');
  await git(checkout, 'push', '--quiet', bare, 'main');
  fake = await FakeGitHub.start(join(server, 'owner'));
  ({ github } = fake);
  outcomes = [];
  told = [];
});
afterEach(() => fake.stop());

describe('pull requests', () => {
  test('there is one for each extension that has news, with its own files, and none for the others', async () => {
    await update({ a: bump('a', '1.1'), b: nothing, c: bump('c', '2.0') });
    expect(await branches()).toEqual(['update/a', 'update/c']);
    expect(await filesOf('update/a')).toEqual(['extensions/a/CHANGELOG.md', 'extensions/a/pins.json']);
    expect(fake.pulls).toMatchObject([
      { head: { ref: 'update/a' }, base: { ref: 'main' }, title: 'a: newer versions' },
      { head: { ref: 'update/c' }, base: { ref: 'main' } },
    ]);
    expect(outcomes).toEqual([
      ['a', undefined],
      ['b', undefined],
      ['c', undefined],
    ]);
    expect(told).toContain('b: nothing new');
    expect(await git(checkout, 'status', '--porcelain')).toBe('');
    expect(await git(checkout, 'symbolic-ref', '--short', 'HEAD')).toBe('main');
  });

  test('nothing else of the checkout comes into them: outcomes, ignored files, other folders', async () => {
    await update({
      a: async (root) => {
        await bump('a', '1.1')(root);
        await write(root, { 'outcomes/x.outcome.json': '{}', 'node_modules/x': 'x', 'docs/other.md': 'x', 'matrix.json': '{}' });
      },
      b: nothing,
    });
    expect(await filesOf('update/a')).toEqual(['extensions/a/CHANGELOG.md', 'extensions/a/pins.json']);
    expect(await branches()).toEqual(['update/a']);
    // Nothing that is not proposed is removed.
    for (const name of ['outcomes/x.outcome.json', 'node_modules/x', 'docs/other.md']) await readFile(join(checkout, name));
  });

  test('a step that fails half-way proposes nothing, and the next one has nothing of it', async () => {
    await update({
      a: async (root) => {
        await bump('a', '1.1')(root);
        await write(root, { 'packages/new.txt': 'x', 'README.md': 'half' });
        await git(root, 'add', '--all');
        await rm(join(root, 'extensions/a/CHANGELOG.md'));
        return 'the second branch failed';
      },
      b: bump('b', '1.1'),
    });
    expect(await branches()).toEqual(['update/b']);
    expect(await filesOf('update/b')).toEqual(['extensions/b/CHANGELOG.md', 'extensions/b/pins.json']);
    expect(outcomes).toEqual([
      ['a', 'the second branch failed'],
      ['b', undefined],
    ]);
  });

  test('a step that was killed leaves nothing that stops the next: locks of git, other repositories, folders instead of files', async () => {
    await update({
      a: async (root) => {
        await write(root, { '.git/index.lock': '', 'extensions/a/clone/x': 'x' });
        await git(root, 'init', '--quiet', join(root, 'extensions/a/clone'));
        await rm(join(root, 'extensions/a/pins.json'));
        await write(root, { 'extensions/a/pins.json/x': 'x', 'README.md/x': 'x' }).catch(() => undefined);
        await git(root, 'config', 'user.name', 'other');
        return 'killed';
      },
      b: bump('b', '1.1'),
    });
    expect(outcomes).toEqual([
      ['a', 'killed'],
      ['b', undefined],
    ]);
    expect(await filesOf('update/b')).toEqual(['extensions/b/CHANGELOG.md', 'extensions/b/pins.json']);
    expect(await git(checkout, 'status', '--porcelain')).toBe('');
  });

  test('a checkout with changes of a person is refused, and left as it is', async () => {
    await write(checkout, { 'extensions/a/extension.ts': 'mine' });
    await expect(update({ a: bump('a', '1.1') })).rejects.toThrow('changes that are not committed');
    expect(await readFile(join(checkout, 'extensions/a/extension.ts'), 'utf8')).toBe('mine');
  });

  test('no file of the checkout keeps the token, and the configuration of the checkout does not see it', async () => {
    const seen = join(dir, 'seen');
    await update({
      a: async (root) => {
        await bump('a', '1.1')(root);
        const spy = `#!/bin/sh\nenv >>${seen}\n`;
        for (const hook of ['pre-commit', 'pre-push', 'post-index-change', 'reference-transaction'])
          await writeFile(join(root, '.git/hooks', hook), spy, { mode: 0o755 });
        await git(root, 'config', 'core.fsmonitor', join(root, '.git/hooks/pre-commit'));
        await git(root, 'config', 'credential.helper', `!env >>${seen}`);
      },
    });
    expect(await branches()).toEqual(['update/a']);
    const said = await readFile(seen, 'utf8').catch(() => '');
    expect(said).not.toMatch(/extraheader/i);
    for (const form of [github.token, Buffer.from(`x-access-token:${github.token}`).toString('base64')]) expect(said).not.toContain(form);
    expect(await readFile(join(checkout, '.git/config'), 'utf8')).not.toMatch(/ghs_|extraheader/);
  });

  test('a shallow checkout, as actions/checkout makes it, is pushed from', async () => {
    await write(checkout, { 'docs/page.md': 'second' });
    await git(checkout, 'commit', '--quiet', '--all', '--message', 'second');
    await git(checkout, 'push', '--quiet', bare, 'main');
    const shallow = join(dir, 'shallow');
    await git(dir, 'clone', '--quiet', '--depth=1', `file://${bare}`, shallow);
    checkout = shallow;
    await update({ a: bump('a', '1.1') });
    await update({ a: bump('a', '1.2') });
    expect(await git(bare, 'show', 'update/a:extensions/a/pins.json')).toContain('1.2');
    expect(await git(bare, 'rev-parse', 'update/a~1')).toBe(await tipOf('main'));
  });
});

describe('the next run', () => {
  beforeEach(async () => {
    await update({ a: bump('a', '1.1', '2026-11-27') });
    fake.changes();
  });

  test('with the same versions pushes nothing and says nothing, though a day has passed', async () => {
    const before = await tipOf('update/a');
    await update({ a: bump('a', '1.1', '2026-11-28') });
    expect(await tipOf('update/a')).toBe(before);
    expect(fake.changes()).toEqual([]);
    expect(told.at(-1)).toContain('already has these versions');
  });

  test('pushes nothing either when something else was merged', async () => {
    await write(checkout, { 'docs/page.md': 'second' });
    await git(checkout, 'commit', '--quiet', '--all', '--message', 'second');
    await git(checkout, 'push', '--quiet', bare, 'main');
    const before = await tipOf('update/a');
    await update({ a: bump('a', '1.1') });
    expect(await tipOf('update/a')).toBe(before);
  });

  test('with newer versions gives them to the open pull request', async () => {
    await update({ a: bump('a', '1.2') });
    expect(fake.pulls).toHaveLength(1);
    expect(await git(bare, 'show', 'update/a:extensions/a/pins.json')).toContain('1.2');
    expect(fake.changes()).toEqual(['PATCH /repos/owner/repo/pulls/1']); // what it was recorded for
  });

  test('leaves commits of a person alone, on top of its own or in their place', async () => {
    const theirs = join(dir, 'theirs');
    await git(dir, 'clone', '--quiet', '--branch', 'update/a', bare, theirs);
    await write(theirs, { 'extensions/a/extension.ts': 'fixed' });
    await git(theirs, 'add', '--all');
    for (const how of [
      ['commit', '--message', 'fix'],
      ['commit', '--amend', '--no-edit'],
    ]) {
      await git(theirs, ...how.slice(0, 1), '--quiet', '--allow-empty', ...how.slice(1));
      await git(theirs, 'push', '--quiet', '--force', 'origin', 'update/a');
      const before = await tipOf('update/a');
      await update({ a: bump('a', '1.2') });
      expect(await tipOf('update/a')).toBe(before);
      expect(told.at(-1)).toBe('a: update/a has commits of person, and is not touched');
      await git(theirs, 'reset', '--quiet', '--hard', 'HEAD~1');
    }
    await rm(theirs, { recursive: true });
    expect(outcomes.every(([, error]) => error === undefined)).toBe(true);
  });

  test('does not open again what a person closed, until there are other versions', async () => {
    Object.assign(fake.pulls[0]!, { state: 'closed' });
    for (const isThere of [true, false]) {
      if (!isThere) await git(bare, 'update-ref', '-d', 'refs/heads/update/a');
      await update({ a: bump('a', '1.1', '2026-12-24') });
      expect(fake.changes()).toEqual([]);
      expect(told.at(-1)).toContain('was closed with the same versions; it stays closed');
    }
    expect(await branches()).toEqual([]);
    await update({ a: bump('a', '1.2') });
    expect(fake.pulls.map(({ state }) => state)).toEqual(['closed', 'open']);
  });

  test('opens another after the first one was merged', async () => {
    await git(bare, 'update-ref', 'refs/heads/main', 'update/a');
    await git(checkout, 'fetch', '--quiet', bare, 'main');
    await git(checkout, 'reset', '--quiet', '--hard', 'FETCH_HEAD');
    Object.assign(fake.pulls[0]!, { state: 'closed', merged_at: '2026-11-27' });
    await update({ a: bump('a', '1.2') });
    expect(fake.pulls.map(({ state }) => state)).toEqual(['closed', 'open']);
    expect(await git(bare, 'rev-parse', 'update/a~1')).toBe(await tipOf('main'));
  });

  test('opens the pull request that could not be opened before, without pushing again', async () => {
    fake.pulls.length = 0;
    const before = await tipOf('update/a');
    await update({ a: bump('a', '1.1') });
    expect(fake.pulls).toHaveLength(1);
    expect(await tipOf('update/a')).toBe(before);
  });

  test('pushes over nothing that came in between', async () => {
    // The branch moves between the look at it and the push.
    const other = await git(checkout, 'commit-tree', 'HEAD^{tree}', '-p', 'HEAD', '-m', 'other');
    await git(checkout, 'push', '--quiet', bare, `${other}:refs/heads/other`);
    await writeFile(join(bare, 'hooks/pre-receive'), `#!/bin/sh\nexit 0\n`, { mode: 0o755 });
    const { withRemote } = await import('@flatcar/workspace/ci/remote');
    const { openCheckout, commitChange } = await import('@flatcar/workspace/ci/checkout');
    const opened = await openCheckout(checkout);
    await bump('a', '1.3')(checkout);
    const change = await commitChange(opened, 'a');
    await withRemote(opened, github, async (remote) => {
      const tip = await remote.tip('update/a');
      await git(bare, 'update-ref', 'refs/heads/update/a', other);
      await expect(remote.push('update/a', change?.commit ?? '', tip?.commit)).rejects.toThrow('somebody else changed');
      await expect(remote.push('update/a', change?.commit ?? '', undefined)).rejects.toThrow('somebody else changed');
    });
    expect(await tipOf('update/a')).toBe(other);
  });
});

describe('locks that extensions share', () => {
  const lock = 'packages/components/runc/pins.json';
  const sharing =
    (name: string, version: string): Work =>
    async (root) => {
      await bump(name, version)(root);
      await write(root, { [lock]: '{"1.5.2": {}}\n' });
    };

  test('come as one pull request with the extensions that they are for', async () => {
    const steps = [step('a', { mayShare: true }), step('b', { mayShare: true }), step('c')];
    await update({ a: sharing('a', '1.1'), b: sharing('b', '1.1'), c: bump('c', '1.1') }, steps);
    expect(await branches()).toEqual(['update/c', `update/${SHARED_STEP}`]);
    expect(await filesOf(`update/${SHARED_STEP}`)).toEqual(
      ['a', 'b'].flatMap((name) => [`extensions/${name}/CHANGELOG.md`, `extensions/${name}/pins.json`]).concat(lock),
    );
    expect(await git(bare, 'rev-parse', `update/${SHARED_STEP}~1`)).toBe(await tipOf('main'));
    expect(fake.pulls.map(({ head }) => head.ref)).toEqual([`update/${SHARED_STEP}`, 'update/c']); // the shared one first
    fake.changes();
    await update({ a: sharing('a', '1.1'), b: sharing('b', '1.1'), c: bump('c', '1.1') }, steps);
    expect(fake.changes()).toEqual([]);
  });

  test('an extension that could share but changes only its own has its own pull request', async () => {
    await update({ a: bump('a', '1.1'), b: sharing('b', '1.1') }, [step('a', { mayShare: true }), step('b', { mayShare: true })]);
    expect(await branches()).toEqual(['update/a', `update/${SHARED_STEP}`]);
    expect(await filesOf('update/a')).toEqual(['extensions/a/CHANGELOG.md', 'extensions/a/pins.json']);
  });

  test('one that fails the second time leaves nothing in the pull request of the others', async () => {
    let runs = 0;
    await update(
      {
        a: async (root) => {
          await sharing('a', '1.1')(root);
          return (runs += 1) > 1 ? 'gone' : undefined;
        },
        b: sharing('b', '1.1'),
      },
      [step('a', { mayShare: true }), step('b', { mayShare: true })],
    );
    expect(await filesOf(`update/${SHARED_STEP}`)).toEqual(['extensions/b/CHANGELOG.md', 'extensions/b/pins.json', lock]);
    expect(outcomes).toEqual([
      ['a', 'gone'],
      ['b', undefined],
      [SHARED_STEP, undefined],
    ]);
  });
});

describe('what GitHub refuses', () => {
  test('a job that may not open pull requests stops at the first, and says which setting it takes', async () => {
    fake.settings.actionsMayOpenPulls = false;
    await expect(update({ a: bump('a', '1.1'), b: bump('b', '1.1') })).rejects.toThrow('not permitted to create or approve');
    expect(outcomes).toHaveLength(1);
    expect(outcomes[0]?.[1]).toContain('Settings, Actions, General');
    expect(await branches()).toEqual(['update/a']);
    expect(await git(checkout, 'status', '--porcelain')).toBe('');
  });

  test('another refusal is the one of its extension', async () => {
    fake.refuse((method, path) => (method === 'POST' && path.endsWith('/pulls') ? [422, 'Validation Failed'] : undefined));
    await update({ a: bump('a', '1.1'), b: bump('b', '1.1') });
    expect(outcomes.map(([name, error]) => [name, error?.split('\n')[0]])).toEqual([
      ['a', 'GitHub answered 422: Validation Failed'],
      ['b', 'GitHub answered 422: Validation Failed'],
    ]);
  });
});

test('without GitHub the changes stay in the checkout', async () => {
  await updateAll([step('a')], {
    dir: checkout,
    base: 'main',
    run: async () => ({ error: (await bump('a', '1.1')(checkout)) as undefined, stdout: '' }),
    done: () => Promise.resolve(),
    report: () => undefined,
  });
  expect(await git(checkout, 'status', '--porcelain')).toContain('extensions/a/pins.json');
});
