// @module-tag full
// A scanner finds in our bills of materials what is known to be bad, of each ecosystem that images have something of.
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import {
  binary,
  buildExtension,
  cargo,
  defineExtension,
  hostArch,
  loadExtension,
  newestFirst,
  openStore,
  openTools,
  readPins,
  sidecarPaths,
  type LoadedExtension,
  type OriginChoice,
} from '@flatcar/core/engine';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { evidenceProblems } from '../src/evidence.ts';
import { scan, type Advisory } from '../src/scanner.ts';

const store = openStore();
const repository = resolve(import.meta.dirname, '../../..');
const fixture = join(import.meta.dirname, '../fixtures/origins');
const images: string[] = [];
let dir: string;
let crateVersion: string;
let goVersion: string;

async function build(loaded: LoadedExtension, origin: OriginChoice): Promise<void> {
  const [version = ''] = newestFirst(Object.keys(loaded.pins));
  const made = await buildExtension(loaded, {
    version,
    arch: hostArch(),
    targets: ['portable'],
    profile: 'fast',
    origin,
    out: join(dir, loaded.extension.name),
    store,
    tools: openTools(store),
    report: () => undefined,
  });
  images.push(...made.images.map(({ file }) => file));
}

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'scanner-'));
  await build(await loadExtension(join(repository, 'extensions/ripgrep')), 'auto');
  const yq = await loadExtension(join(repository, 'extensions/yq'));
  goVersion = newestFirst(Object.keys(yq.pins))[0] ?? '';
  await build(yq, 'source');
  const crate: LoadedExtension = {
    dir: fixture,
    fixture: true,
    pins: readPins(JSON.stringify({ '1.0.0': { licenses: { counter: 'Apache-2.0' }, bytes: {} } }), 'pins.json'),
    extension: defineExtension({
      name: 'counter',
      summary: 'a program of Rust',
      versions: { kind: 'date', track: 'newest' },
      components: () => [binary('counter', '1.0.0', cargo('./counter', ['counter']))],
    }),
  };
  await build(crate, 'source');
  const lock = await readFile(join(fixture, 'counter/Cargo.lock'), 'utf8');
  crateVersion = /name = "itoa"\nversion = "([^"]+)"/.exec(lock)?.[1] ?? '';
});
afterAll(() => rm(dir, { recursive: true, force: true }));

test('their records are valid', async () => {
  expect(images).toHaveLength(3);
  expect(await evidenceProblems(store, images)).toEqual([]);
});

test('osv-scanner finds a bad version of each ecosystem, and none where it is mended', async () => {
  const module = 'github.com/mikefarah/yq/v4';
  const bad = (id: string, ecosystem: string, name: string, fixed: string): Advisory => ({ id: `BAD-${id}`, ecosystem, name, fixed });
  const mended = (id: string, ecosystem: string, name: string, fixed: string): Advisory => ({ id: `MENDED-${id}`, ecosystem, name, fixed });
  const found = await scan(
    store,
    images.map((image) => sidecarPaths(image).sbom),
    [
      bad('go', 'Go', module, '999.0.0'),
      mended('go', 'Go', module, goVersion),
      bad('go-stdlib', 'Go', 'stdlib', '999.0.0'),
      mended('go-stdlib', 'Go', 'stdlib', '1.20.0'),
      bad('crate', 'crates.io', 'itoa', '999.0.0'),
      mended('crate', 'crates.io', 'itoa', crateVersion),
      // By source package, as Debian's security tracker has them: of a package, of a library that comes with it, and of what is compiled in.
      bad('deb', 'Debian:13', 'rust-ripgrep', '14.1.1-1+deb13u1'),
      mended('deb', 'Debian:13', 'rust-ripgrep', '14.1.1-1'),
      bad('deb-library', 'Debian:13', 'glibc', '999'),
      mended('deb-library', 'Debian:13', 'glibc', '2.41-1'),
      bad('deb-compiled-in', 'Debian:13', 'rust-regex-automata', '999'),
    ],
  );
  expect(found).toEqual([
    'BAD-crate itoa',
    'BAD-deb rust-ripgrep',
    'BAD-deb-compiled-in rust-regex-automata',
    'BAD-deb-library glibc',
    `BAD-go ${module}`,
    'BAD-go-stdlib stdlib',
  ]);
});

test('a document that is damaged is found out by the validators', async () => {
  const { writeFile } = await import('node:fs/promises');
  const { sidecarProblems } = await import('../src/evidence.ts');
  const { sbom, provenance } = sidecarPaths(images[0] ?? '');
  const document = JSON.parse(await readFile(sbom, 'utf8')) as {
    packages: { SPDXID: string; externalRefs?: { referenceLocator: string }[] }[];
  };
  const problemsOf = async (change: object): Promise<string> => {
    const file = join(dir, 'changed.spdx.json');
    await writeFile(file, JSON.stringify({ ...document, ...change }));
    return (await sidecarProblems(store, [file])).join('\n');
  };
  const [root, ...rest] = document.packages;
  expect(await problemsOf({})).toBe('');
  expect(await problemsOf({ packages: [root, ...rest, rest[0]] })).toContain('is not unique');
  expect(await problemsOf({ packages: [root, { ...rest[0], SPDXID: 'SPDXRef-a_b' }, ...rest] })).not.toBe('');
  expect(await problemsOf({ relationships: [] })).not.toBe('');
  const plus = [{ referenceCategory: 'PACKAGE-MANAGER', referenceType: 'purl', referenceLocator: 'pkg:generic/a@1+2' }];
  expect(await problemsOf({ packages: [root, { ...rest[0], externalRefs: plus }, ...rest.slice(1)] })).toContain('is not canonical');
  const record = join(dir, 'changed.provenance.json');
  const text = await readFile(provenance, 'utf8');
  await writeFile(record, text.replace('"builder"', '"bilder"'));
  expect((await sidecarProblems(store, [record])).join()).toContain('bilder');
});
