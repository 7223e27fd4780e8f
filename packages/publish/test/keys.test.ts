import { execFileSync } from 'node:child_process';
import { copyFile, cp, mkdir, mkdtemp, readdir, readFile, readlink, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openStore, selectTargets, type Release } from '@flatcar/core/engine';
import * as openpgp from 'openpgp';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import {
  beginRotation,
  finishRotation,
  goodSignatures,
  initKeys,
  loadKeys,
  localDestination,
  openTree,
  publish,
  readPublished,
  withRoothashKeys,
  type PublishKeys,
  type PublishOptions,
  type PublishResult,
} from '../src/index.ts';
import { signDetached } from '../src/keys/openpgp.ts';
import { buildDemo } from './helpers/demo.ts';
import { trustOf } from './helpers/trust.ts';

// Keys as workflows have them (in variables, with a keyring of the repository) and as a laptop has them (in a folder).
const [stable, beta] = selectTargets('4593.2.5,beta') as [Release, Release];
let dir: string;
let tree: string;
let keysDir: string;
let count = 0;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'keys-'));
  await initKeys(join(dir, 'keys'));
  for (const version of ['1.0.0', '1.0.1', '1.0.2']) await buildDemo(join(dir, version), { version, targets: ['portable', stable] });
  await buildDemo(join(dir, 'disk'), { name: 'disk', version: '1.0.0', targets: ['portable', beta] });
  await buildDemo(join(dir, 'portable'), { name: 'portable', version: '1.0.0', targets: ['portable'] });
});
afterAll(() => rm(dir, { recursive: true, force: true }));
beforeEach(async () => {
  count += 1;
  tree = join(dir, `tree${count}`);
  keysDir = join(dir, `keys${count}`);
  await cp(join(dir, 'keys'), keysDir, { recursive: true });
});

const into = (keys: PublishKeys, names: readonly string[], more: Partial<PublishOptions> = {}): Promise<PublishResult> =>
  publish({
    paths: names.map((name) => join(dir, name)),
    destination: localDestination(tree),
    keys,
    baseUrl: 'https://one.example.org',
    ...more,
  });
const secret = (name: string): Promise<string> => readFile(join(keysDir, name), 'utf8');
/** What a workflow has in its environment; `sums` is the secret that signs. */
const workflow = async (sums: string, keyring?: string): Promise<PublishKeys> =>
  loadKeys(
    undefined,
    {
      FLATCAR_EXT_SUMS_KEY: await secret(sums),
      FLATCAR_EXT_TARGETS_KEY: await secret('metadata/targets-1.key.pem'),
      FLATCAR_EXT_SNAPSHOT_KEY: await secret('metadata/snapshot-1.key.pem'),
      FLATCAR_EXT_TIMESTAMP_KEY: await secret('metadata/timestamp-1.key.pem'),
      FLATCAR_EXT_UPDATE_KEY: await secret('update/1.key.pem'),
      FLATCAR_EXT_ROOTHASH_KEY: '',
      FLATCAR_EXT_ROOTHASH_CERTIFICATE: await secret('roothash.crt'),
    },
    { keyring, root: join(keysDir, 'metadata') },
  );
const laptop = (): Promise<PublishKeys> => loadKeys(keysDir, {});
/** The repository's keyring, made as docs/releases.md says. */
async function commitKeyring(): Promise<string> {
  const file = join(dir, `keyring${count}.gpg`);
  const names = (await readdir(join(keysDir, 'sums'))).filter((name) => name.endsWith('.pub.asc')).toSorted();
  await writeFile(file, (await Promise.all(names.map((name) => secret(`sums/${name}`)))).join(''));
  return file;
}

const published = (): string => join(tree, 'keys/import-pubring.gpg');
/** How many keys a node finds, by the real gpg's packet format as openpgp.js reads it. */
const keysIn = async (file: string): Promise<number> => (await openpgp.readKeys({ binaryKeys: await readFile(file) })).length;
/** Verifies as a node does, with the keyring that it has. */
function verifies(keyring: string): boolean {
  try {
    for (const folder of ['demo/portable', 'demo/4593.2.5', 'amd64-usr/4593.2.5'])
      execFileSync('gpgv', ['--quiet', '--keyring', keyring, 'SHA256SUMS.gpg', 'SHA256SUMS'], { cwd: join(tree, folder), stdio: 'pipe' });
    return true;
  } catch {
    return false;
  }
}

