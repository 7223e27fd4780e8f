// The digest that pins.json has of what decides bytes: what changes it, and what does not.
import { chmod, mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { binary, defineExtension, go, upstream, source } from '../src/definition/builders.ts';
import type { Component, ExtensionDefinition, LoadedExtension } from '../src/definition/types.ts';
import { hashFile } from '../src/util/files.ts';
import { packagingDigest, stalePackaging } from '../src/pipeline/packaging.ts';
import type { PinnedVersion } from '../src/definition/pins.ts';

let dir: string;
const write = async (name: string, text: string): Promise<void> => {
  await mkdir(dirname(join(dir, name)), { recursive: true });
  await writeFile(join(dir, name), text);
};
const lockModule = 'go/example.org/tool@v1.2.3';
const url = (arch: string): string => `https://example.org/tool-${arch}`;
const tarball = 'debian:pool/main/t/tool_1.2.3.tar.gz';

/** The extension with a change to its definition or to its lock. */
async function loaded(
  definition: Partial<ExtensionDefinition> = {},
  pin: Partial<PinnedVersion> = {},
  goOptions: Parameters<typeof go>[2] = { stamps: { 'main.version': '{version}' } },
): Promise<LoadedExtension> {
  const proof = 'sha256 list';
  return {
    dir,
    fixture: false,
    extension: defineExtension({
      name: 'tool',
      summary: 'a tool',
      versions: { kind: 'github', repo: 'example/tool', track: 'newest' },
      components: ({ version = '' }) => [
        binary(
          'tool',
          version,
          upstream('https://example.org/tool-{arch}'),
          go('example.org/tool', '.', goOptions),
          source('pool/main/t/tool_{version}.tar.gz', 'build.sh'),
        ),
      ],
      start: ['tool.service'],
      ...definition,
    }),
    pins: {
      '1.2.3': {
        revision: 0,
        coupled: {},
        licenses: { tool: 'MIT' },
        bytes: {
          [url('amd64')]: { sha256: 'a'.repeat(64), proof },
          [url('arm64')]: { sha256: 'b'.repeat(64), proof },
          'go:example.org/tool@v1.2.3': { sha256: await hashFile(join(dir, lockModule, 'go.sum')), proof },
          [tarball]: { sha256: 'c'.repeat(64), proof },
        },
        ...pin,
      },
    },
  };
}
const digest = async (...change: Parameters<typeof loaded>): Promise<string> => packagingDigest(await loaded(...change), '1.2.3');
const bytes = async (): Promise<PinnedVersion['bytes']> => (await loaded()).pins['1.2.3']?.bytes ?? {};

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'packaging-'));
  await write('files/usr/lib/systemd/system/tool.service', '[Service]\nExecStart=/usr/bin/tool\n');
  await write('build.sh', 'make\n');
  await write(`${lockModule}/go.mod`, 'module tool\n');
  await write(`${lockModule}/go.sum`, 'example.org/tool v1.2.3 h1:x\n');
});
afterEach(() => rm(dir, { recursive: true, force: true }));

test('the digest is the same in every checkout, on every machine, and from one version of this code to the next', async () => {
  // When this fails, the locks of everything that is published ask for a revision: change packaging.ts, not this line.
  expect(await digest()).toBe('89b194dce48e92428527a5c7c644f1fa9368840a323ee2d3424e4b5199549f22');
});

const unit = 'files/usr/lib/systemd/system/tool.service';
test.each<[string, () => Promise<string>]>([
  ['the text of a unit', async () => (await write(unit, '[Service]\nExecStart=/usr/bin/tool -v\n'), digest())],
  ['the execute bit of a file', async () => (await chmod(join(dir, unit), 0o755), digest())],
  ['the name of a file', async () => (await rename(join(dir, unit), join(dir, `${unit}.d`)), digest())],
  ['one more file', async () => (await write('files/usr/share/tool/more', ''), digest())],
  ['a build script', async () => (await write('build.sh', 'make all\n'), digest())],
  ['go.mod of a lock module', async () => (await write(`${lockModule}/go.mod`, 'module tool\ngo 1.26\n'), digest())],
  ['what is started', () => digest({ start: [] })],
  ['the name', () => digest({ name: 'tools' })],
  ['a stamp', () => digest({}, {}, { stamps: { 'main.version': 'v{version}' } })],
  ['a build tag', () => digest({}, {}, { stamps: { 'main.version': '{version}' }, tags: ['more'] })],
  [
    'a place and its mode',
    () =>
      digest({
        components: ({ version = '' }) => [
          {
            ...binary('tool', version, upstream('https://example.org/tool-{arch}')),
            install: [{ from: 'tool', to: 'usr/bin/', mode: 0o700 }],
          },
        ],
      }),
  ],
  [
    'pinned bytes',
    async () => digest({}, { bytes: { ...(await bytes()), [url('arm64')]: { sha256: 'd'.repeat(64), proof: 'sha256 list' } } }),
  ],
])('%s is part of it', async (_, change) => {
  const before = await digest();
  expect(await change()).not.toBe(before);
});

