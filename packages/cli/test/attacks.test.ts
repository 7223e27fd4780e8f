// The attacks of TUF's list on a published tree, each tried on each command that reads one. The attacker has the server or the network, and where
// the table names a stolen key, that key. docs/security.md refers to these tests by the names of the attacks.
import { createReadStream } from 'node:fs';
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { initKeys, loadKeys, localDestination, publish, revokeKey, type PublishKeys } from '@flatcar/publish';
import { firstRoot } from '@flatcar/publish/metadata/root';
import { isTrusted, metadataBytes, parseMetadata, signMetadata, type ROLES, type TreeMetadata } from '@flatcar/publish/metadata/metadata';
import { newRoleKey, roleKeyFiles } from '@flatcar/publish/keys/role-keys';
import { signTimestamp } from '@flatcar/publish/metadata/sign-tree';
import { Metadata, MetadataKind, MetaFile, Snapshot } from '@tufjs/models';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { buildDemo } from '@flatcar/publish/test/helpers/demo';
import { run } from '../src/run.ts';

let dir: string;
let keys: PublishKeys;
let server: Server;
let url: string;
/** Path of the tree that the server sends without end. */
let endless: string | undefined;
const served = (): string => join(dir, 'served');
const at = (name: string): string => join(dir, name);

interface Ran {
  readonly code: number;
  readonly text: string;
}

/** Runs a command line in this process, for one client with a memory of its own. */
async function flatcarExt(...args: string[]): Promise<Ran> {
  const parts: string[] = [];
  const capture = (part: string | Uint8Array, done?: unknown): boolean => {
    parts.push(String(part));
    if (typeof done === 'function') (done as () => void)();
    return true;
  };
  const spies = [process.stdout, process.stderr].map((stream) => vi.spyOn(stream, 'write').mockImplementation(capture));
  const code = await run(args).finally(() => spies.forEach((spy) => spy.mockRestore()));
  return { code, text: parts.join('') };
}

/** Commands that read a tree; those that sign one read it in its folder. */
const CLIENTS: Readonly<Record<string, () => string[]>> = {
  butane: () => ['butane', 'demo', '--release', 'portable', '--arch', 'x86-64', '--base-url', url, ...root()],
  ignition: () => ['ignition', 'demo', '--release', 'portable', '--arch', 'x86-64', '--base-url', url, ...root()],
  show: () => ['show', '--tree', url, ...root()],
  fetch: () => ['fetch', 'demo', '--release', 'portable', '--arch', 'x86-64', '--tree', url, ...root(), '--out', at('fetched')],
  plan: () => ['plan', 'yq', '--tree', url, ...root()],
  bind: () => ['bind', 'demo', '--release', 'portable', '--arch', 'x86-64', '--tree', url, ...root(), '--out', at('bound')],
  mirror: () => ['mirror', '--tree', url, '--to', at('mirror'), '--base-url', 'http://mirror.lan', ...root()],
  publish: () => ['publish', '--tree', served(), '--keys', at('keys'), '--unsigned'],
  'publish --timestamp': () => ['publish', '--timestamp', '--tree', served(), '--keys', at('keys')],
};
const root = (): string[] => ['--root', at('root.json')];
/** Commands that read the index of an extension, and those that read public keys. */
const READ_EXTENSIONS = ['butane', 'ignition', 'show', 'fetch', 'bind', 'mirror'];
const READ_KEYS = ['butane', 'ignition', 'mirror'];

const readServed = async <K extends (typeof ROLES)[number]>(role: K, name: string): Promise<ReturnType<typeof parseMetadata<K>>> =>
  parseMetadata(role, await readFile(join(served(), 'metadata', name)), name);
/** Replaces a file of the served tree; some are links to the set of their folder. */
const replace = async (path: string, bytes: Buffer | string): Promise<void> => {
  await rm(join(served(), path), { force: true });
  await writeFile(join(served(), path), bytes);
};
const signers = (): Parameters<typeof signTimestamp>[2] => ({
  keys: keys.metadata.signing,
  roots: keys.metadata.roots.map((one) => one.root),
});
const soon = (): Date => new Date();
/** The current index: the files of the state before stay for its readers. */
const currentIndex = async (): Promise<string> =>
  `${(await readServed(MetadataKind.Targets, '2.targets.json')).signed.targets['index.json']?.hashes['sha256']}.index.json`;

interface Attack {
  readonly act: () => Promise<void>;
  readonly refusal: RegExp;
  /** The client has not read the tree before: it would not fetch again what it has. */
  readonly isFirst?: boolean;
  /** Commands that read what is attacked; by default all. */
  readonly on?: readonly string[];
}