test('a key is rotated through workflows and a laptop: nodes with the old keyring and with the new one are served at every step', async () => {
  const copies: string[] = [];
  const keep = async (name: string): Promise<string> => {
    const copy = join(dir, `${name}${count}.gpg`);
    await copyFile(published(), copy); // it is a link
    copies.push(copy);
    return copy;
  };
  // 1. The workflow publishes.
  await into(await workflow('sums/1.key.asc', await commitKeyring()), ['1.0.0']);
  expect(await keysIn(published())).toBe(1);
  const old = await keep('old');
  expect(verifies(old)).toBe(true);
  // 2. The next key is announced on a laptop, and its public half is committed.
  await beginRotation(keysDir);
  const keyring = await commitKeyring();
  await into(await laptop(), []);
  expect(await keysIn(published())).toBe(2);
  const both = await keep('both');
  // 3. The workflow goes on to sign with the key that it has: the announcement stays.
  await into(await workflow('sums/1.key.asc', keyring), ['1.0.1']);
  expect(await keysIn(published())).toBe(2);
  expect([old, both].map(verifies)).toEqual([true, true]);
  // 4. All nodes have the new keyring: the workflow gets the new secret, and signs everything with it.
  const now = (await finishRotation(keysDir)).split('/').at(-1) ?? '';
  expect(now).toBe('2.key.asc');
  await into(await workflow(`sums/${now}`, keyring), ['1.0.2']);
  expect([old, both].map(verifies)).toEqual([false, true]);
  // 5. And goes on: the old key stays in the keyring, for what it signed.
  expect(await into(await workflow(`sums/${now}`, keyring), ['1.0.2'])).toMatchObject({ added: [], signed: [] });
  expect(await keysIn(published())).toBe(2);
  expect(verifies(both)).toBe(true);
});

test('a publish that would take a key from nodes is refused, until it is meant', async () => {
  await into(await laptop(), ['1.0.0']);
  await beginRotation(keysDir);
  await into(await laptop(), []);
  const before = await readFile(published());
  await expect(into(await workflow('sums/1.key.asc'), ['1.0.1'])).rejects.toThrow(
    /this publish would remove a key from the published keyring: [0-9A-F]{40}/,
  );
  expect(await readFile(published())).toEqual(before);
  await into(await workflow('sums/1.key.asc'), ['1.0.1'], { dropKeys: true });
  expect(await keysIn(published())).toBe(1);
});

test('the certificate of disk images is published from the environment, and stays when a publisher has none', async () => {
  await into(await workflow('sums/1.key.asc'), ['1.0.0']);
  const file = join(tree, 'keys/roothash.crt');
  expect(await readFile(file, 'utf8')).toBe(await secret('roothash.crt'));
  await beginRotation(keysDir);
  await rm(join(keysDir, 'roothash.crt'));
  await into(await laptop(), ['1.0.1']);
  expect(await keysIn(published())).toBe(2);
  expect((await stat(file)).isFile()).toBe(true);
  expect(await readFile(join(tree, 'keys/update-payload-key.pub.pem'), 'utf8')).toContain('PUBLIC KEY');
  await expect(loadKeys(keysDir, { FLATCAR_EXT_ROOTHASH_CERTIFICATE: 'no certificate' })).rejects.toThrow('not a valid X.509 certificate');
});

test('disk images without a signature, and no key for update payloads, are refused unless that is meant', async () => {
  const keys = await laptop();
  await expect(into(keys, ['disk'])).rejects.toThrow('1 disk images have no signature of their roothash; nothing was published');
  await expect(readPublished(openTree(tree, openStore()), trustOf(keys))).rejects.toMatchObject({ code: 'no-tree' });
  await into(keys, ['disk'], { unsigned: true });
  const { update: _, ...rest } = keys;
  const without: PublishKeys = { ...rest, update: [] };
  // The tree has update payloads: new images would have none. What gets none anyway is published.
  await expect(into(without, ['1.0.0'])).rejects.toThrow(
    'this tree has update payloads, and there is no key to sign those of 1 new images',
  );
  await into(without, ['portable']);
  await into(without, ['1.0.0'], { unsigned: true });
  // The first publish decides it for the tree.
  tree = join(dir, `tree${count}-other`);
  await expect(into(without, ['portable'])).rejects.toThrow('there is no key for update payloads');
  await into(without, ['portable'], { unsigned: true });
  await into(without, ['1.0.0']);
  expect(await readdir(tree)).not.toContain('amd64-usr');
});

test('the key of disk images comes from the folder or from the environment, in files that are gone afterwards', async () => {
  const env = { FLATCAR_EXT_ROOTHASH_KEY: await secret('roothash.key'), FLATCAR_EXT_ROOTHASH_CERTIFICATE: await secret('roothash.crt') };
  let file = '';
  await withRoothashKeys(undefined, env, async (sign) => {
    file = sign?.key ?? '';
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect(await readlink(file), 'no name that a killed process could leave').toMatch(/ \(deleted\)$/);
    expect(execFileSync('openssl', ['x509', '-noout', '-modulus', '-in', sign?.certificate ?? ''], { encoding: 'utf8' })).toBe(
      execFileSync('openssl', ['rsa', '-noout', '-modulus', '-in', file], { encoding: 'utf8', stdio: 'pipe' }),
    );
  });
  await expect(stat(file)).rejects.toThrow('ENOENT');
  expect(await withRoothashKeys(keysDir, {}, async (sign) => sign?.key)).toBe(join(keysDir, 'roothash.key'));
  expect(await withRoothashKeys(undefined, { FLATCAR_EXT_ROOTHASH_KEY: '' }, async (sign) => sign)).toBe(undefined);
  await expect(withRoothashKeys(undefined, { FLATCAR_EXT_ROOTHASH_KEY: 'x' }, async () => 0)).rejects.toThrow(
    'FLATCAR_EXT_ROOTHASH_CERTIFICATE is not',
  );
});

