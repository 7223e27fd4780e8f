// Compares the images of two checkouts, such as those before and after a change that must not change bytes.
import { access, glob, readFile } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import {
  openStore,
  openTools,
  parseJson,
  readTree,
  sidecarPaths,
  unpackImage,
  type Arch,
  type Format,
  type TreeEntry,
} from '@flatcar/core/engine';
import { execa } from 'execa';
import * as v from 'valibot';

const HELP = `compare the images of two checkouts: their bytes, names and records

scripts/run node scripts/compare-builds.ts BEFORE AFTER [OPTIONS]

  BEFORE, AFTER   a checkout, or any folder that contains images
  --build NAMES   build these extensions in both checkouts first (comma-separated)
  --json          print JSON
  -h, --help      print this help

Images are paired by extension, target, version and architecture, whatever their file names. Ends with 1 if the bytes of an image differ or if an
image has no counterpart. Other names and records alone are listed.

Examples:
  scripts/run node scripts/compare-builds.ts ../before .
  scripts/run node scripts/compare-builds.ts ../before . --build yq,btop --json`;

/** What pairs images; manifests of both checkouts may have other keys besides. */
const KeySchema = v.looseObject({
  name: v.string(),
  target: v.string(),
  version: v.string(),
  architecture: v.picklist(['x86-64', 'arm64']),
  format: v.picklist(['squashfs', 'ddi']),
  file: v.string(),
  sha256: v.string(),
});
type Manifest = v.InferOutput<typeof KeySchema>;

/** A record, of which nothing is known in advance. */
const RecordSchema = v.looseObject({});

interface BuiltImage {
  readonly file: string;
  readonly manifest: Manifest;
}

/** A value of a record that differs; undefined where a record does not have it. */
interface RecordChange {
  /** Such as `sbom: packages[0].name`. */
  readonly key: string;
  readonly before: unknown;
  readonly after: unknown;
}

/** What differs between the two images of a pair. */
interface Difference {
  readonly image: string;
  /** Names of the files, if they differ. */
  readonly names?: { readonly before: string; readonly after: string };
  /** Values of the manifest, the SBOM and the build record that differ. */
  readonly records: readonly RecordChange[];
  /** Files in the images that differ if their bytes do; empty if the same files were packed in another way. */
  readonly bytes?: readonly string[];
}

/** Everything that differs between two builds. */
interface Comparison {
  readonly same: number;
  readonly differences: readonly Difference[];
  readonly missing: readonly string[];
  readonly added: readonly string[];
}

const keyOf = ({ name, target, version, architecture }: Manifest): string => `${name} ${version} ${target} ${architecture}`;

/** The images below a checkout's extensions, or below any other folder. */
async function imagesIn(folder: string): Promise<Map<string, BuiltImage>> {
  const isCheckout = await access(join(folder, 'extensions')).then(
    () => true,
    () => false,
  );
  const pattern = isCheckout ? 'extensions/*/dist/**/*.manifest.json' : '**/*.manifest.json';
  const images = new Map<string, BuiltImage>();
  for await (const path of glob(pattern, { cwd: folder })) {
    const where = join(folder, path);
    const manifest = parseJson(KeySchema, await readFile(where, 'utf8'), { what: 'manifest', where });
    const key = keyOf(manifest);
    const other = images.get(key);
    if (other !== undefined) throw new Error(`${where}: ${other.file} is the same image: ${key}`);
    images.set(key, { file: where.replace(/\.manifest\.json$/, '.raw'), manifest });
  }
  if (images.size === 0) throw new Error(`${folder}: no images (build some first: flatcar-ext build NAME)`);
  return images;
}

/** What differs between two values of JSON. */
function changedValues(before: unknown, after: unknown, key: string): RecordChange[] {
  if (Object.is(before, after)) return [];
  if (typeof before !== 'object' || typeof after !== 'object' || before === null || after === null) return [{ key, before, after }];
  const [old, now] = [before, after] as [Record<string, unknown>, Record<string, unknown>];
  const isList = Array.isArray(before) && Array.isArray(after);
  return [...new Set([...Object.keys(old), ...Object.keys(now)])].flatMap((name) =>
    changedValues(old[name], now[name], isList ? `${key}[${name}]` : key.endsWith(': ') ? key + name : `${key}.${name}`),
  );
}

/** Keys of the manifest that follow from the bytes and the name, which are compared themselves. */
const DERIVED = new Set(['file', 'size', 'sha256', 'sha512', 'roothash']);

async function changedRecords(before: string, after: string): Promise<RecordChange[]> {
  const changes: RecordChange[] = [];
  for (const kind of ['manifest', 'sbom', 'provenance'] as const) {
    const read = async (file: string): Promise<Record<string, unknown>> => {
      const where = sidecarPaths(file)[kind];
      const json = parseJson(RecordSchema, await readFile(where, 'utf8'), { what: kind, where });
      return kind === 'manifest' ? Object.fromEntries(Object.entries(json).filter(([key]) => !DERIVED.has(key))) : json;
    };
    changes.push(...changedValues(await read(before), await read(after), `${kind}: `));
  }
  return changes;
}

