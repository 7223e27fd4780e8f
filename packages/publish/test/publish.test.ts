import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hashFile, parseSums, selectTargets, UserError, UserErrors, type Target } from '@flatcar/core/engine';
import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import {
  initKeys,
  loadKeys,
  localDestination,
  publish,
  readPublished,
  type FileAbout,
  type PublishKeys,
  type PublishOptions,
  type PublishResult,
} from '../src/index.ts';
import { buildDemo } from './helpers/demo.ts';
import { listedNames } from './helpers/listed-names.ts';
import { trustOf } from './helpers/trust.ts';

const [stable, older, beta] = selectTargets('4593.2.5,4593.2.4,beta') as [Target, Target, Target];
const baseUrl = 'https://extensions.example.org';
let dir: string;
let keys: PublishKeys;
let tree: string;
let trees = 0;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'publish-'));
  await initKeys(join(dir, 'keys'));
  keys = await loadKeys(join(dir, 'keys'), {});
  await buildDemo(join(dir, 'one'), { version: '1.0.0', targets: ['portable', stable, beta], arches: ['x86-64', 'arm64'] });
  await buildDemo(join(dir, 'two'), { version: '1.0.1', targets: ['portable', stable] });
});
afterAll(() => rm(dir, { recursive: true, force: true }));
beforeEach(() => {
  trees += 1;
  tree = join(dir, `tree${trees}`);
});

const into = (options: Partial<PublishOptions> & { paths: readonly string[] }): Promise<PublishResult> =>
  publish({ destination: localDestination(tree), keys, baseUrl, unsigned: true, ...options });
const one = (): string => join(dir, 'one');
const two = (): string => join(dir, 'two');

/** Checks a folder as a node does: gpgv with the published keyring, then sha256sum. */
function checkFolder(folder: string): string[] {
  execFileSync('gpgv', ['--quiet', '--keyring', join(tree, 'keys/import-pubring.gpg'), 'SHA256SUMS.gpg', 'SHA256SUMS'], {
    cwd: join(tree, folder),
    stdio: 'pipe',
  });
  execFileSync('sha256sum', ['--check', '--strict', '--quiet', '--ignore-missing', 'SHA256SUMS'], {
    cwd: join(tree, folder),
    stdio: 'pipe',
  });
  return listedNames(readFileSync(join(tree, folder, 'SHA256SUMS'), 'utf8'));
}