const ATTACKS: Readonly<Record<string, Attack>> = {
  'arbitrary software: another index': {
    async act() {
      const name = await currentIndex();
      await replace(name, (await readFile(join(served(), name), 'utf8')).replace('1.0.1', '6.6.6'));
    },
    refusal: /does not match the signed metadata/,
  },
  'arbitrary software: another index of an extension': {
    async act() {
      for (const name of (await readdir(join(served(), 'demo'))).filter((one) => one.startsWith('index-')))
        await replace(`demo/${name}`, (await readFile(join(served(), 'demo', name), 'utf8')).replace('A demonstration', 'An evil copy'));
    },
    refusal: /does not match the signed index/,
    on: READ_EXTENSIONS,
  },
  'wrong keys: metadata of another publisher': {
    act: async () =>
      cp(join(at('foreign'), 'metadata'), join(served(), 'metadata'), { recursive: true, force: true, verbatimSymlinks: true }),
    refusal: /was signed by 0\/1 keys|has another root of this version/,
  },
  'wrong keys: a root that one root key signed': {
    async act() {
      const one = (await roleKeyFiles(at('keys'))).find(({ role }) => role === MetadataKind.Root);
      const own = newRoleKey();
      const next = firstRoot({ root: [own, newRoleKey()], targets: [own], snapshot: [own], timestamp: [own] }, soon());
      Reflect.set(next.signed, 'version', 2);
      signMetadata(next, [own, ...(one === undefined ? [] : [one.key])]);
      await replace('metadata/2.root.json', metadataBytes(next));
    },
    refusal: /root was signed by 1\/2 keys/,
  },
  'rollback: an older tree': {
    async act() {
      await rm(served(), { recursive: true });
      await cp(at('old'), served(), { recursive: true, verbatimSymlinks: true });
    },
    refusal: /went back to an older state/,
  },
  'rollback: an older snapshot, with a stolen timestamp key': {
    act: async () => replace('metadata/timestamp.json', metadataBytes(signTimestamp(1, 99, signers(), soon()))),
    refusal: /went back to an older state|has no metadata\/1\.snapshot\.json/,
  },
  'rollback: older targets, with stolen keys of snapshot and timestamp': {
    async act() {
      const { specVersion, expires } = (await readServed(MetadataKind.Snapshot, '2.snapshot.json')).signed;
      const snapshot = new Metadata(
        new Snapshot({ version: 99, specVersion, expires, meta: { 'targets.json': new MetaFile({ version: 1 }) } }),
      );
      signMetadata(snapshot, keys.metadata.signing);
      await replace('metadata/99.snapshot.json', metadataBytes(snapshot));
      await replace('metadata/timestamp.json', metadataBytes(signTimestamp(99, 99, signers(), soon())));
    },
    refusal: /went back to an older state/,
  },
  'mix-and-match: the snapshot of another state': {
    act: async () => replace('metadata/2.snapshot.json', await readFile(join(at('old'), 'metadata/1.snapshot.json'))),
    refusal: /Snapshot version doesn't match timestamp/,
    isFirst: true,
  },
  'mix-and-match: targets of another state': {
    act: async () => replace('metadata/2.targets.json', await readFile(join(at('old'), 'metadata/1.targets.json'))),
    refusal: /does not match snapshot version/,
    isFirst: true,
  },
  'indefinite freeze: a timestamp that has expired': {
    async act() {
      const past = new Date(Date.now() - 8 * 86_400_000);
      await replace('metadata/timestamp.json', metadataBytes(signTimestamp(2, 99, signers(), past)));
    },
    refusal: /has expired/,
  },
  'endless data: the timestamp': { act: async () => sendEndless('metadata/timestamp.json'), refusal: /larger than|more than/ },
  'endless data: the next root': { act: async () => sendEndless('metadata/2.root.json'), refusal: /larger than|more than/ },
  'endless data: the index': { act: async () => sendEndless(await currentIndex()), refusal: /larger than|more than/ },
  'poisoned keyring: a key more': {
    act: async () => replace('keys/import-pubring.gpg', await readFile(join(at('foreign'), 'keys/import-pubring.gpg'))),
    refusal: /does not match the signed index/,
    on: READ_KEYS,
  },
  'nothing is served': { act: async () => rm(join(served(), 'metadata'), { recursive: true }), refusal: /nothing is published here/ },
};

/** The server sends a file without end; who reads the folder finds a large file. */
async function sendEndless(path: string): Promise<void> {
  endless = `/${path}`;
  await replace(path, Buffer.alloc(1 << 20, ' '));
}

