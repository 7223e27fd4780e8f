import { mapParallel, openTools, timed, UserError } from '@flatcar/core/engine';
import { deltaPaths, withoutStaleDeltas } from '../deltas/listed.ts';

import { imagePath } from '../tree/layout.ts';
import type { ExtensionIndex, UpdatePackage } from '../tree/schema.ts';
import type { Published } from '../tree/state.ts';
import { transferPaths } from '../tree/transfer.ts';
import { addImages, markWithdrawn } from './add-images.ts';
import type { Inputs } from './inputs.ts';
import { officialImages, stageOfficial, type StagedOfficial } from './official.ts';
import type { PublishOptions } from './options.ts';
import { expiredImages, expiredPackages, withoutImages, type Retention } from './retire.ts';
import { checkSigned, checkUpdateKey } from './signing-policy.ts';
import { makeDeltas } from './stage-deltas.ts';
import { stageImage, type Staged, type StagedImage } from './stage.ts';

/** All files of a publish, staged and checked, and the indexes that list them. */
export interface StagedPublish {
  readonly staged: readonly StagedImage[];
  readonly official: readonly StagedOfficial[];
  readonly deltas: readonly Staged[];
  readonly extensions: ReadonlyMap<string, ExtensionIndex>;
  readonly packages: readonly UpdatePackage[];
  /** Paths of images and update payloads that are retired. */
  readonly retired: readonly string[];
  /** Paths of transfer files that are left without any image to transfer, and of deltas that are no longer listed. */
  readonly orphans: readonly string[];
}

/** The current day (UTC), such as 2026-11-27. */
const today = (): string => new Date().toISOString().slice(0, 10);

type Indexes = ReadonlyMap<string, ExtensionIndex | undefined>;

/** Indexes of the extensions that this publish may change, as they are published; undefined for a new extension. */
async function readIndexes({ withdraw, retire }: PublishOptions, published: Published, inputs: Inputs): Promise<Indexes> {
  const names = new Set(inputs.images.map(({ manifest }) => manifest.name));
  if (withdraw !== undefined) names.add(withdraw.name);
  if (retire !== undefined) for (const { name } of published.index?.extensions ?? []) names.add(name);
  const indexes = new Map<string, ExtensionIndex | undefined>();
  for (const name of names) indexes.set(name, await published.extension(name));
  return indexes;
}

/** Images that are not published with the same bytes under the same name. addImages refuses other bytes under a published name. */
function newImages(inputs: Inputs, before: Indexes): Inputs['images'] {
  const published = new Map<string, string>();
  for (const index of before.values())
    for (const { images } of index?.versions ?? []) for (const { path, sha256 } of images) published.set(path, sha256);
  return inputs.images.filter(({ manifest }) => published.get(imagePath(manifest)) !== manifest.sha256);
}

/** Digests of published payload records, by the key of their payload. */
function publishedRecords(before: Indexes): Map<string, string> {
  const records = new Map<string, string>();
  for (const index of before.values())
    for (const { payloads } of index?.versions ?? []) for (const { key, record } of Object.values(payloads)) records.set(key, record);
  return records;
}

/** Stages images, each with the record of its payload unless that is published. */
async function stageImages(
  images: Inputs['images'],
  payloads: Inputs['payloads'],
  records: ReadonlyMap<string, string>,
  staging: string,
  signal: AbortSignal | undefined,
): Promise<StagedImage[]> {
  return mapParallel(
    images,
    async (input) => {
      signal?.throwIfAborted();
      const { payload: key } = input.manifest;
      const record = records.get(key);
      if (record !== undefined) {
        const staged = await stageImage(staging, input, undefined);
        return { ...staged, evidence: { ...staged.evidence, record } };
      }
      const payload = payloads.get(key);
      if (payload === undefined)
        throw new UserError('the record of the payload of this image is missing', {
          where: input.file,
          next: 'also name the folder that build wrote: it has payload/*.payload.json',
        });
      return stageImage(staging, input, payload);
    },
    4,
  );
}

