// The root of trust: who must sign a new one, and that a tree can be read at every step of a change of keys.
import { createReadStream } from 'node:fs';
import { cp, mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildGoTool, exec, hashFile, openStore, openTools } from '@flatcar/core/engine';
import { MetadataKind } from '@tufjs/models';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  initKeys,
  loadKeys,
  loadMetadataKeys,
  localDestination,
  noMemory,
  openTree,
  publish,
  readPublished,
  renewTimestamp,
  revokeKey,
  rotateRole,
  showKeys,
  signRoot,
  type PublishResult,
  type Trust,
} from '../src/index.ts';
import { isSuccessor } from '../src/metadata/metadata.ts';
import { buildDemo } from './helpers/demo.ts';

let dir: string;
const at = (name: string): string => join(dir, name);

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'root-'));
  await initKeys(at('keys'));
  await buildDemo(at('one'), { version: '1.0.0', targets: ['portable'] });
});
afterAll(() => rm(dir, { recursive: true, force: true }));

const into = async (tree: string, keys: string, paths: readonly string[] = []): Promise<PublishResult> =>
  publish({
    paths,
    destination: localDestination(at(tree)),
    keys: await loadKeys(at(keys), {}),
    unsigned: true,
    baseUrl: 'https://one.example.org',
  });
/** Reads a tree as a client that has never read it, from the first root. */
async function serialFor(tree: string, trust: Trust): Promise<number | undefined> {
  return (await readPublished(openTree(at(tree), openStore()), { memory: noMemory, ...trust })).index?.serial;
}
/** A copy of the set of keys whose root keys are on media of their own. */
async function keysWithMedia(name: string): Promise<string[]> {
  await cp(at('keys'), at(name), { recursive: true });
  await mkdir(at(`${name}-media`), { mode: 0o700 });
  return Promise.all(
    [1, 2, 3].map(async (number) => {
      const file = join(at(`${name}-media`), `root-${number}.key.pem`);
      await rename(join(at(name), 'metadata', `root-${number}.key.pem`), file);
      return file;
    }),
  );
}

test('a change of keys needs two of the three root keys, at once or one after the other', async () => {
  const [one = '', two = ''] = await keysWithMedia('quorum');
  const begun = await rotateRole(at('quorum'), 'timestamp', [one]);
  expect(begun).toMatchObject({ version: 2, missing: { count: 1 } });
  expect((await showKeys(at('quorum'))).version, 'clients do not see it').toBe(1);
  await expect(rotateRole(at('quorum'), 'snapshot', [one, two])).rejects.toThrow('root 2 still waits for signatures');
  expect(await signRoot(at('quorum'), [one]), 'the same key does not count twice').toMatchObject({ missing: { count: 1 } });
  expect(await signRoot(at('quorum'), [two])).toMatchObject({ version: 2, missing: { count: 0 } });
  expect((await showKeys(at('quorum'))).version).toBe(2);
  const { roots } = await loadMetadataKeys(at('quorum'), {});
  expect(roots.map(({ root }) => root.signed.version)).toEqual([1, 2]);
  expect(roots.every(({ root }, index) => index === 0 || isSuccessor((roots[index - 1] ?? roots[0])?.root as never, root))).toBe(true);
});

test('all root keys are replaced; clients with the first root follow, and new files keep their own names', async () => {
  const media = await keysWithMedia('all');
  await into('tree-all', 'all', [at('one')]);
  expect(await rotateRole(at('all'), 'root', media)).toMatchObject({ version: 2, missing: { count: 0 } });
  expect((await readdir(join(at('all'), 'metadata'))).filter((name) => name.startsWith('root-'))).toEqual([
    'root-4.key.pem',
    'root-5.key.pem',
    'root-6.key.pem',
  ]);
  await into('tree-all', 'all');
  const [first] = (await loadMetadataKeys(at('keys'), {})).roots;
  expect(await serialFor('tree-all', { root: first })).toBe(1);
});

test('while keys of the roles change as planned, a tree is read before and after the new root, with either root', async () => {
  await cp(at('keys'), at('planned'), { recursive: true });
  await into('tree-planned', 'planned', [at('one')]);
  for (const role of ['targets', 'snapshot', 'timestamp'] as const) await rotateRole(at('planned'), role);
  const { roots } = await loadMetadataKeys(at('planned'), {});
  expect(roots).toHaveLength(4);
  await into('tree-planned', 'planned');
  expect(await serialFor('tree-planned', { root: roots[0] })).toBe(2);
  // A publisher that dies before the new roots leaves this tree.
  for (const version of [2, 3, 4]) await rm(join(at('tree-planned'), `metadata/${version}.root.json`));
  expect(await serialFor('tree-planned', { root: roots[0] })).toBe(2);
  await into('tree-planned', 'planned');
  expect(await serialFor('tree-planned', { root: roots.at(-1) })).toBe(2);
});

