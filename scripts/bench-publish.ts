// npm run bench:publish: what publishing costs, in seconds and as ratios of one run: plan on a large index, a publish of many images, and one
// more release for an extension (bind, read back, sign, index) against packing it again.
import { createHash } from 'node:crypto';
import { copyFile, mkdir, readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import {
  ARCHES, bindTargets, buildExtension, catalogue, defineExtension, loadExtension, newestFirst, openStore, openTools, packErofs, packSquashfs, readPins,
  readTree, stageReleaseFile, unpackImage, type Format, type LoadedExtension, type Release, type Target,
} from '@flatcar/core'; // prettier-ignore
import {
  extensionIndexPath, extensionIndexText, imagePath, indexText, initKeys, loadKeys, localDestination, openTree, packagesPath, packagesText, plan, publish,
  readPublished, restorePayload, supportedTargets, type ExtensionIndex, type PublishedImage, type PublishKeys,
} from '@flatcar/publish'; // prettier-ignore

const { values } = parseArgs({
  options: { json: { type: 'boolean' }, extension: { type: 'string', default: 'kubernetes' }, help: { type: 'boolean' } },
});
if (values.help === true) {
  console.log('npm run bench:publish -- [--json] [--extension kubernetes]');
  process.exit(0);
}
const store = openStore();
const say = (text: string): void => console.error(text);
const report = (event: { type: string; text?: string }): void => {
  if (event.type === 'step') say(`  ${event.text}`);
};
const tools = openTools(store, report);
const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');
const seconds = async (run: () => Promise<unknown>): Promise<number> => {
  const started = performance.now();
  await run();
  return (performance.now() - started) / 1000;
};

/** A signed tree of 100,000 images that are nowhere: planning reads indexes only. */
async function largeIndex(dir: string, keys: PublishKeys): Promise<readonly string[]> {
  const releases = catalogue().slice(0, 10);
  const names = Array.from({ length: 50 }, (_, index) => `extension-${index}`);
  const extensions = [];
  await mkdir(dir, { recursive: true });
  for (const name of names) {
    const versions = Array.from({ length: 100 }, (_, index) => `1.${99 - index}.0`).map((version) => ({
      version, upstream: version, revision: 0, needs: {}, components: [{ name, version, license: 'MIT', origin: 'release' }], replaces: [], conflicts: [], payloads: {},
      images: releases.flatMap((target) => ARCHES.map((architecture): PublishedImage => {
        const path = imagePath(name, version, target, architecture);
        const digest = sha256(path);
        return { target: target.number, architecture, format: target.format, path, size: 1, sha256: digest, sha512: digest + digest, manifest: digest, sbom: digest, provenance: digest };
      })),
    })); // prettier-ignore
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
  const { signDetached } = await import('../packages/publish/src/pgp.ts');
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
    versions: { kind: 'date', at: '', keep: 'newest' },
    components: () => [],
  }),
});

/** The portable image in a build's folder. */
async function portableOf(dir: string): Promise<string> {
  const file = (await readdir(join(dir, 'portable'))).find((one) => one.endsWith('.raw'));
  return join(dir, 'portable', file ?? '');
}

