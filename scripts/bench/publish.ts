// npm run bench:publish: what publishing costs, in seconds and as ratios of one run: plan on a large index, a publish of many images, and the
// day of one more Flatcar release.
import { createHash } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import {
  ARCHES,
  buildExtension,
  catalogue,
  defineExtension,
  openStore,
  openTools,
  readPins,
  imageVersion,
  asUpstreamVersion,
  targetName,
  type Arch,
  type Format,
  type ImageVersion,
  type LoadedExtension,
  type Release,
  type Target,
} from '@flatcar/core/engine';
import {
  entryOf,
  extensionIndexPath,
  extensionIndexText,
  imagePath,
  INDEX,
  indexText,
  initKeys,
  loadKeys,
  localDestination,
  noMemory,
  openTree,
  packagesPath,
  packagesText,
  plan,
  publish,
  readPublished,
  supportedTargets,
  targetPath,
  type ExtensionIndex,
  type PublishedImage,
  type PublishKeys,
} from '@flatcar/publish';
import { metadataBytes } from '@flatcar/publish/metadata/metadata';
import { signTree } from '@flatcar/publish/metadata/sign-tree';
import { loadAll } from '@flatcar/workspace/select';
import { deltasText, measureDeltas } from './deltas.ts';
import { printResults, say, seconds, type Results } from './measure.ts';
import { compareDays, comparisonText } from './release-day/run.ts';

const HELP = `measure what publishing costs, in seconds and as ratios of one run

npm run bench:publish -- [OPTIONS]

  --only PART          measure this part only: plan (on an index of 100,000
                       images), many (publish 1,000 images), or deltas (bytes
                       that a node fetches for the next Flatcar release, and
                       for a version from the one before it, of payloads that
                       the store has)
  --release-day        measure one more Flatcar release for every extension and
                       both architectures instead: plan, bind, read back, sign
                       and index, compared with packing the same again.
                       Payloads that the store does not have are replaced by
                       others of the same size; nothing is compiled
  --extension NAMES    with --release-day and deltas: these extensions only,
                       comma-separated (default: all)
  --format FORMAT      with --release-day and deltas: squashfs or ddi (default:
                       both, a day of each)
  --pack MIB           with --release-day: pack payloads of the store again
                       until the packed files have this size together, or all;
                       the rest counts at the same rate (default: 64)
  --json               print JSON
  -h, --help           print this help

Examples:
  npm run bench:publish -- --only plan
  npm run bench:publish -- --only deltas --extension kubernetes
  npm run bench:publish -- --release-day
  npm run bench:publish -- --release-day --extension git,yq --format ddi`;

const PARTS = ['plan', 'many', 'deltas'];
const FORMATS: readonly Format[] = ['squashfs', 'ddi'];

function readArguments() {
  try {
    const { values } = parseArgs({
      options: {
        json: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
        only: { type: 'string' },
        'release-day': { type: 'boolean', default: false },
        extension: { type: 'string' },
        format: { type: 'string' },
        pack: { type: 'string' },
      },
    });
    const { only, format, pack } = values;
    const isDay = values['release-day'];
    if (only !== undefined && !PARTS.includes(only)) throw new Error(`--only ${only}: not one of ${PARTS.join(', ')}`);
    if (format !== undefined && !FORMATS.includes(format as Format))
      throw new Error(`--format ${format}: not one of ${FORMATS.join(', ')}`);
    if (isDay && only !== undefined) throw new Error('--only and --release-day exclude each other');
    if (pack !== undefined && pack !== 'all' && !/^\d+$/.test(pack)) throw new Error(`--pack ${pack}: neither a number of MiB nor 'all'`);
    if (!isDay && pack !== undefined) throw new Error('--pack needs --release-day');
    if (!isDay && only !== 'deltas' && [values.extension, format].some((value) => value !== undefined))
      throw new Error('--extension and --format need --release-day or --only deltas');
    return values;
  } catch (error) {
    console.error(`error: ${(error as Error).message}\nnext: see npm run bench:publish -- --help`);
    process.exit(2);
  }
}

