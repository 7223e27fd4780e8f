import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { mapParallel, UserError, type Report } from '@flatcar/core';
import { ConflictError, type Destination } from './destination.ts';
import { checkInputs, readInputs, type DeclaredOrigins, type Inputs } from './inputs.ts';
import type { PublishKeys } from './keys.ts';
import { INDEX } from './layout.ts';
import { addImages, markWithdrawn, publishedPath } from './merge.ts';
import { nextIndex } from './next-index.ts';
import { officialImages, stageOfficial, type StagedOfficial } from './official.ts';
import { promote } from './promote.ts';
import { leavingImages, leavingPackages, withoutImages, type Retention } from './retire.ts';
import { indexText, type ExtensionIndex, type UpdatePackage } from './schema.ts';
import { signed, signedByUs, signSums } from './sign.ts';
import { stageImage, type StagedImage } from './stage.ts';
import { readPublished, type Published } from './state.ts';
import { transferFiles } from './transfer.ts';

export interface PublishOptions {
  /** Images and payload records, or folders that hold them. */
  readonly paths: readonly string[];
  readonly destination: Destination;
  readonly keys: PublishKeys;
  /** URL under which the tree is served; that of the tree unless said. */
  readonly baseUrl?: string;
  /** Declared by the first publish into a tree; `preferred` unless said. A tree keeps what it has declared. */
  readonly origins?: DeclaredOrigins;
  /** A version to mark as withdrawn, with the one among the images that takes its place. */
  readonly withdraw?: { readonly name: string; readonly version: string; readonly reason: string; readonly by: string };
  /** What by this is too old leaves index and sums; its files leave with the next publish that changes something. */
  readonly retire?: Retention;
  readonly report?: Report;
  readonly signal?: AbortSignal;
}

/** What a publish did. */
export interface PublishResult {
  readonly where: string;
  readonly serial: number;
  /** Paths of images that were not there before. */
  readonly added: readonly string[];
  /** Number of given images that were published before, with the same bytes. */
  readonly unchanged: number;
  /** Images and update payloads that left the index. */
  readonly retired: readonly string[];
  /** Folders whose sums were written. */
  readonly signed: readonly string[];
}

/** Everything that is to appear, staged and checked. */
interface Plan {
  readonly staged: readonly StagedImage[];
  readonly unchanged: number;
  readonly official: readonly StagedOfficial[];
  readonly extensions: ReadonlyMap<string, ExtensionIndex>;
  readonly packages: readonly UpdatePackage[];
  /** Paths of images and update payloads that leave, and of transfer files that have nothing to transfer any more. */
  readonly retired: readonly string[];
  readonly orphans: readonly string[];
}

async function stageAll(options: PublishOptions, published: Published, staging: string, inputs: Inputs): Promise<Plan> {
  const { keys, report = () => undefined, signal, withdraw, retire } = options;
  const before = new Map<string, ExtensionIndex | undefined>();
  const names = new Set([
    ...inputs.images.map(({ manifest }) => manifest.name),
    ...(withdraw === undefined ? [] : [withdraw.name]),
    ...(retire === undefined ? [] : (published.index?.extensions ?? []).map(({ name }) => name)),
  ]);
  for (const name of names) before.set(name, await published.extension(name));

  // The same bytes under the same name are published already; everything else is new, or refused by addImages.
  const known = new Map<string, string>();
  for (const index of before.values())
    for (const { images } of index?.versions ?? []) for (const one of images) known.set(one.path, one.sha256);
  const fresh = inputs.images.filter(({ manifest }) => known.get(publishedPath(manifest)) !== manifest.sha256);

  const records = new Map<string, string>();
  for (const index of before.values())
    for (const { payloads } of index?.versions ?? []) for (const { key, record } of Object.values(payloads)) records.set(key, record);

  report({ type: 'step', text: `staging ${fresh.length} images` });
  const staged = await mapParallel(
    fresh,
    async (input) => {
      signal?.throwIfAborted();
      const { payload } = input.manifest;
      const record = records.has(payload) ? undefined : inputs.payloads.get(payload);
      if (record === undefined && !records.has(payload))
        throw new UserError('the record of the payload that this image was bound from is not among what was given', {
          where: input.file,
          next: 'name the folder that build wrote too (it has payload/*.payload.json)',
        });
      const one = await stageImage(staging, input, record);
      return record === undefined ? { ...one, evidence: { ...one.evidence, record: records.get(payload) ?? '' } } : one;
    },
    4,
  );

  const extensions = new Map<string, ExtensionIndex>();
  for (const [name, index] of before) {
    const added = staged.filter(({ input }) => input.manifest.name === name);
    const after = added.length === 0 ? index : addImages(index, added);
    if (after !== undefined) extensions.set(name, after);
  }
  if (withdraw !== undefined) {
    const index = extensions.get(withdraw.name);
    if (index?.versions.some(({ version }) => version === withdraw.version) !== true)
      throw new UserError(`${withdraw.name} ${withdraw.version} is not published`, { where: options.destination.where });
    extensions.set(withdraw.name, markWithdrawn(index, withdraw.version, { reason: withdraw.reason, by: withdraw.by }));
  }

  const packagesBefore = await published.packages();
  const leaving = retire === undefined ? [] : leavingPackages(packagesBefore, retire);
  const retired = leaving.flatMap(({ path, image }) => [path, image.path]);
  const orphans: string[] = [];
  if (retire !== undefined)
    for (const [name, index] of extensions) {
      const paths = leavingImages(index, retire).map(({ path }) => path);
      const rest = withoutImages(index, new Set(paths));
      extensions.set(name, rest);
      retired.push(...paths);
      const [had, has] = [index, rest].map((one) => transferFiles(one, published.index?.baseUrl ?? ''));
      orphans.push(...[...(had?.keys() ?? [])].filter((path) => has?.has(path) === false));
    }
  const chosen = keys.update.length === 0 ? [] : officialImages(staged, packagesBefore);
  if (chosen.length > 0) report({ type: 'step', text: `making ${chosen.length} update payloads` });
  const official: StagedOfficial[] = [];
  for (const one of chosen) {
    signal?.throwIfAborted();
    official.push(await stageOfficial(staging, one, keys.update));
  }
  const packages = [...packagesBefore.filter((one) => !leaving.includes(one)), ...official.map(({ entry }) => entry)].toSorted((a, b) =>
    a.path < b.path ? -1 : 1,
  );
  return { staged, unchanged: inputs.images.length - fresh.length, official, extensions, packages, retired, orphans };
}