/** Names and contents of what is served. */
async function snapshot(): Promise<Map<string, string>> {
  const entries = await readdir(tree, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const served = files.filter((file) => !/\/\.(?:staging\/|publish)/.test(file)).toSorted();
  return new Map(await Promise.all(served.map(async (file): Promise<[string, string]> => [file, await hashFile(file)])));
}

const refusal = async (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => 'was not refused',
    (error: unknown) =>
      error instanceof UserErrors
        ? error.errors.map(({ message }) => message).join('\n')
        : error instanceof UserError
          ? `${error.message}; ${error.next}`
          : String(error),
  );

test('a tree has images, signed sums, sidecars, transfer files, the official layout and a signed index', async () => {
  const result = await into({ paths: [one()] });
  expect(result).toMatchObject({ serial: 1, unchanged: 0 });
  expect(result.added).toHaveLength(6);
  expect(checkFolder('demo/portable')).toEqual(['demo.portable_1.0.0_arm64.raw', 'demo.portable_1.0.0_x86-64.raw']);
  expect(checkFolder('demo/4593.2.5')).toEqual(['demo.4593.2.5_1.0.0_arm64.raw', 'demo.4593.2.5_1.0.0_x86-64.raw']);
  expect(checkFolder('amd64-usr/4593.2.5')).toEqual(['flatcar-demo.gz', 'flatcar-demo.raw']);
  for (const suffix of ['manifest.json', 'spdx.json', 'provenance.json'])
    expect(existsSync(join(tree, `demo/portable/demo.portable_1.0.0_x86-64.${suffix}`))).toBe(true);

  const published = await readPublished(localDestination(tree), trustOf(keys));
  expect(published.index).toMatchObject({ serial: 1, baseUrl, origins: 'preferred', extensions: [{ name: 'demo', newest: '1.0.0' }] });
  const index = await published.extension('demo');
  expect(index?.versions.map(({ version, images }) => [version, images.length])).toEqual([['1.0.0', 6]]);
  expect(index?.versions[0]?.images.map(({ target, architecture }) => `${target} ${architecture}`)).toEqual([
    'portable arm64',
    'portable x86-64',
    '4593.2.5 arm64',
    '4593.2.5 x86-64',
    `${(beta as { number: string }).number} arm64`,
    `${(beta as { number: string }).number} x86-64`,
  ]);
  const packages = await published.packages();
  expect(packages).toHaveLength(4);
  // Omaha's and Nebraska's `<package name hash size hash_sha256>`, of the payload as others see it.
  for (const { name, path, size, sha1, sha256, image } of packages) {
    const digest = (algorithm: string): Buffer => execFileSync('openssl', ['dgst', `-${algorithm}`, '-binary', join(tree, path)]);
    expect({ name, sha1, sha256 }).toEqual({
      name: 'flatcar-demo.gz',
      sha1: digest('sha1').toString('base64'),
      sha256: digest('sha256').toString('hex'),
    });
    expect(size).toBe((await stat(join(tree, path))).size);
    expect(await hashFile(join(tree, image.path))).toBe(image.sha256);
  }

  const transfer = join(tree, 'demo/transfer/release');
  expect((await readdir(transfer)).filter((name) => !name.startsWith('.')).toSorted()).toEqual([
    '1.0.0.conf',
    '1.0.0.transfer',
    '1.0.conf',
    '1.0.transfer',
    '1.conf',
    '1.transfer',
    'latest.conf',
    'latest.transfer',
  ]);
  expect(await readFile(join(transfer, 'latest.conf'), 'utf8')).toContain(`Path=${baseUrl}/demo/%w/\nMatchPattern=demo.%w_@v_%a.raw\n`);
  expect(await readFile(join(transfer, 'latest.conf'))).toEqual(await readFile(join(transfer, 'latest.transfer')));
});

test('a write that fails while something is published names the place', async () => {
  const failed = Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC', errno: -28, syscall: 'write' });
  await expect(localDestination(tree).publish(() => Promise.reject(failed))).rejects.toMatchObject({
    message: expect.stringContaining('no space left on the file system') as string,
    where: tree,
  });
});

test('what is published already is left alone, and the tree does not change', async () => {
  await into({ paths: [one()] });
  const before = await snapshot();
  expect(await into({ paths: [one()] })).toEqual({ where: tree, serial: 1, added: [], unchanged: 6, retired: [], signed: [] });
  expect(await snapshot()).toEqual(before);
});

test('another version joins, and old ones stay', async () => {
  await into({ paths: [one()] });
  expect(await into({ paths: [two()] })).toMatchObject({ serial: 2, signed: ['demo/4593.2.5', 'demo/portable'] });
  expect(checkFolder('demo/4593.2.5')).toEqual([
    'demo.4593.2.5_1.0.0_arm64.raw',
    'demo.4593.2.5_1.0.0_x86-64.raw',
    'demo.4593.2.5_1.0.1_x86-64.raw',
  ]);
  // The official name keeps its bytes for the life of the release.
  expect(await readFile(join(tree, 'amd64-usr/4593.2.5/flatcar-demo.raw'))).toEqual(
    await readFile(join(tree, 'demo/4593.2.5/demo.4593.2.5_1.0.0_x86-64.raw')),
  );
});

test('other bytes under a published name are refused, and nothing changes', async () => {
  await into({ paths: [one()] });
  const before = await snapshot();
  await buildDemo(join(dir, 'other'), { version: '1.0.0', targets: ['portable'], says: 'something else' });
  expect(await refusal(into({ paths: [join(dir, 'other')] }))).toMatch(/published with other bytes.*raise the revision/);
  // One more release for a published version must come from the same payload.
  await buildDemo(join(dir, 'other2'), { version: '1.0.0', targets: [older], says: 'something else' });
  expect(await refusal(into({ paths: [join(dir, 'other2')] }))).toMatch(
    /demo 1.0.0 for x86-64 is published with other bytes.*raise the revision/,
  );
  expect(await snapshot()).toEqual(before);
  await buildDemo(join(dir, 'raised'), { version: '1.0.0', revision: 1, targets: ['portable'], says: 'something else' });
  expect(await into({ paths: [join(dir, 'raised')] })).toMatchObject({
    serial: 2,
    added: ['demo/portable/demo.portable_1.0.0-1_x86-64.raw'],
  });
});

test('refuses images for local use only, whatever the tree declares', async () => {
  await buildDemo(join(dir, 'local'), { version: '1.0.0', targets: ['portable'], localOnly: 'BUSL-1.1 does not permit it' });
  for (const origins of ['preferred' as const, ['upstream']])
    expect(await refusal(into({ paths: [join(dir, 'local')], origins }))).toBe(
      'cannot be published: it is for local use only: BUSL-1.1 does not permit it; leave it out: copy it to your own nodes instead',
    );
  expect(existsSync(join(tree, 'index.json'))).toBe(false);
});

test('refuses images of fixtures, of other origins and of the fast profile, and reports all; a tree keeps its declared origins', async () => {
  await buildDemo(join(dir, 'bad'), { version: '1.0.0', targets: ['portable'], fixture: true });
  await buildDemo(join(dir, 'bad'), { name: 'quick', version: '1.0.0', targets: ['portable'], profile: 'fast' });
  expect(await refusal(into({ paths: [join(dir, 'bad')] }))).toBe(
    "cannot be published: made with the pins of a fixture\ncannot be published: it was packed with the profile 'fast' instead of 'publish'",
  );
  expect(existsSync(join(tree, 'index.json'))).toBe(false);
  expect(await refusal(into({ paths: [one()], origins: ['go', 'cargo'] }))).toContain(
    "demo comes from 'upstream', and this tree declares cargo, go",
  );
  expect(await into({ paths: [one()], origins: ['go', 'upstream'] })).toMatchObject({ serial: 1 });
  for (const other of ['preferred' as const, ['go'], ['go', 'upstream', 'cargo']])
    expect(await refusal(into({ paths: [two()], origins: other }))).toContain(
      "this tree declares the origins 'go,upstream' and keeps them",
    );
  // The order does not matter, and a duplicate counts once.
  expect(await into({ paths: [one()], origins: ['upstream', 'go'] })).toMatchObject({ serial: 1, added: [] });
  expect(await into({ paths: [two()], origins: [' upstream', 'go', 'upstream'] })).toMatchObject({ serial: 2 });
  expect((await readPublished(localDestination(tree), trustOf(keys))).index?.origins).toEqual(['go', 'upstream']);
  // No declaration makes a fixture publishable.
  expect(await refusal(into({ paths: [join(dir, 'bad/demo')] }))).toContain('made with the pins of a fixture');
});

test.each([[[]], [['']], [['relase', 'go']], [['files']], [['preferred', 'go']]])(
  'refuses %j as origins before anything is written',
  async (origins) => {
    expect(await refusal(into({ paths: [one()], origins }))).toMatch(/(?:not a kind of origin|no origin is listed).*upstream, go, cargo/);
    expect(existsSync(join(tree, 'index.json'))).toBe(false);
  },
);

test('refuses a damaged image, sidecars of another image, a missing payload record and another file name, and promotes nothing', async () => {
  await into({ paths: [one()] });
  const before = await snapshot();
  const spoil = async (name: string, how: (folder: string) => Promise<void>): Promise<string> => {
    const copy = join(dir, name);
    await cp(two(), copy, { recursive: true });
    await how(join(copy, 'demo'));
    return refusal(into({ paths: [copy] }));
  };
  const image = 'portable/demo.portable_1.0.1_x86-64';
  expect(
    await spoil('spoilt1', async (folder) => {
      const bytes = await readFile(join(folder, `${image}.raw`));
      bytes[bytes.length - 5000] = (bytes[bytes.length - 5000] ?? 0) ^ 1;
      await writeFile(join(folder, `${image}.raw`), bytes);
    }),
  ).toContain('its sha256 is');
  expect(
    await spoil('spoilt2', (folder) =>
      cp(join(one(), 'demo/portable/demo.portable_1.0.0_x86-64.spdx.json'), join(folder, `${image}.spdx.json`)),
    ),
  ).toContain('the SBOM is for another image');
  expect(await spoil('spoilt3', (folder) => rm(join(folder, `${image}.provenance.json`)))).toContain('a sidecar of the image is missing');
  expect(await spoil('spoilt4', (folder) => rm(join(folder, 'payload'), { recursive: true }))).toContain('the record of the payload');
  // A builder of one image must not give it the name of another one.
  const other = 'portable/demo.4593.2.4_1.0.1_x86-64';
  const rename = async (folder: string): Promise<void> => {
    for (const suffix of ['raw', 'manifest.json', 'spdx.json', 'provenance.json'])
      await cp(join(folder, `${image}.${suffix}`), join(folder, `${other}.${suffix}`));
  };
  expect(await spoil('spoilt5', rename)).toContain("the manifest is for 'demo.portable_1.0.1_x86-64.raw'");
  expect(
    await spoil('spoilt6', async (folder) => {
      await rename(folder);
      const manifest = await readFile(join(folder, `${other}.manifest.json`), 'utf8');
      await writeFile(
        join(folder, `${other}.manifest.json`),
        manifest.replace('demo.portable_1.0.1_x86-64.raw', 'demo.4593.2.4_1.0.1_x86-64.raw'),
      );
    }),
  ).toContain("invalid manifest: file is 'demo.4593.2.4_1.0.1_x86-64.raw', and its other fields give 'demo.portable_1.0.1_x86-64.raw'");
  expect(await snapshot()).toEqual(before);
});

test('two at once: both are published', async () => {
  await Promise.all([into({ paths: [one()] }), into({ paths: [two()] })]);
  expect(checkFolder('demo/portable')).toEqual([
    'demo.portable_1.0.0_arm64.raw',
    'demo.portable_1.0.0_x86-64.raw',
    'demo.portable_1.0.1_x86-64.raw',
  ]);
  const published = await readPublished(localDestination(tree), trustOf(keys));
  expect((await published.extension('demo'))?.versions.map(({ version }) => version)).toEqual(['1.0.1', '1.0.0']);
});

test('without a lock, a version of metadata that another publisher took meanwhile is left to it, and the next one is used', async () => {
  await into({ paths: [one()] });
  const place = localDestination(tree);
  const put = place.put.bind(place);
  const targets = join(tree, 'metadata/2.targets.json');
  Object.assign(place, {
    locks: false,
    put: async (path: string, file: string, about: FileAbout): Promise<void> => {
      if (path === 'metadata/2.targets.json') await writeFile(targets, 'of another publisher');
      await put(path, file, about);
    },
  });
  await into({ paths: [two()], destination: place });
  expect(await readFile(targets, 'utf8')).toBe('of another publisher');
  const published = await readPublished(localDestination(tree), trustOf(keys));
  expect(published.metadata?.targets.signed.version).toBe(3);
  expect((await published.extension('demo'))?.versions.map(({ version }) => version)).toEqual(['1.0.1', '1.0.0']);
});

test('a tree signed by somebody else is not touched', async () => {
  await into({ paths: [one()] });
  await initKeys(join(dir, 'others'));
  const others = await loadKeys(join(dir, 'others'), {});
  expect(await refusal(into({ paths: [two()], keys: others }))).toContain('the tree has another root of this version');
});

test('sums and signature switch by one rename', async () => {
  await into({ paths: [one()] });
  const folder = join(tree, 'demo/portable');
  const sums = parseSums(await readFile(join(folder, 'SHA256SUMS'), 'utf8'), folder);
  expect(sums.size, 'two images, and the day until which they are good').toBe(3);
  for (const name of ['SHA256SUMS', 'SHA256SUMS.gpg'])
    expect(execFileSync('readlink', [name], { cwd: folder, encoding: 'utf8' })).toBe(`.current/${name}\n`);
  await mkdir(join(folder, '.set-x'));
  await into({ paths: [two()] });
  expect((await readdir(folder)).filter((name) => name.startsWith('.set-'))).toHaveLength(1);
});

test('sums of extensions name the day from which systemd refuses them, and are all signed again in time', async () => {
  await into({ paths: [one()] });
  const dayOf = (folder: string): string | undefined =>
    /^e3b0c442[0-9a-f]{56}  BEST-BEFORE-(\d{4}-\d\d-\d\d)$/m.exec(readFileSync(join(tree, folder, 'SHA256SUMS'), 'utf8'))?.[1];
  const inDays = (days: number): string => new Date(Date.now() + days * 86_400_000).toISOString().slice(0, 10);
  const first = dayOf('demo/portable');
  expect(first).toBe(inDays(90));
  expect(dayOf('amd64-usr/4593.2.5'), 'update-engine reads these').toBeUndefined();
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 40 * 86_400_000 });
  try {
    expect(await into({ paths: [one()], acceptExpired: true })).toMatchObject({ signed: [] });
    vi.setSystemTime(Date.now() + 10 * 86_400_000);
    expect((await into({ paths: [], acceptExpired: true })).signed).toContain('demo/portable');
    expect(dayOf('demo/portable')).toBe(inDays(90));
    expect(
      new Set((await readdir(join(tree, 'demo'))).filter((name) => /^(?:portable|\d)/.test(name)).map((name) => dayOf(`demo/${name}`)))
        .size,
    ).toBe(1);
  } finally {
    vi.useRealTimers();
  }
});