const values = readArguments();
if (values.help) {
  console.log(HELP);
  process.exit(0);
}
const wanted = (part: string): boolean => values.only === undefined || values.only === part;
const store = openStore();
const report = (event: { type: string; text?: string }): void => {
  if (event.type === 'step') say(`  ${event.text}`);
};
const tools = openTools(store, report);
const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

/** An image of an index that is nowhere. */
function imageOf(name: string, version: ImageVersion, target: Release, architecture: Arch): PublishedImage {
  const path = imagePath({ name, version, target: targetName(target), architecture });
  const digest = sha256(path);
  return {
    target: targetName(target),
    architecture,
    format: target.format,
    path,
    size: 1,
    sha256: digest,
    sha512: digest + digest,
    manifest: digest,
    sbom: digest,
    provenance: digest,
  };
}

/** An index of 100 versions of an extension, for 10 releases and both architectures. */
function indexOf(name: string): ExtensionIndex {
  const releases = catalogue().slice(0, 10);
  const versions = Array.from({ length: 100 }, (_, index) => imageVersion(`1.${99 - index}.0`, 0)).map((version) => ({
    version,
    upstream: asUpstreamVersion(version),
    revision: 0,
    needs: {},
    components: [{ name, version, license: 'MIT', origin: 'upstream' as const }],
    replaces: [],
    conflicts: [],
    requires: [],
    payloads: {},
    images: releases.flatMap((target) => ARCHES.map((architecture) => imageOf(name, version, target, architecture))),
  }));
  return { schema: 1, name, kind: 'sysext', summary: name, essential: false, follow: 'latest', versions };
}

/** A signed tree of 100,000 images that are nowhere: planning reads indexes only. */
async function largeIndex(dir: string, keys: PublishKeys): Promise<readonly string[]> {
  const names = Array.from({ length: 50 }, (_, index) => `extension-${index}`);
  const extensions = [];
  for (const name of names) {
    const index = indexOf(name);
    const text = extensionIndexText(index);
    const digest = sha256(text);
    const path = extensionIndexPath(name, digest);
    await mkdir(join(dir, name), { recursive: true });
    await writeFile(join(dir, path), text);
    extensions.push(entryOf(index, { path, size: Buffer.byteLength(text), sha256: digest }));
  }
  const packages = packagesText([]);
  const listed = { path: packagesPath(sha256(packages)), size: Buffer.byteLength(packages), sha256: sha256(packages) };
  await writeFile(join(dir, listed.path), packages);
  const bytes = Buffer.from(
    indexText({
      schema: 1,
      serial: 1,
      baseUrl: 'https://one.example.org',
      origins: 'preferred',
      extensions,
      packages: listed,
      keys: [],
      sumsKeys: [],
      sumsUntil: '2099-01-01',
      changes: [],
      superseded: [],
    }),
  );
  const digest = createHash('sha256').update(bytes).digest('hex');
  await writeFile(join(dir, targetPath(digest)), bytes);
  const { roots, signing } = keys.metadata;
  const index = { path: INDEX, length: bytes.length, sha256: digest, serial: 1 };
  const state = { before: undefined, index, now: new Date(), isTaken: async () => false };
  const { targets, snapshot, timestamp } = await signTree(state, { keys: signing, roots: roots.map(({ root }) => root) });
  await mkdir(join(dir, 'metadata'));
  for (const [path, one] of Object.entries({ '1.targets': targets, '1.snapshot': snapshot, timestamp }))
    await writeFile(join(dir, 'metadata', `${path}.json`), metadataBytes(one));
  return names;
}

/** An extension of one small file of its own, to have many images at no cost. */
const tiny = (dir: string, version: string): LoadedExtension => ({
  dir,
  fixture: false,
  pins: readPins(JSON.stringify({ [version]: { licenses: {}, bytes: {} } }), 'pins.json'),
  extension: defineExtension({
    name: 'tiny',
    summary: 'a small file',
    versions: { kind: 'date', track: 'newest' },
    components: () => [],
  }),
});

