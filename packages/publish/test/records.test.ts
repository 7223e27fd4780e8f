import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildExtension, defineExtension, openStore, openTools, sidecarPaths, UserError, type Component } from '@flatcar/core/engine';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { initKeys, loadKeys, localDestination, publish, type PublishKeys } from '../src/index.ts';

let dir: string;
let keys: PublishKeys;
let built: string;

/** A component of files of this test. */
async function component(name: string, version: string): Promise<Component> {
  const lock = join(dir, `files-${name}`);
  await mkdir(join(lock, 'files'), { recursive: true });
  await writeFile(join(lock, 'files', name), `${name}\n`);
  return {
    name,
    version,
    lock,
    origins: [{ kind: 'files', dir: 'files' }],
    install: [{ from: name, to: 'usr/share/node-exporter/', mode: 0o644 }],
  };
}

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'publish-records-'));
  await initKeys(join(dir, 'keys'));
  keys = await loadKeys(join(dir, 'keys'), {});
  // Names that collapse when they become SPDX ids, and one that the extension's own files have too, in another version.
  const components = [
    await component('node_exporter', '1.0'),
    await component('node.exporter', '2.0'),
    await component('node-exporter', '1.0'),
    await component('node+exporter', '3.0'),
  ];
  const own = join(dir, 'extension');
  await mkdir(join(own, 'files/usr/share/node-exporter'), { recursive: true });
  await writeFile(join(own, 'files/usr/share/node-exporter/own'), 'own\n');
  const store = openStore();
  built = join(dir, 'built');
  await buildExtension(
    {
      dir: own,
      fixture: false,
      pins: { '1.0': { revision: 3, coupled: {}, licenses: {}, bytes: {} } },
      extension: defineExtension({
        name: 'node-exporter',
        summary: 'a test',
        versions: { kind: 'date', track: 'newest' },
        components: () => components,
      }),
    },
    {
      version: '1.0',
      arch: 'x86-64',
      targets: ['portable'],
      profile: 'publish',
      origin: 'upstream',
      out: built,
      store,
      tools: openTools(store),
      report: () => undefined,
      built: { gitCommit: 'a'.repeat(40) },
    },
  );
});
afterAll(() => rm(dir, { recursive: true, force: true }));

interface Sbom {
  packages: { SPDXID: string; name: string; versionInfo?: string }[];
}
const image = 'portable/node-exporter.portable_1.0-3_x86-64.raw';
const readSbom = async (folder: string): Promise<Sbom> =>
  JSON.parse(await readFile(sidecarPaths(join(folder, image)).sbom, 'utf8')) as Sbom;

let trees = 0;
const into = (folder: string): Promise<{ added: readonly string[] }> => {
  trees += 1;
  const destination = localDestination(join(dir, `tree${trees}`));
  return publish({ destination, keys, baseUrl: 'https://extensions.example.org', unsigned: true, paths: [folder] });
};

test('components whose names collapse, or that two parts of an image share, are each listed under one id, and can be published', async () => {
  const { packages } = await readSbom(built);
  const ids = packages.map(({ SPDXID }) => SPDXID);
  expect(new Set(ids).size).toBe(ids.length);
  for (const id of ids) expect(id).toMatch(/^SPDXRef-[A-Za-z0-9.-]+$/);
  expect(packages.slice(1).map(({ name, versionInfo }) => `${name} ${versionInfo}`)).toEqual([
    'node_exporter 1.0',
    'node.exporter 2.0',
    'node-exporter 1.0',
    'node+exporter 3.0',
  ]);
  await into(built);
});

test.each<[string, (sbom: Sbom) => unknown, string]>([
  ['lacks a component', ({ packages }) => packages.splice(1, 1), "it does not list component 'node_exporter'"],
  [
    'has one in another version',
    ({ packages }) => Object.assign(packages[3]!, { versionInfo: '9' }),
    "lists component 'node-exporter' as version '9'",
  ],
  ['has two packages of one id', ({ packages }) => packages.push(packages[1]!), 'two packages have the same SPDXID'],
  ['has a package without an id', ({ packages }) => Object.assign(packages[1]!, { SPDXID: 1 }), 'packages.1.SPDXID'],
  ['is of another version of SPDX', (sbom) => Object.assign(sbom, { spdxVersion: 'SPDX-2.2' }), 'spdxVersion'],
])('a bill of materials that %s is refused, with the path that was given', async (_, spoil, message) => {
  const copy = join(dir, `spoilt${trees}`);
  await cp(built, copy, { recursive: true });
  const sbom = await readSbom(copy);
  spoil(sbom);
  const file = sidecarPaths(join(copy, image)).sbom;
  await writeFile(file, JSON.stringify(sbom));
  const error = await into(copy).then(
    () => new Error('it was published'),
    (cause: unknown) => cause as UserError,
  );
  expect(error.message).toContain(message);
  expect((error as UserError).where?.replace(/:\d+$/, '')).toBe(file);
});