await store.withTemp(async (temp) => {
  await initKeys(join(temp, 'keys'));
  const keys = await loadKeys(join(temp, 'keys'), {});
  const result: Record<string, { value: number; aim?: string }> = {};
  const note = (what: string, value: number, aim?: string): void => {
    result[what] = { value, ...(aim === undefined ? {} : { aim }) };
    say(`  ${what}: ${value.toFixed(3)}`);
  };

  say('plan on an index of 100,000 images');
  const large = join(temp, 'large');
  const names = await largeIndex(large, keys);
  const pins = readPins(JSON.stringify({ '1.99.0': { licenses: {}, bytes: {} }, '1.98.0': { licenses: {}, bytes: {} } }), 'pins.json');
  const before = process.resourceUsage().maxRSS;
  const cpu = process.cpuUsage();
  const planned = await seconds(async () => {
    const published = await readPublished(openTree(large, store), keys.trusted);
    await plan(names.map((name) => ({ name, pins, keep: 'newest' })), supportedTargets(catalogue()), published); // prettier-ignore
  });
  note('plan on an index of 100,000 images, seconds', planned, '< 2');
  const { user, system } = process.cpuUsage(cpu);
  note('the same in seconds of CPU, which other work on the machine does not change', (user + system) / 1e6);
  note('peak memory that it added, MiB', (process.resourceUsage().maxRSS - before) / 1024);

  say('publish of 1,000 images');
  const many = join(temp, 'many');
  await mkdir(join(temp, 'files/usr/share/tiny'), { recursive: true });
  // Disk images take systemd-repart a third of a second each, which is not what is measured here.
  const targets: Target[] = ['portable', ...catalogue().filter(({ format }) => format === 'squashfs')];
  for (let index = 0; index < 1000 / targets.length / ARCHES.length; index += 1) {
    const version = `1.${index}.0`;
    await writeFile(join(temp, 'files/usr/share/tiny/version'), version);
    for (const arch of ARCHES)
      await buildExtension(tiny(temp, version), {
        version, arch, targets, profile: 'release', origin: 'release', out: join(many, 'tiny'), store, tools, report: () => undefined,
      }); // prettier-ignore
  }
  const destination = localDestination(join(temp, 'tree'));
  let added = 0;
  const took = await seconds(async () => {
    added = (await publish({ paths: [many], destination, keys, baseUrl: 'https://one.example.org' })).added.length;
  });
  note('publish of 1,000 images, seconds', (took * 1000) / added);
  note('publishing them again, seconds', await seconds(() => publish({ paths: [many], destination, keys })));

  const name = values.extension;
  say(`one more release for ${name}`);
  const loaded = await loadExtension(join(import.meta.dirname, '../extensions', name));
  const [version = ''] = newestFirst(Object.keys(loaded.pins));
  const newest = (format: Format): [Release, Release] => catalogue().filter((one) => one.format === format).slice(0, 2) as [Release, Release]; // prettier-ignore
  const [squashfs, ddi] = [newest('squashfs'), newest('ddi')];
  const first: Target[] = ['portable', squashfs[0], ddi[0]];
  const out = join(temp, 'built');
  const origins = new Set<string>();
  let size = 0;
  let packing = 0;
  for (const arch of ARCHES) {
    const made = await buildExtension(loaded, { version, arch, targets: first, profile: 'release', origin: 'auto', out: join(out, name), store, tools, report }); // prettier-ignore
    for (const { components } of made.payloads) for (const { origin } of components) origins.add(origin);
    const portable = made.images.find(({ target }) => target === 'portable');
    if (portable === undefined) throw new Error('the build made no portable image');
    const dir = join(temp, `tree-${arch}`);
    await unpackImage(tools, portable.file, 'squashfs', arch, dir);
    await stageReleaseFile(dir, { name, kind: 'sysext', version, arch, target: 'portable', reload: true });
    const tree = await readTree(dir, new Map());
    size += tree.entries.reduce((sum, one) => sum + one.size, 0);
    for (const pack of [packSquashfs, packErofs])
      packing += await seconds(() => pack(tools, tree, { name, kind: 'sysext', profile: 'release' }, join(temp, 'packed')));
  }
  say('xz, which transfers could take');
  const plain = join(temp, 'plain.raw');
  await copyFile(await portableOf(join(out, name)), plain);
  const xz = await seconds(() => tools.run('xz', ['--keep', '--threads=2', plain]));
  note('image as .raw.xz / .raw, size', (await stat(`${plain}.xz`)).size / (await stat(plain)).size);
  note('seconds of xz for one image', xz);

  const tree = join(temp, 'one');
  const place = localDestination(tree);
  await publish({ paths: [out], destination: place, keys, baseUrl: 'https://one.example.org', origins: [...origins] });
  const one = await seconds(async () => {
    const reader = openTree(tree, store);
    const index = await (await readPublished(reader, keys.trusted)).extension(name);
    if (index === undefined) throw new Error('it is published');
    for (const arch of ARCHES) {
      for (const [format, target] of [
        ['squashfs', squashfs[1]],
        ['ddi', ddi[1]],
      ] as const) {
        // prettier-ignore
        const { payload, file } = await restorePayload(reader, index, { version: index.versions[0]?.version ?? '', arch, format }, temp);
        await bindTargets(payload, file, [target], { out: join(temp, 'more', name), store, tools, report });
      }
    }
    await publish({ paths: [join(temp, 'more')], destination: place, keys });
  });
  note(`${name}: files of both architectures, MiB`, size / 2 ** 20);
  note(`${name}: one more release of each format, both architectures, seconds`, one);
  note('one more release / packing again', one / packing, '≤ 0.1');

  if (values.json === true) console.log(JSON.stringify(result, undefined, 2));
  else
    for (const [what, { value, aim }] of Object.entries(result))
      console.log(`${what.padEnd(72)} ${value.toFixed(value < 0.1 ? 4 : 2).padStart(10)}  ${aim ?? ''}`);
});