test.each<[string, () => Promise<string>]>([
  ['the summary', () => digest({ summary: 'another text' })],
  ['a waiver', () => digest({ waive: { shadowing: 'because' } })],
  ['a promise', () => digest({ requiredPaths: ['usr/bin/tool'] })],
  ['the policy of its versions', () => digest({ versions: { kind: 'github', repo: 'example/tool', track: '2 minors' } })],
  ['the revision', () => digest({}, { revision: 3 })],
  ['a licence', () => digest({}, { licenses: { tool: 'Apache-2.0' } })],
  [
    'a proof and a size',
    async () =>
      digest(
        {},
        {
          bytes: Object.fromEntries(
            Object.entries(await bytes()).map(([key, { sha256 }]) => [key, { sha256, proof: 'third-party pin', size: 7 }]),
          ),
        },
      ),
  ],
  ['README.md', async () => (await write('README.md', '# tool\n'), digest())],
  ['a test', async () => (await write('test/extension.test.ts', 'test'), digest())],
  ['the umask of who checked out', async () => (await chmod(join(dir, unit), 0o600), digest())],
])('%s is no part of it', async (_, change) => {
  const before = await digest();
  expect(await change()).toBe(before);
});

test('a version that was changed since it was pinned is stale, one that was not is none', async () => {
  const packaging = await digest();
  expect(await stalePackaging(await loaded({}, { packaging }))).toEqual([]);
  await write(unit, 'changed');
  expect(await stalePackaging(await loaded({}, { packaging, revision: 2 }))).toEqual([
    { version: '1.2.3', revision: 2, pinned: packaging, actual: await digest() },
  ]);
  expect(await stalePackaging({ ...(await loaded({}, { packaging })), fixture: true })).toEqual([]);
});

test('an origin that nothing is pinned for decides nothing, and go.sum that is not the pinned one is an error', async () => {
  const { [tarball]: _, ...others } = await bytes();
  const without = await digest({}, { bytes: others });
  await write('build.sh', 'make all\n');
  expect(await digest({}, { bytes: others })).toBe(without);
  await expect(
    digest(
      {},
      { bytes: { ...others, 'go:example.org/tool@v1.2.3': { sha256: 'e'.repeat(64), proof: 'nothing published: as first downloaded' } } },
    ),
  ).rejects.toThrow('go.sum is pinned as');
});

test('a removed pin of a package is reported as missing, with its lock', async () => {
  const packaged = { kind: 'debian', packages: ['tool', 'helper'], suite: 'trixie', programs: ['tool'] } as const;
  const components = ({ version = '' }): Component[] => [{ name: 'tool', version, origins: [packaged], install: [{ from: '**', to: '' }] }];
  const pin = (...names: string[]): PinnedVersion['bytes'] =>
    Object.fromEntries(
      names.flatMap((name) =>
        ['amd64', 'arm64'].map((arch) => [
          `debian:pool/main/t/${name}_1.2.3-1_${arch}.deb`,
          { sha256: 'a'.repeat(64), proof: 'nothing published: as first downloaded' },
        ]),
      ),
    );
  await write('pins.json', JSON.stringify({ '1.2.3': { licenses: {}, bytes: {} } }, undefined, 2));
  await expect(digest({ components }, { bytes: pin('helper') })).rejects.toMatchObject({
    message: 'tool 1.2.3 has no pin of the package tool for x86-64',
    where: `${join(dir, 'pins.json')}:4`,
    next: expect.stringContaining('flatcar-ext pin'),
  });
  await expect(digest({ components }, { bytes: pin('helper', 'tool') })).resolves.toMatch(/^[0-9a-f]{64}$/);
});