async function publishOnce(options: PublishOptions, inputs: Inputs, staging: string): Promise<PublishResult> {
  const { destination, keys, report = () => undefined, signal } = options;
  const published = await readPublished(destination, keys.trusted);
  const { index: before } = published;
  const origins = options.origins ?? before?.origins ?? 'preferred';
  if (before !== undefined && JSON.stringify(before.origins) !== JSON.stringify(origins))
    throw new UserError(`this tree declares the origins ${String(before.origins)}, and it keeps to that`, {
      where: destination.where,
      next: 'publish what has other origins into another tree',
    });
  const baseUrl = (options.baseUrl ?? before?.baseUrl)?.replace(/\/+$/, '');
  if (baseUrl === undefined)
    throw new UserError('the URL under which this tree is served is not known', {
      next: 'give it by --base-url: it stands in the transfer files',
    });
  checkInputs(inputs, origins);

  const plan = await stageAll(options, published, staging, inputs);
  // After a change of keys or of the URL everything is written anew, whatever is published now.
  const isOurs = before === undefined || (await signedByUs(destination, INDEX, keys));
  const isAnew = !isOurs || (before !== undefined && before.baseUrl !== baseUrl);
  const extensions = new Map(plan.extensions);
  if (isAnew)
    for (const { name } of before?.extensions ?? []) {
      const index = extensions.has(name) ? undefined : await published.extension(name);
      if (index !== undefined) extensions.set(name, index);
    }

  report({ type: 'step', text: 'signing' });
  signal?.throwIfAborted();
  const entries = isAnew ? plan.packages : plan.official.map(({ entry }) => entry);
  const sums = await signSums(destination, keys, {
    extensions: [...extensions.values()],
    packages: plan.packages,
    folders: new Set(entries.map(({ path }) => dirname(path))),
    gone: plan.retired,
  });
  const { index, isSame, files, dropped } = await nextIndex(staging, before, {
    baseUrl,
    origins,
    extensions,
    packages: plan.packages,
    gone: [...plan.retired, ...plan.orphans],
  });
  const indexSet = isSame && isOurs ? undefined : await signed(INDEX, indexText(index), keys);

  signal?.throwIfAborted();
  report({ type: 'step', text: `promoting ${plan.staged.length} images to ${destination.where}` });
  await promote(destination, {
    images: plan.staged,
    official: plan.official.flatMap((one) => one.files),
    keys,
    baseUrl,
    sums,
    extensions: extensions.values(),
    listed: files,
    index: indexSet,
  });
  await destination.remove(dropped);
  return {
    where: destination.where,
    serial: index.serial,
    added: plan.staged.map(({ image }) => image.path),
    unchanged: plan.unchanged,
    retired: plan.retired,
    signed: [...sums.keys()].toSorted(),
  };
}

/** How often a publish begins anew because another one was faster. */
const ATTEMPTS = 5;

/**
 * Publishes images into a tree: stage by digest → check as a client would → sign → promote, sums and index last. Whatever fails or dies
 * before leaves what is served as it was; running it again completes it; what is published already is left alone.
 */
export async function publish(options: PublishOptions): Promise<PublishResult> {
  const inputs = await readInputs(options.paths);
  if (options.withdraw === undefined && options.paths.length > 0 && inputs.images.length === 0)
    throw new UserError('there is no image here', {
      where: options.paths.join(', '),
      next: 'name folders that flatcar-ext build or bind wrote',
    });
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await options.destination.publish((staging) => publishOnce(options, inputs, staging));
    } catch (error) {
      if (!(error instanceof ConflictError) || attempt === ATTEMPTS) throw error;
      options.report?.({ type: 'notice', text: `${error.message}: beginning anew` });
      await sleep(attempt * 1000, undefined, options.signal === undefined ? {} : { signal: options.signal });
    }
  }
}