/** The indexes with the staged images in them, and with the version that is withdrawn. */
function enterImages(
  { withdraw, destination }: PublishOptions,
  before: Indexes,
  staged: readonly StagedImage[],
): Map<string, ExtensionIndex> {
  const extensions = new Map<string, ExtensionIndex>();
  for (const [name, index] of before) {
    const added = staged.filter(({ input }) => input.manifest.name === name);
    const after = added.length === 0 ? index : addImages(index, added, today());
    if (after !== undefined) extensions.set(name, after);
  }
  if (withdraw === undefined) return extensions;
  const { name, version, reason, by } = withdraw;
  const index = extensions.get(name);
  if (index?.versions.some((one) => one.version === version) !== true)
    throw new UserError(`${name} ${version} is not published`, { where: destination.where });
  return extensions.set(name, markWithdrawn(index, version, { reason, by, date: today() }));
}

/** Removes expired images from the indexes. Returns their paths, and those of transfer files without any image. */
function retireImages(extensions: Map<string, ExtensionIndex>, retire: Retention): { retired: string[]; orphans: string[] } {
  const retired: string[] = [];
  const orphans: string[] = [];
  for (const [name, before] of extensions) {
    const paths = expiredImages(before, retire).map(({ path }) => path);
    const after = withoutImages(before, new Set(paths));
    extensions.set(name, after);
    retired.push(...paths);
    orphans.push(...transferPaths(before).difference(transferPaths(after)));
  }
  return { retired, orphans };
}

/** Stages update payloads for those staged images that get one, unless there is no key for them. */
async function stageOfficialImages(
  options: PublishOptions,
  staged: readonly StagedImage[],
  packages: readonly UpdatePackage[],
  staging: string,
  isFirst: boolean,
): Promise<StagedOfficial[]> {
  const { keys, report, signal } = options;
  const images = officialImages(staged, packages);
  checkUpdateKey(images.length, isFirst, packages.length > 0, options);
  if (keys.update.length === 0 || images.length === 0) return [];
  report?.({ type: 'step', text: `making ${images.length} update payloads` });
  return mapParallel(
    images,
    async (image) => {
      signal?.throwIfAborted();
      return timed('update payload', () => stageOfficial(staging, image, keys.update));
    },
    4,
  );
}

/** Makes and stages the deltas of new images. */
async function stageDeltas(
  { destination, store, report, signal }: PublishOptions,
  before: Indexes,
  extensions: Map<string, ExtensionIndex>,
  staged: readonly StagedImage[],
  staging: string,
): Promise<{ extensions: Map<string, ExtensionIndex>; files: readonly Staged[] }> {
  if (store === undefined) return { extensions, files: [] };
  const context = { tree: destination.tree(store, report), store, tools: openTools(store, report), staging, report, signal };
  return makeDeltas(extensions, before, staged, context);
}

/** Paths of published deltas that the next indexes do not list. */
const staleDeltas = (before: Indexes, after: ReadonlyMap<string, ExtensionIndex>): string[] =>
  [...after].flatMap(([name, index]) => {
    const published = before.get(name);
    return published === undefined ? [] : [...deltaPaths(published).difference(deltaPaths(index))];
  });

/** Stages the new images of a publish, checks them, and computes what the tree lists afterwards. Publishes nothing yet. */
export async function stageAll(options: PublishOptions, published: Published, staging: string, inputs: Inputs): Promise<StagedPublish> {
  const { report, signal, retire } = options;
  const before = await readIndexes(options, published, inputs);
  const images = newImages(inputs, before);
  checkSigned(images, options);
  report?.({ type: 'step', text: `staging ${images.length} images` });
  const staged = await stageImages(images, inputs.payloads, publishedRecords(before), staging, signal);
  const entered = enterImages(options, before, staged);
  const { retired, orphans } = retire === undefined ? { retired: [], orphans: [] } : retireImages(entered, retire);
  const { extensions, files: deltas } = await stageDeltas(options, before, withoutStaleDeltas(entered), staged, staging);

  const packagesBefore = await published.packages();
  const expired = retire === undefined ? [] : expiredPackages(packagesBefore, retire);
  const official = await stageOfficialImages(options, staged, packagesBefore, staging, published.index === undefined);
  const kept = packagesBefore.filter((one) => !expired.includes(one));
  return {
    staged,
    official,
    deltas,
    extensions,
    packages: [...kept, ...official.map(({ entry }) => entry)].toSorted((a, b) => (a.path < b.path ? -1 : 1)),
    retired: [...expired.flatMap(({ path, image }) => [path, image.path]), ...retired],
    orphans: [...orphans, ...staleDeltas(before, extensions)],
  };
}