test('an index that a revoked targets key signed is signed again only when the publisher says that it is theirs', async () => {
  await cp(at('keys'), at('revoked'), { recursive: true });
  await into('tree-revoked', 'revoked', [at('one')]);
  const { roles } = await showKeys(at('revoked'));
  const id = roles.find(({ role }) => role === MetadataKind.Targets)?.keys[0] ?? '';
  await revokeKey(at('revoked'), id.slice(0, 12));
  await expect(into('tree-revoked', 'revoked')).rejects.toThrow('signed by a targets key that was revoked');
  const keys = await loadKeys(at('revoked'), {});
  await publish({ paths: [], destination: localDestination(at('tree-revoked')), keys, unsigned: true, acceptRevoked: true });
  expect(await serialFor('tree-revoked', { root: keys.metadata.roots.at(-1) })).toBe(2);
});

test('a timestamp is renewed by the timestamp key alone', async () => {
  await into('tree-daily', 'keys', [at('one')]);
  await mkdir(at('daily/metadata'), { recursive: true, mode: 0o700 });
  for (const name of ['1.root.json', 'timestamp-1.key.pem'])
    await cp(join(at('keys'), 'metadata', name), join(at('daily'), 'metadata', name));
  const keys = await loadMetadataKeys(at('daily'), {});
  expect(await renewTimestamp(localDestination(at('tree-daily')), keys)).toMatchObject({ serial: 1, version: 2 });
  expect(await serialFor('tree-daily', { root: keys.roots[0] })).toBe(1);
  // Nothing else changes, and a publish with nothing to do leaves it.
  expect(await into('tree-daily', 'keys', [at('one')])).toMatchObject({ serial: 1, added: [] });
});

describe('go-tuf, which the agent uses', { tags: ['full'] }, () => {
  let client: string;
  let server: Server;
  let url: string;
  beforeAll(async () => {
    const module = join(import.meta.dirname, 'tuf-client');
    const store = openStore();
    // The digest of the program's own file is a part of what decides the result.
    const ldflags = `-X main.source=${await hashFile(join(module, 'main.go'))}`;
    client = await buildGoTool(module, { store, tools: openTools(store), ldflags });
    server = createServer((request, response) =>
      createReadStream(join(at('tree-go'), request.url ?? ''))
        .on('error', () => response.writeHead(404).end())
        .pipe(response),
    );
    await new Promise<void>((done) => {
      server.listen(0, '127.0.0.1', done);
    });
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }, 600_000);
  afterAll(() => server.close());
  const indexFor = async (state: string): Promise<{ serial: number }> => {
    await mkdir(at(state), { recursive: true });
    return JSON.parse(await exec(client, [join(at('keys'), 'metadata/1.root.json'), at(state), url])) as { serial: number };
  };

  test('reads a tree before and after all keys are replaced, and refuses it when it goes back', async () => {
    await cp(at('keys'), at('go'), { recursive: true });
    await into('tree-go', 'go', [at('one')]);
    await cp(at('tree-go'), at('tree-go-old'), { recursive: true, verbatimSymlinks: true });
    expect(await indexFor('go-state')).toMatchObject({ serial: 1 });
    for (const role of ['targets', 'snapshot', 'timestamp', 'root'] as const) await rotateRole(at('go'), role);
    await into('tree-go', 'go');
    expect(await indexFor('go-state')).toMatchObject({ serial: 2 });
    expect(await indexFor('go-new')).toMatchObject({ serial: 2 });
    await renewTimestamp(localDestination(at('tree-go')), await loadMetadataKeys(at('go'), {}));
    expect(await indexFor('go-state')).toMatchObject({ serial: 2 });
    await rm(at('tree-go'), { recursive: true });
    await rename(at('tree-go-old'), at('tree-go'));
    await expect(indexFor('go-state')).rejects.toThrow();
    expect(await indexFor('go-first'), 'who has not read the newer one').toMatchObject({ serial: 1 });
  });
});
