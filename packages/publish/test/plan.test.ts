import {
  catalogue,
  readPins,
  selectTargets,
  targetName,
  imageVersion,
  asUpstreamVersion,
  type Pins,
  type TargetName,
} from '@flatcar/core/engine';
import { expect, test } from 'vitest';
import {
  matrixOf,
  plan,
  supportedTargets,
  type ExtensionIndex,
  type PlannedExtension,
  type Published,
  type PublishedImage,
  type PublishedVersion,
} from '../src/index.ts';

const hex = (digits: number): string => 'a'.repeat(digits);
const pins = (versions: Record<string, number>): Pins =>
  readPins(
    JSON.stringify(
      Object.fromEntries(Object.entries(versions).map(([version, revision]) => [version, { revision, licenses: {}, bytes: {} }])),
    ),
    'pins.json',
  );
const kubernetes: PlannedExtension = {
  name: 'kubernetes',
  track: '3 minors',
  pins: pins({ '1.37.0': 0, '1.36.4': 1, '1.36.3': 0, '1.35.8': 0, '1.34.9': 0 }),
};
const tool: PlannedExtension = { name: 'tool', track: 'newest', pins: pins({ '1.0': 0 }) };
const targets = selectTargets('portable,4593.2.5,4757.1.0');

const image = (target: string, architecture: 'x86-64' | 'arm64'): PublishedImage => ({
  target: target as TargetName,
  architecture,
  format: target.startsWith('47') ? 'ddi' : 'squashfs',
  path: `x/${target}/x.raw`,
  size: 1,
  sha256: hex(64),
  sha512: hex(128),
  manifest: hex(64),
  sbom: hex(64),
  provenance: hex(64),
});
const version = (
  upstream: string,
  revision: number,
  images: readonly PublishedImage[],
  more: Partial<PublishedVersion> = {},
): PublishedVersion => ({
  version: imageVersion(upstream, revision),
  upstream: asUpstreamVersion(upstream),
  revision,
  needs: {},
  components: [],
  replaces: [],
  conflicts: [],
  requires: [],
  payloads: Object.fromEntries(images.map((one) => [`${one.architecture} ${one.format}`, { key: hex(64), record: hex(64) }])),
  images: [...images],
  ...more,
});
const published = (...indexes: { name: string; versions: PublishedVersion[] }[]): Published => ({
  index: undefined,
  extension: async (name) => {
    const found = indexes.find((one) => one.name === name);
    return found === undefined
      ? undefined
      : ({ schema: 1, kind: 'sysext', summary: '', essential: false, follow: 'latest', ...found } satisfies ExtensionIndex);
  },
  packages: async () => [],
});
const all = (): PublishedImage[] =>
  (['portable', '4593.2.5', '4757.1.0'] as const).flatMap((target) => [image(target, 'x86-64'), image(target, 'arm64')]);

test('from an empty tree: the newest of each kept branch, both formats, both architectures', async () => {
  const result = await plan([tool, kubernetes], targets, published());
  expect([...new Set(result.payloads.map((one) => `${one.extension} ${one.version}`))]).toEqual([
    'kubernetes 1.37.0',
    'kubernetes 1.36.4-1',
    'kubernetes 1.35.8',
    'tool 1.0',
  ]);
  expect(result.payloads).toHaveLength(16);
  expect(result.images.every(({ from }) => from === 'build')).toBe(true);
  expect(result.images.reduce((sum, one) => sum + one.targets.length, 0)).toBe(24);
  const job = (extension: string, architecture: string, versions: string[]): object => ({
    id: `${extension}-${architecture}`,
    extension,
    architecture,
    from: 'build',
    versions,
    targets: ['portable', '4593.2.5', '4757.1.0'],
  });
  expect(matrixOf(result).include).toEqual([
    job('kubernetes', 'x86-64', ['1.37.0', '1.36.4', '1.35.8']),
    job('kubernetes', 'arm64', ['1.37.0', '1.36.4', '1.35.8']),
    job('tool', 'x86-64', ['1.0']),
    job('tool', 'arm64', ['1.0']),
  ]);
});

test('no portable image is planned for an extension that is bound to releases', async () => {
  const { images } = await plan([{ ...tool, releaseBound: true }], targets, published());
  expect(images.flatMap((one) => one.targets).toSorted()).toEqual(['4593.2.5', '4593.2.5', '4757.1.0', '4757.1.0']);
  expect(await plan([{ ...tool, releaseBound: true }], selectTargets('portable'), published())).toMatchObject({ payloads: [], images: [] });
});