beforeAll(async () => {
  vi.stubEnv('NO_COLOR', '1');
  dir = await mkdtemp(join(tmpdir(), 'attacks-'));
  await Promise.all([initKeys(at('keys')), initKeys(at('others'))]);
  await cp(at('keys/metadata/1.root.json'), at('root.json'));
  keys = await loadKeys(at('keys'), {});
  await buildDemo(at('one'), { version: '1.0.0', targets: ['portable'] });
  await buildDemo(at('two'), { version: '1.0.1', targets: ['portable'] });
  vi.stubEnv('XDG_STATE_HOME', at('state-publisher'));
  const options = { keys, unsigned: true, baseUrl: 'https://one.example.org' };
  // The folder is the one that is served: publishers remember trees by their place.
  await publish({ ...options, paths: [at('one')], destination: localDestination(served()) });
  await cp(served(), at('old'), { recursive: true, verbatimSymlinks: true });
  await publish({ ...options, paths: [at('two')], destination: localDestination(served()) });
  await cp(served(), at('new'), { recursive: true, verbatimSymlinks: true });
  await publish({ ...options, keys: await loadKeys(at('others'), {}), paths: [at('two')], destination: localDestination(at('foreign')) });
  server = createServer((request, response) => {
    const path = decodeURIComponent(request.url ?? '');
    if (path === endless) {
      const timer = setInterval(() => response.write(Buffer.alloc(1 << 16, ' ')), 1);
      response.on('close', () => clearInterval(timer));
      return;
    }
    createReadStream(join(served(), path))
      .on('error', () => response.writeHead(404).end())
      .pipe(response);
  });
  await new Promise<void>((done) => {
    server.listen(0, '127.0.0.1', done);
  });
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}, 300_000);
async function clear(): Promise<void> {
  endless = undefined;
  for (const name of [...PLACES, 'fetched', 'bound']) await rm(at(name), { recursive: true, force: true });
}
afterEach(clear);
afterAll(async () => {
  vi.unstubAllEnvs();
  server.closeAllConnections();
  server.close();
  await rm(dir, { recursive: true, force: true });
});

/** What a client finds and leaves: the tree, its memory, and its copy of the tree. */
const PLACES = ['served', 'state', 'mirror'];
const copyPlaces = async (from: string, to: string): Promise<void> => {
  for (const name of PLACES) {
    await rm(join(to, name), { recursive: true, force: true });
    await cp(join(from, name), join(to, name), { recursive: true, verbatimSymlinks: true }).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
    });
  }
};

/** The honest tree, and a client that has read it once. */
async function knowTheTree(client: readonly string[]): Promise<void> {
  await cp(at('new'), served(), { recursive: true, verbatimSymlinks: true });
  vi.stubEnv('XDG_STATE_HOME', at('state'));
  const { code, text } = await flatcarExt(...client);
  expect(code, text).toBe(0);
}

describe.each(Object.entries(CLIENTS))('%s refuses', (name, args) => {
  const attacks = Object.entries(ATTACKS).filter(([, { on }]) => on?.includes(name) !== false);
  beforeAll(async () => {
    await knowTheTree(args());
    await copyPlaces(dir, at('known'));
    await clear();
  });

  test.each(attacks)('%s', async (_, { act, refusal, isFirst }) => {
    await copyPlaces(at('known'), dir);
    vi.stubEnv('XDG_STATE_HOME', at('state'));
    if (isFirst === true) for (const memory of ['state', 'mirror']) await rm(at(memory), { recursive: true, force: true });
    await act();
    const { code, text } = await flatcarExt(...args());
    expect(text).toMatch(refusal);
    expect(code).toBe(1);
  });

  test('a tree that is read without a root of trust', async () => {
    await copyPlaces(at('known'), dir);
    vi.stubEnv('XDG_STATE_HOME', at('state-new'));
    const without = args().filter(
      (arg, index, all) => !['--root', '--keys'].includes(arg) && !['--root', '--keys'].includes(all[index - 1] ?? ''),
    );
    const { code, text } = await flatcarExt(...without);
    expect(text).toMatch(/no root of trust|no key to sign sums/);
    expect(code).toBe(1);
  });
});

test('fast-forward: clients recover from it by a new root, once the stolen key is revoked', async () => {
  const client = CLIENTS['show']?.() ?? [];
  await knowTheTree(client);
  const stolen = signTimestamp(2, 2 ** 40, signers(), soon());
  await replace('metadata/timestamp.json', metadataBytes(stolen));
  expect((await flatcarExt(...client)).code, 'the key is not revoked yet').toBe(0);
  await replace('metadata/timestamp.json', await readFile(at('new/metadata/timestamp.json')));
  expect((await flatcarExt(...client)).text).toMatch(/went back to an older state/);
  // The publisher, who sees the attacker's timestamp.
  await replace('metadata/timestamp.json', metadataBytes(stolen));
  const revoked = at('keys-revoked');
  await cp(at('keys'), revoked, { recursive: true });
  const [first] = keys.metadata.roots;
  const id = first?.root.signed.roles[MetadataKind.Timestamp]?.keyIDs[0] ?? '';
  expect(await revokeKey(revoked, id)).toMatchObject({ version: 2, missing: { count: 0 } });
  vi.stubEnv('XDG_STATE_HOME', at('state-publisher'));
  const publisher = ['publish', '--tree', served(), '--keys', revoked, '--unsigned'];
  const { code, text } = await flatcarExt(...publisher);
  expect(code, text).toBe(0);
  const timestamp = await readServed(MetadataKind.Timestamp, 'timestamp.json');
  expect(timestamp.signed.version).toBeLessThan(100);
  expect(isTrusted(first?.root as TreeMetadata['root'], MetadataKind.Timestamp, timestamp), 'the stolen key signs no more').toBe(false);
  vi.stubEnv('XDG_STATE_HOME', at('state'));
  const again = await flatcarExt(...client);
  expect(again.code, again.text).toBe(0);
});