const shown = ({ type, mode, size, sha256, link }: TreeEntry): string =>
  [type, (mode & 0o7777).toString(8), ...(link === undefined ? [size, sha256?.slice(0, 12)] : [`-> ${link}`])].join(' ');

/** Unpacks two images and lists the files that differ. */
async function changedFiles(before: BuiltImage, after: BuiltImage): Promise<string[]> {
  const store = openStore();
  const tools = openTools(store);
  return store.withTemp(async (temp) => {
    const entriesOf = async ({ file, manifest }: BuiltImage, name: string): Promise<Map<string, string>> => {
      const dir = join(temp, name);
      await unpackImage(tools, file, manifest.format satisfies Format, manifest.architecture satisfies Arch, dir);
      return new Map((await readTree(dir, new Map())).entries.map((entry) => [entry.path, shown(entry)]));
    };
    const [old, now] = [await entriesOf(before, 'before'), await entriesOf(after, 'after')];
    return [...new Set([...old.keys(), ...now.keys()])]
      .filter((path) => old.get(path) !== now.get(path))
      .map((path) => `${path}: ${old.get(path) ?? 'nothing'} → ${now.get(path) ?? 'nothing'}`);
  });
}

/** What differs between two images; undefined if nothing does. */
async function compare(image: string, before: BuiltImage, after: BuiltImage): Promise<Difference | undefined> {
  const [old, now] = [basename(before.file), basename(after.file)];
  const names = old === now ? undefined : { before: old, after: now };
  const records = await changedRecords(before.file, after.file);
  const bytes = before.manifest.sha256 === after.manifest.sha256 ? undefined : await changedFiles(before, after);
  return names === undefined && records.length === 0 && bytes === undefined ? undefined : { image, names, records, bytes };
}

async function compareBuilds(before: string, after: string): Promise<Comparison> {
  const [old, now] = [await imagesIn(before), await imagesIn(after)];
  const differences: Difference[] = [];
  let same = 0;
  for (const [key, image] of old) {
    const other = now.get(key);
    if (other === undefined) continue;
    const difference = await compare(key, image, other);
    if (difference?.bytes === undefined) same += 1;
    if (difference !== undefined) differences.push(difference);
  }
  const without = (images: ReadonlyMap<string, BuiltImage>, others: ReadonlyMap<string, BuiltImage>): string[] =>
    [...images.keys()].filter((key) => !others.has(key));
  return { same, differences, missing: without(old, now), added: without(now, old) };
}

/** Each key whose values differ, with the number of such values and an example. */
function counted(changes: readonly RecordChange[]): string[] {
  const groups = Map.groupBy(changes, ({ key }) => key.replaceAll(/\[\d+\]/g, '[]'));
  return [...groups]
    .toSorted(([, a], [, b]) => b.length - a.length)
    .map(([key, [example, ...more]]) => {
      const [before = 'nothing', after = 'nothing'] = [example?.before, example?.after].map((value) => JSON.stringify(value));
      return `${String(more.length + 1).padStart(6)} × ${key}, such as ${before.slice(0, 100)} → ${after.slice(0, 100)}`;
    });
}

function textOf({ same, differences, missing, added }: Comparison): string {
  const others = differences.filter(({ bytes }) => bytes !== undefined);
  const renamed = differences.flatMap(({ names }) => names ?? []);
  const [example] = renamed;
  return [
    `${same} images have the same bytes, ${others.length} have others, ${missing.length} are missing, ${added.length} are new`,
    ...others.flatMap(({ image, bytes = [] }) => [
      `bytes: ${image}`,
      ...(bytes.length === 0 ? ['  the same files, packed in another way'] : bytes.map((line) => `  ${line}`)),
    ]),
    ...missing.map((image) => `missing: ${image}`),
    ...added.map((image) => `new: ${image}`),
    ...(example === undefined ? [] : [`names: ${renamed.length} differ, such as ${example.before} → ${example.after}`]),
    ...(differences.some(({ records }) => records.length > 0)
      ? ['records:', ...counted(differences.flatMap(({ records }) => records))]
      : []),
  ].join('\n');
}

function readArguments() {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: { build: { type: 'string' }, json: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } },
    });
    const [before, after, ...more] = positionals.map((path) => resolve(path));
    if (values.help !== true && (before === undefined || after === undefined || more.length > 0)) throw new Error('pass two folders');
    return { ...values, before: before ?? '', after: after ?? '', names: values.build?.split(',') ?? [] };
  } catch (error) {
    console.error(`error: ${(error as Error).message}\nnext: see --help`);
    process.exit(2);
  }
}

const { before, after, names, json, help } = readArguments();
if (help === true) console.log(HELP);
else {
  if (names.length > 0)
    for (const checkout of [before, after])
      await execa(join(checkout, 'scripts/run'), ['flatcar-ext', 'build', ...names], {
        cwd: checkout,
        stdio: ['ignore', 'inherit', 'inherit'],
      });
  const comparison = await compareBuilds(before, after);
  console.log(json === true ? JSON.stringify(comparison, undefined, 2) : textOf(comparison));
  const { differences, missing, added } = comparison;
  process.exitCode = differences.some(({ bytes }) => bytes !== undefined) || missing.length + added.length > 0 ? 1 : 0;
}