test('what is published is not planned, and one more release is bound from what is published', async () => {
  const whole = published({ name: 'tool', versions: [version('1.0', 0, all())] });
  expect(await plan([tool], targets, whole)).toMatchObject({ payloads: [], images: [] });
  const more = await plan([tool], selectTargets('portable,4593.2.5,4593.2.4,4757.1.0'), whole);
  expect(more.payloads).toEqual([]);
  expect(more.images).toEqual(
    ['x86-64', 'arm64'].map((architecture) => ({
      extension: 'tool',
      version: '1.0',
      architecture,
      format: 'squashfs',
      targets: ['4593.2.4'],
      from: 'published',
    })),
  );
  expect(matrixOf(more).include[0]).toEqual({
    id: 'tool-x86-64',
    extension: 'tool',
    architecture: 'x86-64',
    from: 'published',
    versions: ['1.0'],
    targets: ['4593.2.4'],
  });
  // A new version beside it does not drag the old one along.
  const newer = await plan([{ ...tool, pins: pins({ '1.1': 0, '1.0': 0 }) }], targets, whole, ['x86-64']);
  expect(matrixOf(newer).include.map(({ versions }) => versions)).toEqual([['1.1']]);
});

test('a raised revision is a version of its own', async () => {
  const tree = published({ name: 'tool', versions: [version('1.0', 0, all())] });
  const result = await plan([{ ...tool, pins: pins({ '1.0': 2 }) }], targets, tree, ['x86-64']);
  expect(result.payloads.map((one) => [one.version, one.format])).toEqual([
    ['1.0-2', 'squashfs'],
    ['1.0-2', 'ddi'],
  ]);
});

test('a withdrawn version gets no more images, what follows it does', async () => {
  const bad = version('1.0', 0, all(), { withdrawn: { reason: 'it eats data', by: '1.0-1' } });
  const more = selectTargets('4593.2.5,4593.2.4');
  const tree = published({ name: 'tool', versions: [version('1.0', 1, all()), bad] });
  expect((await plan([tool], more, tree, ['arm64'])).images).toEqual([
    { extension: 'tool', version: '1.0-1', architecture: 'arm64', format: 'squashfs', targets: ['4593.2.4'], from: 'published' },
  ]);
  expect((await plan([tool], more, published({ name: 'tool', versions: [bad] }))).images).toEqual([]);
});

test('a release that does not have what a published version needs is told, not planned', async () => {
  const one = version('1.0', 0, all(), { needs: { 'x86-64': { systemd: '254', glibc: '2.41', libraries: ['libc.so.6'] } } });
  const result = await plan([tool], selectTargets('4081.3.10'), published({ name: 'tool', versions: [one] }), ['x86-64']);
  expect(result.images).toEqual([]);
  expect(result.skipped).toMatchObject([{ extension: 'tool', target: '4081.3.10' }]);
});

test('the same inputs give the same plan, in whatever order they come', async () => {
  const forward = await plan([tool, kubernetes], targets, published());
  expect(JSON.stringify(await plan([kubernetes, tool], targets, published()))).toBe(JSON.stringify(forward));
});

test('supported are portable and the newest release of every channel, of LTS of every major', () => {
  const names = supportedTargets(catalogue()).map(targetName);
  expect(names[0]).toBe('portable');
  for (const channel of ['stable', 'beta', 'alpha', 'lts'])
    expect(names.filter((name) => catalogue().some((one) => one.number === name && one.channel === channel)).length).toBeGreaterThanOrEqual(
      1,
    );
  expect(new Set(names).size).toBe(names.length);
});

test('a fix under the name that a withdrawal has taken is told, and a higher revision is built', async () => {
  const withdrawn = { reason: 'it eats data', by: '1.0-1' };
  const tree = published({
    name: 'tool',
    versions: [version('1.0', 1, all()), version('1.0', 0, all(), { withdrawn }), version('0.9', 0, all())],
  });
  const planOf = (revision: number): ReturnType<typeof plan> => plan([{ ...tool, pins: pins({ '1.0': revision }) }], targets, tree);
  expect(await planOf(0)).toMatchObject({ images: [], collisions: [] });
  expect(await planOf(1)).toMatchObject({ images: [], collisions: [{ extension: 'tool', version: '1.0-1', withdrawn: '1.0' }] });
  const next = await planOf(2);
  expect(next.collisions).toEqual([]);
  expect(next.payloads.every((one) => one.version === '1.0-2')).toBe(true);
  expect(next.payloads).toHaveLength(4);
});

test('a version that was changed after it was published is named, and planned no more than before', async () => {
  const [was, is] = ['b'.repeat(64), 'c'.repeat(64)];
  const changed = (packaging: string | undefined, revision = 0): PlannedExtension => ({
    ...tool,
    pins: { '1.0': { revision, coupled: {}, licenses: {}, bytes: {}, packaging } },
  });
  const whole = published({ name: 'tool', versions: [version('1.0', 0, all(), { packaging: was })] });
  expect(await plan([changed(is)], targets, whole)).toMatchObject({ images: [], stale: [{ extension: 'tool', version: '1.0' }] });
  expect((await plan([changed(was)], targets, whole)).stale).toEqual([]);
  // With a higher revision it is another version, which is built; and what was published without a digest says nothing.
  expect(await plan([changed(is, 1)], targets, whole)).toMatchObject({ stale: [], payloads: [{ version: '1.0-1' }, {}, {}, {}] });
  expect((await plan([changed(is)], targets, published({ name: 'tool', versions: [version('1.0', 0, all())] }))).stale).toEqual([]);
});
