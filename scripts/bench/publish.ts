// npm run bench:publish: what publishing costs, in seconds and as ratios of one run: plan on a large index, a publish of many images, and one
// more release for extensions (bind, read back, sign, index) against packing them again.
import { createHash } from 'node:crypto';
import { copyFile, mkdir, readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import {
  ARCHES,
  bindTargets,
  buildExtension,
  catalogue,
  defineExtension,
  loadExtension,
  newestFirst,
  openStore,
  openTools,
  packErofs,
  packSquashfs,
  readPins,
  readTree,
  stageReleaseFile,
  unpackImage,
  imageVersion,
  asUpstreamVersion,
  targetName,
  type Format,
  type LoadedExtension,
  type Release,
  type Target,
} from '@flatcar/core/engine';
import {
  extensionIndexPath,
  extensionIndexText,
  imagePath,
  indexText,
  initKeys,
  loadKeys,
  localDestination,
  openTree,
  packagesPath,
  packagesText,
  plan,
  publish,
  readPublished,
  restorePayload,
  supportedTargets,
  type ExtensionIndex,
  type PublishedImage,
  type PublishKeys,
} from '@flatcar/publish';
import { printResults, say, seconds, type Results } from './measure.ts';

const HELP = `measure what publishing costs, in seconds and as ratios of one run

npm run bench:publish -- [OPTIONS]

  --only PART          measure this part only: plan (on an index of 100,000 images), many (publish 1,000 images) or release (bind, read
                       back, sign and index one more release, compared with packing again)
  --extension NAMES    the extensions of the part release, comma-separated (default: kubernetes)
  --json               print JSON
  -h, --help           print this help

Examples:
  npm run bench:publish -- --only plan
  npm run bench:publish -- --only release --extension kubernetes,containerd`;

const PARTS = ['plan', 'many', 'release'];

function readArguments() {
  try {
    const { values } = parseArgs({
      options: {
        json: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
        only: { type: 'string' },
        extension: { type: 'string', default: 'kubernetes' },
      },
    });
    if (values.only !== undefined && !PARTS.includes(values.only)) throw new Error(`--only ${values.only}: not one of ${PARTS.join(', ')}`);
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

/** A signed tree of 100,000 images that are nowhere: planning reads indexes only. */
async function largeIndex(dir: string, keys: PublishKeys): Promise<readonly string[]> {
  const releases = catalogue().slice(0, 10);
  const names = Array.from({ length: 50 }, (_, index) => `extension-${index}`);
  const extensions = [];
  await mkdir(dir, { recursive: true });
  for (const name of names) {
    const versions = Array.from({ length: 100 }, (_, index) => imageVersion(`1.${99 - index}.0`, 0)).map((version) => ({
      version,
      upstream: asUpstreamVersion(version),
      revision: 0,
      needs: {},
      components: [{ name, version, license: 'MIT', origin: 'upstream' }],
      replaces: [],
      conflicts: [],
      requires: [],
      payloads: {},
      images: releases.flatMap((target) =>
        ARCHES.map((architecture): PublishedImage => {
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
        }),
      ),
    }));
    const text = extensionIndexText({ schema: 1, name, kind: 'sysext', summary: name, versions } satisfies ExtensionIndex);
    const digest = sha256(text);
    await mkdir(join(dir, name), { recursive: true });
    await writeFile(join(dir, extensionIndexPath(name, digest)), text);
    extensions.push({
      name,
      summary: name,
      newest: '1.99.0',
      path: extensionIndexPath(name, digest),
      size: Buffer.byteLength(text),
      sha256: digest,
    });
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
      superseded: [],
    }),
  );
  const { signDetached } = await import('@flatcar/publish/keys/openpgp');
  await writeFile(join(dir, 'index.json'), bytes);
  await writeFile(join(dir, 'index.json.gpg'), await signDetached(bytes, keys.sums));
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
    const published = await readPublished(openTree(large, store), keys.trusted);
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

/** What is published of some extensions, and what packing it took, in seconds. */
interface Packed {
  readonly origins: ReadonlySet<string>;
  readonly bytes: number;
  readonly seconds: number;
}

/** Builds the newest version of an extension for both architectures, in both formats, and packs the same trees again. */
async function pack(temp: string, out: string, name: string, targets: readonly Target[]): Promise<Packed> {
  const loaded = await loadExtension(join(import.meta.dirname, '../../extensions', name));
  const [version = ''] = newestFirst(Object.keys(loaded.pins));
  const origins = new Set<string>();
  let [bytes, packing] = [0, 0];
  for (const arch of ARCHES) {
    const made = await buildExtension(loaded, {
      version,
      arch,
      targets,
      profile: 'publish',
      origin: 'auto',
      out: join(out, name),
      store,
      tools,
      report,
    });
    for (const { components } of made.payloads) for (const { origin } of components) origins.add(origin);
    const portable = made.images.find(({ target }) => target === 'portable');
    if (portable === undefined) throw new Error('the build made no portable image');
    const dir = join(temp, `tree-${name}-${arch}`);
    await unpackImage(tools, portable.file, 'squashfs', arch, dir);
    await stageReleaseFile(dir, { name, kind: 'sysext', version, arch, target: 'portable', reload: true });
    const tree = await readTree(dir, new Map());
    bytes += tree.entries.reduce((sum, one) => sum + one.size, 0);
    for (const one of [packSquashfs, packErofs])
      packing += await seconds(() => one(tools, tree, { name, kind: 'sysext', profile: 'publish' }, join(temp, 'packed')));
  }
  return { origins, bytes, seconds: packing };
}

async function release(temp: string, keys: PublishKeys): Promise<void> {
  const names = values.extension.split(',');
  say(`one more release for ${names.join(', ')}`);
  const newest = (format: Format): [Release, Release] =>
    catalogue()
      .filter((one) => one.format === format)
      .slice(0, 2) as [Release, Release];
  const [squashfs, ddi] = [newest('squashfs'), newest('ddi')];
  const out = join(temp, 'built');
  const all: Packed[] = [];
  for (const name of names) all.push(await pack(temp, out, name, ['portable', squashfs[0], ddi[0]]));
  const total = (of: (one: Packed) => number): number => all.reduce((sum, one) => sum + of(one), 0);

  const tree = join(temp, 'one');
  const place = localDestination(tree);
  const origins = [...new Set(all.flatMap((one) => [...one.origins]))];
  await publish({ paths: [out], destination: place, keys, baseUrl: 'https://one.example.org', origins, unsigned: true });
  const one = await seconds(async () => {
    const reader = openTree(tree, store);
    const published = await readPublished(reader, keys.trusted);
    for (const name of names) {
      const index = await published.extension(name);
      if (index === undefined) throw new Error('it is published');
      const version = index.versions[0]?.version ?? '';
      for (const arch of ARCHES)
        for (const [format, target] of [
          ['squashfs', squashfs[1]],
          ['ddi', ddi[1]],
        ] as const) {
          const { payload, file } = await restorePayload(reader, index, { version, arch, format }, temp);
          await bindTargets(payload, file, [target], { out: join(temp, 'more', name), store, tools, report });
        }
    }
    await publish({ paths: [join(temp, 'more')], destination: place, keys, unsigned: true });
  });
  note('files of both architectures, MiB', total(({ bytes }) => bytes) / 2 ** 20);
  note(
    'packing them in both formats, seconds',
    total((of) => of.seconds),
  );
  note('one more release of each format, both architectures, seconds', one);
  note('one more release / packing again', one / total((of) => of.seconds), '≤ 0.1');

  say('xz, which transfers could take');
  const name = names[0] ?? '';
  const file = (await readdir(join(out, name, 'portable'))).find((entry) => entry.endsWith('.raw')) ?? '';
  const plain = join(temp, 'plain.raw');
  await copyFile(join(out, name, 'portable', file), plain);
  const xz = await seconds(() => tools.run('xz', ['--keep', '--threads=2', plain]));
  note(`${name} as .raw.xz / .raw, size`, (await stat(`${plain}.xz`)).size / (await stat(plain)).size);
  note(`seconds of xz for one image of ${name}`, xz);
}

await store.withTemp(async (temp) => {
  await initKeys(join(temp, 'keys'));
  const keys = await loadKeys(join(temp, 'keys'), {});
  if (wanted('plan')) await planning(temp, keys);
  if (wanted('many')) await many(temp, keys);
  if (wanted('release')) await release(temp, keys);
  printResults(results, values.json);
});