const results: Results = {};
const note = (what: string, value: number, aim?: string): void => {
  results[what] = { value, aim };
  say(`  ${what}: ${value.toFixed(3)}`);
};

async function planning(temp: string, keys: PublishKeys): Promise<void> {
  say('plan on an index of 100,000 images');
  const large = join(temp, 'large');
  const names = await largeIndex(large, keys);
  const pins = readPins(JSON.stringify({ '1.99.0': { licenses: {}, bytes: {} }, '1.98.0': { licenses: {}, bytes: {} } }), 'pins.json');
  const before = process.resourceUsage().maxRSS;
  const cpu = process.cpuUsage();
  const planned = await seconds(async () => {
    const published = await readPublished(openTree(large, store), { root: keys.metadata.roots.at(-1), memory: noMemory });
    await plan(
      names.map((name) => ({ name, pins, track: 'newest' })),
      supportedTargets(catalogue()),
      published,
    );
  });
  note('plan on an index of 100,000 images, seconds', planned, '< 2');
  const { user, system } = process.cpuUsage(cpu);
  note('the same in seconds of CPU, which other work on the machine does not change', (user + system) / 1e6);
  note('peak memory that it added, MiB', (process.resourceUsage().maxRSS - before) / 1024);
}

async function many(temp: string, keys: PublishKeys): Promise<void> {
  say('publish of 1,000 images');
  const images = join(temp, 'many');
  await mkdir(join(temp, 'files/usr/share/tiny'), { recursive: true });
  // Disk images take systemd-repart a third of a second each, which is not what is measured here.
  const targets: Target[] = ['portable', ...catalogue().filter(({ format }) => format === 'squashfs')];
  for (let index = 0; index < 1000 / targets.length / ARCHES.length; index += 1) {
    const version = `1.${index}.0`;
    await writeFile(join(temp, 'files/usr/share/tiny/version'), version);
    for (const arch of ARCHES)
      await buildExtension(tiny(temp, version), {
        version,
        arch,
        targets,
        profile: 'publish',
        origin: 'upstream',
        out: join(images, 'tiny'),
        store,
        tools,
        report: () => undefined,
      });
  }
  const destination = localDestination(join(temp, 'tree'));
  let added = 0;
  const took = await seconds(async () => {
    added = (await publish({ paths: [images], destination, keys, baseUrl: 'https://one.example.org' })).added.length;
  });
  note('publish of 1,000 images, seconds', (took * 1000) / added);
  note('publishing them again, seconds', await seconds(() => publish({ paths: [images], destination, keys })));
}

const names = values.extension === undefined ? [] : values.extension.split(',');
const formats = FORMATS.filter((one) => values.format === undefined || values.format === one);

/** The days of a release, in the formats that were asked for. */
async function releaseDays(temp: string): Promise<void> {
  const { pack = '64' } = values;
  const mebibytes = pack === 'all' ? Infinity : Number(pack) * 2 ** 20;
  const compared = await compareDays({ names, formats, pack: mebibytes }, { store, tools, temp, keys: join(temp, 'keys'), report });
  console.log(values.json ? JSON.stringify(compared, undefined, 2) : compared.map(comparisonText).join('\n\n'));
}

await store.withTemp(async (temp) => {
  await initKeys(join(temp, 'keys'));
  if (values['release-day']) return releaseDays(temp);
  const keys = await loadKeys(join(temp, 'keys'), {});
  if (wanted('plan')) await planning(temp, keys);
  if (wanted('many')) await many(temp, keys);
  const deltas = wanted('deltas')
    ? await measureDeltas(await loadAll(names), formats, { store, tools, temp, keys: join(temp, 'keys'), report })
    : [];
  if (values.json) console.log(JSON.stringify({ ...results, deltas }, undefined, 2));
  else {
    printResults(results, false);
    if (deltas.length > 0) console.log(deltasText(deltas));
  }
});
