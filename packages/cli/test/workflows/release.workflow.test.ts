import { execFileSync } from 'node:child_process';
import { copyFile, glob, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { exec } from '@flatcar/core/engine';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { WorkflowRun } from './act.ts';
import { CATALOGUE } from './checkout.ts';
import { addCompiled, addFixture, type Fixture } from './fixture.ts';
import { RunTable } from './table.ts';
import { openWorld, type Trigger, type World } from './world.ts';

const bin = join(import.meta.dirname, '../../bin/flatcar-ext');
let world: World;
let keys: string;
let tool: Fixture;

const keysCommand = (...args: string[]): Promise<string> =>
  exec(bin, ['keys', ...args], { env: { HOME: world.dir, PATH: process.env['PATH'] ?? '' } });
const readKey = async (pattern: string): Promise<string> => {
  const [name = ''] = (await Array.fromAsync(glob(pattern, { cwd: keys }))).toSorted();
  return readFile(join(keys, name), 'utf8');
};

/** Makes keys as docs/releases.md describes: the private ones are secrets of the environment, the public one is committed. */
async function makeKeys(): Promise<void> {
  keys = join(world.dir, 'keys');
  await keysCommand('init', keys);
  world.secrets['RELEASE__SUMS_KEY'] = await readKey('sums/*.key.asc');
  for (const role of ['targets', 'snapshot', 'timestamp'])
    world.secrets[`RELEASE__${role.toUpperCase()}_KEY`] = await readKey(`metadata/${role}-*.key.pem`);
  world.secrets['RELEASE__UPDATE_KEY'] = await readKey('update/*.key.pem');
  world.secrets['RELEASE__ROOTHASH_KEY'] = await readKey('roothash.key');
  world.variables['ROOTHASH_CERTIFICATE'] = await readKey('roothash.crt');
  await writeFile(join(world.clone.dir, '.github/keyring.gpg'), await readKey('sums/*.pub.asc'));
  await mkdir(join(world.clone.dir, '.github/root'), { recursive: true });
  await copyFile(join(keys, 'metadata/1.root.json'), join(world.clone.dir, '.github/root/1.root.json'));
}

/** The results of a run's jobs, by their names. */
const resultsOf = ({ jobs }: WorkflowRun): Record<string, string> => Object.fromEntries(jobs.map(({ job, result }) => [job, result]));
const openIssues = (): string[] =>
  world.github.state.issues
    .filter(({ state }) => state === 'open')
    .map(({ title }) => title)
    .toSorted();
const issue = (title: string): string => world.github.state.issues.find((one) => one.title === title)?.body ?? '';
/** Published images of an extension: version, target and architecture are in their names. */
const imagesOf = async (extension: string): Promise<string[]> =>
  (await world.published())
    .filter((path) => path.startsWith(`${extension}/`) && path.endsWith('.raw'))
    .map((path) => path.split('/').at(-1) ?? '');
/** Changes the packaging of an extension: its next version has a higher revision. */
const raise = (extension: string): Promise<void> =>
  world.clone.json<Record<string, { revision: number }>>(`extensions/${extension}/pins.json`, (pins) =>
    Object.fromEntries(Object.entries(pins).map(([version, pin]) => [version, { ...pin, revision: pin.revision + 1 }])),
  );
const table = new RunTable('release');
const release = (title: string, trigger: Trigger = { event: 'schedule' }): Promise<WorkflowRun> =>
  table.run(world, title, () => world.run('release.yml', trigger));
const HARDENING = {
  'extension hardening': 'success',
  'build hardening-arm64': 'success',
  'build hardening-x86-64': 'success',
  'publish hardening': 'success',
};
const jobsOfHello = (publish: string): Record<string, string> => ({
  'extension hello': publish,
  ...Object.fromEntries(
    ['hello-arm64', 'hello-arm64-second', 'hello-x86-64', 'hello-x86-64-second'].map((id) => [`build ${id}`, 'success']),
  ),
  'publish hello': publish,
});
const TOOL = { 'extension tool': 'success', 'build tool-arm64': 'success', 'build tool-x86-64': 'success', 'publish tool': 'success' };

beforeAll(async () => {
  world = await openWorld(['hardening']);
  await makeKeys();
  tool = await addFixture(world.clone, 'tool', world.upstream.dir);
  await tool.publish('1.0.0');
  await tool.pin('1.0.0');
  await world.clone.push('keyring and tool');
});
afterAll(() => world?.close());

describe('a release', () => {
  test('does nothing without variables, as in a fork', async () => {
    const before = { ...world.variables };
    for (const name of Object.keys(before)) delete world.variables[name];
    const run = await release('no variables are set, as in a fork');
    Object.assign(world.variables, before);
    expect(resultsOf(run), run.log).toEqual({ plan: 'skipped', extension: 'skipped', bind: 'skipped', report: 'skipped' });
  });

  test('does nothing on another branch', async () => {
    const run = await release('by hand, on another branch', { ref: 'attack' });
    expect(resultsOf(run), run.log).toMatchObject({ plan: 'skipped', report: 'skipped' });
  });

  test('fails where nothing is published, unless it is the first; an issue says so', async () => {
    const run = await release('nothing was ever published');
    expect(resultsOf(run), run.log).toEqual({ plan: 'failure', extension: 'skipped', bind: 'skipped', report: 'failure' });
    expect(openIssues()).toEqual(['release run fails']);
    expect(await world.published()).toEqual([]);
  });

  test('publishes an empty repository for the first time, and closes the issue', async () => {
    const run = await release('the first publish, by hand', { inputs: { 'first-publish': 'true' } });
    expect(resultsOf(run), run.log).toEqual({ plan: 'success', bind: 'skipped', report: 'success', ...HARDENING, ...TOOL });
    expect(openIssues()).toEqual([]);
    expect(await imagesOf('tool')).toHaveLength(6); // portable and two releases, for both architectures
    expect(await world.attested()).toHaveLength(12);
    expect(await world.published()).toEqual(expect.arrayContaining(['index.json', 'keys/import-pubring.gpg', 'keys/roothash.crt']));
  });

  test('has nothing to do the second time', async () => {
    const run = await release('again, nothing to do');
    expect(resultsOf(run), run.log).toEqual({ plan: 'success', extension: 'skipped', bind: 'skipped', report: 'success' });
  });

  test('binds a new Flatcar release out of published payloads, and builds nothing', async () => {
    await world.clone.json<{ number: string }[]>(CATALOGUE, (releases) => [
      ...releases,
      ...releases.filter(({ number }) => number === '4593.2.5').map((one) => ({ ...one, number: '4593.2.6' })),
    ]);
    await world.clone.push('Flatcar 4593.2.6');
    const run = await release('a new Flatcar release is merged', { event: 'push' });
    expect(resultsOf(run), run.log).toEqual({ plan: 'success', extension: 'skipped', bind: 'success', report: 'success' });
    expect(
      (await imagesOf('tool')).filter((name) => name.includes('4593.2.6')),
      run.log,
    ).toHaveLength(2);
    expect(await world.attested()).toHaveLength(16);
  });

  test('publishes one extension when another cannot be built, and opens an issue for that', async () => {
    await raise('hardening');
    await tool.publish('1.1.0');
    await tool.pin('1.1.0');
    await tool.take(true);
    await addCompiled(world.clone, 'hello');
    await world.clone.push('hardening again, tool 1.1.0, and hello, which is compiled');
    // The second builder of one architecture was taken over: it uploads other bytes, with a record that is true of them.
    const run = await release('three changes are merged; upstream of `tool` is down, and a builder of `hello` lies', {
      event: 'push',
      env: { STANDIN_FORGED_ARTIFACT: 'payload-hello-x86-64-second' },
    });
    expect(resultsOf(run), run.log).toEqual({
      plan: 'success',
      bind: 'skipped',
      report: 'failure',
      ...HARDENING,
      'extension tool': 'failure',
      'build tool-arm64': 'failure',
      'build tool-x86-64': 'failure',
      'publish tool': 'failure',
      ...jobsOfHello('failure'),
    });
    expect(await imagesOf('hardening')).toHaveLength(14);
    expect(await imagesOf('tool')).toHaveLength(8);
    expect(await imagesOf('hello')).toEqual([]); // of neither architecture
    expect(openIssues()).toEqual(['hello: release fails', 'tool: release fails']);
    expect(issue('hello: release fails')).toMatch(
      /two builders made different payloads of hello .*\n  hello-x86-64: sha256 \S{64}, .*\n  hello-x86-64-second: sha256 \S{64}/,
    );
    expect(issue('tool: release fails')).toContain('404');
  });

  test('does not begin again at once what failed', async () => {
    const run = await release('an hour later');
    expect(resultsOf(run), run.log).toEqual({ plan: 'success', extension: 'skipped', bind: 'skipped', report: 'success' });
    expect(openIssues()).toEqual(['hello: release fails', 'tool: release fails']);
  });

  test('is repeated by hand, and the issues are closed: both builders made the same bytes', async () => {
    await tool.take(false);
    const run = await release('by hand, with `retry`; upstream is there again', { inputs: { extensions: 'tool hello', retry: 'true' } });
    expect(resultsOf(run), run.log).toEqual({ plan: 'success', bind: 'skipped', report: 'success', ...TOOL, ...jobsOfHello('success') });
    expect(await imagesOf('hello')).toHaveLength(6);
    const record = (await world.published()).find((path) => /^hello\/.*\.provenance\.json$/.test(path));
    expect(await readFile(join(world.bucket.dir, record ?? ''), 'utf8')).toContain('"builders": 2');
    expect(openIssues()).toEqual([]);
    expect(await imagesOf('tool')).toHaveLength(14);
  });

  test('whose publish job dies is a failure, and no issue is closed by it', async () => {
    await raise('hardening');
    await world.clone.push('hardening again');
    const run = await release('a change is merged; the publish job dies', {
      event: 'push',
      env: { STANDIN_DOWNLOAD_DIES: 'payload-hardening' },
    });
    expect(resultsOf(run), run.log).toEqual({
      plan: 'success',
      bind: 'skipped',
      report: 'failure',
      ...HARDENING,
      'extension hardening': 'failure',
      'publish hardening': 'failure',
    });
    expect(openIssues()).toEqual(['hardening: release fails']);
    expect(issue('hardening: release fails')).toContain('without an outcome of bind, publish');
  });

  test('publishes although attestations fail, and an issue says so', async () => {
    const run = await release('an hour later; Sigstore is down', { env: { STANDIN_ATTEST_FAILS: 'yes' } });
    expect(resultsOf(run), run.log).toEqual({
      plan: 'success',
      bind: 'skipped',
      report: 'failure',
      ...HARDENING,
      'extension hardening': 'failure',
      'publish hardening': 'failure',
    });
    expect(await imagesOf('hardening')).toHaveLength(20);
    expect(openIssues()).toEqual(['release run fails']);
  });

  test('is planned for nothing when the published tree is forbidden: 403 is not an empty tree', async () => {
    world.web.answer = 403;
    const run = await release('`PUBLISHED_URL` answers 403');
    world.web.answer = undefined;
    expect(resultsOf(run), run.log).toEqual({ plan: 'failure', extension: 'skipped', bind: 'skipped', report: 'failure' });
    expect(openIssues()).toEqual(['release run fails']);
    const after = await release('it answers again');
    expect(resultsOf(after), after.log).toMatchObject({ plan: 'success', report: 'success' });
    expect(openIssues()).toEqual([]);
  });
});

/** Fingerprints of OpenPGP public keys in a file, by gpg. */
function fingerprints(file: string): string[] {
  const out = execFileSync('gpg', ['--batch', '--show-keys', '--with-colons', file], {
    encoding: 'utf8',
    env: { ...process.env, GNUPGHOME: world.dir },
  });
  const lines = out.split('\n');
  return lines.flatMap((line, at) =>
    line.startsWith('pub:')
      ? [
          lines
            .slice(at)
            .find((one) => one.startsWith('fpr:'))
            ?.split(':')[9] ?? '',
        ]
      : [],
  );
}

describe('the published tree', () => {
  const tree = (title: string, inputs: Readonly<Record<string, string>>): Promise<WorkflowRun> =>
    table.run(world, title, () => world.run('tree.yml', { inputs }));
  const fine = { tree: 'success', report: 'success' };
  const ring = (): string[] => fingerprints(join(world.bucket.dir, 'keys/import-pubring.gpg'));

  test('gets the next key announced, signed by, and the former dropped, while releases go on', async () => {
    const [first = ''] = ring();
    await keysCommand('rotate', keys);
    const publics = await Array.fromAsync(glob('sums/*.pub.asc', { cwd: keys }));
    const texts = await Promise.all(publics.map((name) => readFile(join(keys, name), 'utf8')));
    await writeFile(join(world.clone.dir, '.github/keyring.gpg'), texts.join(''));
    await world.clone.push('the next key is announced');
    const announced = await tree('the next key is in the keyring: `sign`', { action: 'sign' });
    expect(resultsOf(announced), announced.log).toEqual(fine);
    expect(ring()).toHaveLength(2);
    await raise('hardening');
    await world.clone.push('hardening again');
    const between = await release('a change is merged while a key is announced', { event: 'push' });
    expect(resultsOf(between), between.log).toMatchObject({ ...HARDENING, report: 'success' });
    expect(ring()).toHaveLength(2); // a release takes no announcement back

    await keysCommand('rotate', keys, '--finish');
    world.secrets['RELEASE__SUMS_KEY'] = await readKey('sums/*.key.asc');
    const signed = await tree('the next key is the secret: `sign`', { action: 'sign' });
    expect(resultsOf(signed), signed.log).toEqual(fine);
    expect(ring()).toHaveLength(2);

    const next = ring().find((one) => one !== first) ?? '';
    const last =
      publics
        .filter((_, at) => texts[at] !== undefined)
        .map((name) => join(keys, name))
        .find((file) => fingerprints(file).includes(next)) ?? '';
    await copyFile(last, join(world.clone.dir, '.github/keyring.gpg'));
    await world.clone.push('the former key is dropped');
    const dropped = await tree('the former key is not in the keyring: `sign`, `drop-keys`', { action: 'sign', 'drop-keys': 'true' });
    expect(resultsOf(dropped), dropped.log).toEqual(fine);
    expect(ring()).toEqual([next]);
    const after = await release('after the change of keys');
    expect(resultsOf(after), after.log).toMatchObject({ plan: 'success', report: 'success' });
  });

  test('has a version withdrawn by dispatch', async () => {
    const run = await tree('`withdraw` of a version', {
      action: 'withdraw',
      version: 'tool@1.1.0',
      content: '1.0.0',
      reason: 'it deletes files',
    });
    expect(resultsOf(run), run.log).toEqual(fine);
    expect(
      (await imagesOf('tool')).filter((name) => name.includes('1.1.0-1')),
      run.log,
    ).not.toEqual([]);
    const sums = await readFile(join(world.bucket.dir, 'tool/portable/SHA256SUMS'), 'utf8');
    expect(sums).not.toContain('tool.portable_1.1.0_x86-64.raw');
  });

  test('is cleared of what is too old, by schedule and by dispatch', async () => {
    const listed = await tree('`retire`, `dry-run`', { action: 'retire', 'dry-run': 'true' });
    expect(resultsOf(listed), listed.log).toEqual(fine);
    const run = await table.run(world, 'retire, weekly', () => world.run('tree.yml', { event: 'schedule' }));
    expect(resultsOf(run), run.log).toEqual(fine);
  });

  test('keeps a wrong withdrawal out, and an issue says so', async () => {
    const run = await tree('`withdraw` of a version that was never published', {
      action: 'withdraw',
      version: 'tool@9.9.9',
      content: '1.0.0',
      reason: 'never published',
    });
    expect(resultsOf(run), run.log).toEqual({ tree: 'failure', report: 'failure' });
    expect(openIssues()).toEqual(['tree run fails']);
  });

  test('is built again from nothing, and has the same bytes', async () => {
    const run = await table.run(world, '`tool` is built again', () => world.run('rebuild.yml', { inputs: { extensions: 'tool' } }));
    expect(resultsOf(run), run.log).toEqual({
      choose: 'success',
      'rebuild tool ubuntu-24.04': 'success',
      'rebuild tool ubuntu-24.04-arm': 'success',
      report: 'success',
    });
  });
});

test('docs/releases.md has what happened (FLATCAR_EXT_WRITE_TABLE=1 writes it)', async () => {
  expect(await table.documented()).toBe(table.text);
});