test('a rotation that was killed is completed by running it again', async () => {
  const set = join(dir, 'killed-rotation');
  await initKeys(set);
  const sums = async (): Promise<string[]> => (await readdir(join(set, 'sums'))).toSorted();
  const next = await beginRotation(set);
  const announced = await readFile(join(set, 'sums/2.pub.asc'), 'utf8');
  await rm(join(set, 'sums/2.pub.asc')); // killed between the two halves
  expect(await beginRotation(set)).toBe(next);
  expect(await readFile(join(set, 'sums/2.pub.asc'), 'utf8')).toBe(announced);
  await expect(beginRotation(set)).rejects.toThrow('already in progress');
  await rename(join(set, 'sums/1.key.asc'), join(set, 'sums/1.old.asc')); // killed before the next one signs
  await expect(loadKeys(set, {})).rejects.toThrow('no key to sign sums with');
  await finishRotation(set);
  expect(await sums()).toEqual(['1.old.asc', '1.pub.asc', '2.key.asc', '2.pub.asc']);
});

test('a set of keys takes the place of an empty folder, of a link to one, and of one that cannot be replaced', async ({ skip }) => {
  const [empty, linked, link] = ['empty', 'linked', 'link'].map((name) => join(dir, name)) as [string, string, string];
  for (const folder of [empty, linked]) await mkdir(folder);
  await symlink(linked, link);
  for (const folder of [empty, link]) {
    await initKeys(folder);
    expect((await readdir(folder)).toSorted()).toEqual(['README', 'metadata', 'roothash.crt', 'roothash.key', 'sums', 'update']);
    await expect(initKeys(folder)).rejects.toThrow('not empty');
  }
  expect((await readdir(dir)).filter((name) => name.startsWith('.'))).toEqual([]);
  skip(process.getuid?.() !== 0, 'skipped: only root can mount');
  const mounted = join(dir, 'mounted');
  await mkdir(mounted);
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'none', mounted]);
  try {
    await initKeys(mounted);
    expect((await readdir(mounted)).toSorted()).toEqual(['README', 'metadata', 'roothash.crt', 'roothash.key', 'sums', 'update']);
    expect((await stat(mounted)).mode & 0o777).toBe(0o700);
  } finally {
    execFileSync('umount', [mounted]);
  }
});

test('empty variables are unset ones', async () => {
  const env = { FLATCAR_EXT_SUMS_KEY: '', FLATCAR_EXT_UPDATE_KEY: '', FLATCAR_EXT_ROOTHASH_CERTIFICATE: '' };
  await expect(loadKeys(undefined, env)).rejects.toThrow('there is no key to sign sums with');
  expect((await loadKeys(keysDir, env)).update).toHaveLength(1);
});

test.each([
  ['expired', { keyExpirationTime: 60 }, undefined],
  ['superseded', {}, openpgp.enums.reasonForRevocation.keySuperseded],
  ['retired', {}, openpgp.enums.reasonForRevocation.keyRetired],
  ['compromised', {}, openpgp.enums.reasonForRevocation.keyCompromised],
])('a signature of a key that is %s does not count, however old it says it is', async (_, options, reason) => {
  const date = new Date(Date.now() - 3_600_000);
  const made = await openpgp.generateKey({
    type: 'ecc',
    curve: 'ed25519Legacy',
    userIDs: [{ name: 'x' }],
    format: 'object',
    date,
    ...options,
  });
  const bytes = Buffer.from('text');
  const message = await openpgp.createMessage({ binary: bytes });
  const signature = Buffer.from(
    await openpgp.sign({ message, signingKeys: made.privateKey, detached: true, format: 'binary', date: new Date(date.getTime() + 1000) }),
  );
  const key =
    reason === undefined
      ? made.publicKey
      : (await openpgp.revokeKey({ key: made.privateKey, reasonForRevocation: { flag: reason }, format: 'object' })).publicKey;
  expect((await goodSignatures(bytes, signature, [key])).size).toBe(0);
  const { sums } = await laptop();
  expect(
    (
      await goodSignatures(
        bytes,
        await signDetached(bytes, sums),
        sums.map((one) => one.toPublic()),
      )
    ).size,
  ).toBe(1);
  if (reason !== undefined) return;
  // Nor does a publish sign with one.
  const armored = made.privateKey.armor();
  await expect(loadKeys(undefined, { FLATCAR_EXT_SUMS_KEY: armored })).rejects.toThrow(/key 0x[0-9A-F]{40} expired on/);
});

test('a tree of another publisher is refused, with the reason', async () => {
  await into(await laptop(), ['1.0.0']);
  await initKeys(join(dir, `others${count}`));
  const others = await loadKeys(join(dir, `others${count}`), {});
  await expect(readPublished(openTree(tree, openStore()), trustOf(others))).rejects.toThrow(
    'the metadata of this tree is refused: timestamp was signed by 0/1 keys',
  );
});
