import { copyFile, mkdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import {
  buildExtension,
  channelHead,
  findExtensions,
  hostArch,
  loadExtension,
  parseRef,
  sidecarPaths,
  UserError,
  type Difference,
} from '@flatcar/core/engine';
import { applyBump, bumpTo, findBumps, type Bump, type BumpResult, type UpstreamContext } from '@flatcar/upstream';
import { compareImages } from './diff.ts';
import { nextRevision } from './pin-extension.ts';
import { writeReadme, writeRootReadme } from './readme.ts';
import { findDir, REPOSITORY } from './select.ts';

/** A bump, pinned or (for a dry run) only found, and what it changes in the image. */
export type BumpOutcome = (Bump | BumpResult) & {
  readonly difference?: Difference;
  /** Why there is no difference. */
  readonly noDifference?: string;
};

/** What an extension's bumps have in common. */
interface FoundBumps {
  readonly dir: string;
  readonly bumps: readonly Bump[];
  /** Pinned versions that stay. */
  readonly keep: readonly string[];
}

export interface BumpOptions {
  /** Only find what would be bumped. */
  readonly dryRun?: boolean;
  /** Build the images before and after, and compare them. */
  readonly diff: boolean;
  /** Leave versions in pins.json that the policy does not keep. */
  readonly keepOld?: boolean;
  /** That of this program by default. */
  readonly repository?: string;
}

/** What a run bumped, and which extensions failed. */
export interface BumpRun {
  readonly outcomes: readonly BumpOutcome[];
  readonly failures: readonly { readonly word: string; readonly error: UserError }[];
  /** Number of extensions that were to be bumped. */
  readonly count: number;
}

/** Builds an image of a version for this machine's architecture and keeps it in a folder; returns its path. */
async function buildImage(dir: string, version: string, to: string, context: UpstreamContext): Promise<string> {
  const { store, tools, report, mirror, signal } = context;
  return store.withTemp(async (temp) => {
    const loaded = await loadExtension(dir);
    const { images } = await buildExtension(loaded, {
      version,
      arch: hostArch(),
      // An extension that runs on a release's own libraries has no portable image.
      targets: [loaded.extension.releaseBound ? channelHead('stable') : 'portable'],
      profile: 'fast',
      origin: 'auto',
      out: temp,
      store,
      tools,
      report,
      mirror,
      signal,
    });
    const [image] = images;
    if (image === undefined) throw new Error('the build made no image');
    await mkdir(to, { recursive: true });
    const kept = join(to, basename(image.file));
    await copyFile(image.file, kept);
    await copyFile(sidecarPaths(image.file).manifest, sidecarPaths(kept).manifest);
    return kept;
  });
}

/** Builds an image, unless that fails; then the reason. */
async function tryBuild(dir: string, version: string, to: string, context: UpstreamContext): Promise<{ file: string } | { why: string }> {
  try {
    return { file: await buildImage(dir, version, to, context) };
  } catch (error) {
    if (!(error instanceof UserError) || context.signal?.aborted === true) throw error;
    return { why: `${version} could not be built: ${error.message}` };
  }
}

/** Finds the bumps of an extension: to the version after `@`, or to the newest in each kept branch. */
async function find(word: string, repository: string, context: UpstreamContext): Promise<FoundBumps> {
  const { name, version } = parseRef(word);
  const dir = await findDir(name, repository);
  const loaded = await loadExtension(dir);
  return { dir, ...(version === undefined ? await findBumps(loaded, context) : await bumpTo(loaded, version, context)) };
}

/** Pins one bump and writes the files that depend on the lock. */
async function pinBump(
  { dir, bumps, keep }: FoundBumps,
  bump: Bump,
  { keepOld = false, repository = REPOSITORY }: BumpOptions,
  context: UpstreamContext,
): Promise<BumpResult> {
  const { from, version } = bump;
  // Versions that the other bumps replace stay until those are pinned.
  const others = bumps.flatMap((one) => (one.from === undefined || one.from === from ? [] : [one.from]));
  const revision = from === version ? await nextRevision(dir, version) : undefined;
  const bumped = await applyBump(dir, bump, { keep: [...keep, ...others], keepOld, revision }, context);
  const readmes = [
    ...((await writeReadme(dir)) ? [join(dir, 'README.md')] : []),
    ...((await writeRootReadme(repository)) ? [join(repository, 'README.md')] : []),
  ];
  return { ...bumped, written: [...bumped.written, ...readmes] };
}

/** Pins one bump, and compares the images before and after it. An image that cannot be built is no reason not to bump. */
async function bumpOne(found: FoundBumps, bump: Bump, options: BumpOptions, context: UpstreamContext): Promise<BumpOutcome> {
  const { from, version } = bump;
  const { dir } = found;
  const pin = (): Promise<BumpResult> => pinBump(found, bump, options, context);
  if (!options.diff) return { ...(await pin()), noDifference: 'not requested' };
  if (from === undefined) return { ...(await pin()), noDifference: 'nothing of this branch was pinned before' };
  return context.store.withTemp(async (temp): Promise<BumpOutcome> => {
    const before = await tryBuild(dir, from, join(temp, 'before'), context);
    const result = await pin();
    if ('why' in before) return { ...result, noDifference: before.why };
    const after = await tryBuild(dir, version, join(temp, 'after'), context);
    if ('why' in after) return { ...result, noDifference: after.why };
    return { ...result, difference: await compareImages(before.file, after.file) };
  });
}

/**
 * Pins newer versions of extensions: of those that are named (`name` or `name@version`), or of all without names. An extension that fails
 * does not stop the others; the error of a single one is thrown.
 */
export async function bump(names: readonly string[], options: BumpOptions, context: UpstreamContext): Promise<BumpRun> {
  const { repository = REPOSITORY } = options;
  const words = names.length > 0 ? names : (await findExtensions(repository)).map((dir) => basename(dir));
  const outcomes: BumpOutcome[] = [];
  const failures: { word: string; error: UserError }[] = [];
  const failed = (word: string, error: unknown): void => {
    if (context.signal?.aborted === true || !(error instanceof UserError) || words.length === 1) throw error;
    failures.push({ word, error });
  };
  // All are looked up before anything is pinned: in parallel, and because a shared lock must be outdated for each extension that uses it.
  const found = await Promise.allSettled(words.map((word) => find(word, repository, context)));
  for (const [index, word] of words.entries()) {
    const one = found[index];
    if (one?.status !== 'fulfilled') {
      failed(word, one?.reason);
      continue;
    }
    try {
      for (const each of one.value.bumps) outcomes.push(options.dryRun === true ? each : await bumpOne(one.value, each, options, context));
    } catch (error) {
      failed(word, error);
    }
  }
  return { outcomes, failures, count: words.length };
}
