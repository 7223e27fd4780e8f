import { stat } from 'node:fs/promises';
import { hashFile, mapParallel, timed, UserError, type Report, type Store, type Tools } from '@flatcar/core/engine';
import { deltaPath } from '../tree/layout.ts';
import type { ExtensionIndex, PublishedDelta, PublishedImage, PublishedVersion } from '../tree/schema.ts';
import type { Tree } from '../tree/tree.ts';
import { stageBytes, stageFile, type Staged, type StagedImage } from './stage.ts';
import { compareImages, patchedSha256 } from '../deltas/block-list.ts';
import { formerReleases, formerVersions } from '../deltas/choose.ts';
import { mapImages, withDeltas } from '../deltas/listed.ts';
import { WrongDeltaError } from '../deltas/wrong-delta.ts';
import { canPatch, makePatch } from '../deltas/zstd-patch.ts';

/** Deltas are kept if they are smaller than this part of the whole image: larger ones are not worth a node's memory. */
const LARGEST_PART = 0.4;
/** Images that are compared at once: zstd takes some hundred megabytes for each. */
const AT_ONCE = 2;

/** What making deltas takes. */
export interface DeltaContext {
  /** The published tree, to read former images from. */
  readonly tree: Tree;
  readonly store: Store;
  readonly tools: Tools;
  readonly staging: string;
  readonly report?: Report;
  readonly signal?: AbortSignal;
}

/** Size in bytes from which a delta of an image is not kept. */
const limitOf = ({ size }: PublishedImage): number => Math.floor(size * LARGEST_PART);

/** A new image whose deltas are made. */
interface Job {
  readonly name: string;
  readonly version: PublishedVersion;
  readonly image: PublishedImage;
  readonly file: string;
}

/** Makes the deltas of new images, each checked by applying it. */
class DeltaMaker {
  readonly #context: DeltaContext;
  /** Staged images, by their digests. */
  readonly #staged: ReadonlyMap<string, string>;
  readonly files: Staged[] = [];

  constructor(context: DeltaContext, staged: readonly StagedImage[]) {
    this.#context = context;
    this.#staged = new Map(staged.map(({ image }) => [image.sha256, image.from]));
  }

  /** The file of an image; undefined, with a notice, if the tree does not have it as its index lists it: deltas are no reason to publish nothing. */
  async #fileOf(image: PublishedImage): Promise<string | undefined> {
    const staged = this.#staged.get(image.sha256);
    if (staged !== undefined) return staged;
    const { tree, report } = this.#context;
    return tree.file(image.path, image).catch((error: unknown) => {
      if (!(error instanceof UserError)) throw error;
      report?.({ type: 'notice', text: `no deltas from ${image.path}: ${error.message}` });
      return undefined;
    });
  }

  /** Enters the staged file of a delta. */
  #enter({ name }: Job, kind: PublishedDelta['kind'], from: PublishedImage, file: Omit<Staged, 'path'>): PublishedDelta {
    const { size, sha256 } = file;
    const path = deltaPath(name, kind, sha256);
    this.files.push({ ...file, path });
    return { kind, from: from.sha256, path, size, sha256 };
  }

  async #blocks(job: Job, from: PublishedImage): Promise<PublishedDelta | undefined> {
    const { image, file } = job;
    const before = await this.#fileOf(from);
    const list = before === undefined ? undefined : await compareImages(before, file);
    if (before === undefined || list === undefined || list.length >= limitOf(image)) return undefined;
    if ((await patchedSha256(before, list)) !== image.sha256) throw new WrongDeltaError(from.path, image.path);
    return this.#enter(job, 'blocks', from, await stageBytes(this.#context.staging, '', list));
  }

  async #patch(job: Job, from: PublishedImage): Promise<PublishedDelta | undefined> {
    const { image, file } = job;
    if (!canPatch(from.size, image.size)) return undefined;
    const before = await this.#fileOf(from);
    if (before === undefined) return undefined;
    const [old, fresh] = [
      { file: before, sha256: from.sha256 },
      { file, sha256: image.sha256 },
    ];
    const patch = await makePatch(this.#context, old, fresh, limitOf(image));
    if (patch === undefined) return undefined;
    const sha256 = await hashFile(patch);
    const staged = await stageFile(this.#context.staging, patch, sha256);
    return this.#enter(job, 'zstd', from, { from: staged, size: (await stat(staged)).size, sha256 });
  }

  async #blockLists(job: Job): Promise<PublishedDelta[]> {
    const made: PublishedDelta[] = [];
    for (const from of formerReleases(job.version, job.image)) {
      const delta = await this.#blocks(job, from);
      if (delta !== undefined) made.push(delta);
    }
    return made;
  }

  /** Patches from former versions, newest first; `tooLarge` are versions whose patches for another target were too large. */
  async #patches(job: Job, before: ExtensionIndex | undefined, tooLarge: Set<string>): Promise<PublishedDelta[]> {
    const made: PublishedDelta[] = [];
    for (const { version, image } of formerVersions(before, job.version.version, job.image)) {
      if (tooLarge.has(version)) break;
      const delta = await this.#patch(job, image);
      // Older versions differ more.
      if (delta === undefined) {
        tooLarge.add(version);
        break;
      }
      made.push(delta);
    }
    return made;
  }

  /** Deltas of the images of one payload, by the digest of the image that they make. */
  async ofPayload(jobs: readonly Job[], before: ExtensionIndex | undefined): Promise<[string, readonly PublishedDelta[]][]> {
    const { signal, report } = this.#context;
    const tooLarge = new Set<string>();
    const made: [string, readonly PublishedDelta[]][] = [];
    for (const job of jobs) {
      signal?.throwIfAborted();
      report?.({ type: 'step', text: `making deltas for ${job.image.path}` });
      const blocks = await timed('block lists', () => this.#blockLists(job));
      const patches = await timed('patches', () => this.#patches(job, before, tooLarge));
      made.push([job.image.sha256, [...blocks, ...patches]]);
    }
    return made;
  }
}

/** The jobs of staged images, by payload. */
function jobsOf(extensions: ReadonlyMap<string, ExtensionIndex>, staged: readonly StagedImage[]): Map<string, Job[]> {
  const files = new Map(staged.map(({ image }) => [image.path, image.from]));
  const jobs = [...extensions.values()].flatMap(({ name, versions }) =>
    versions.flatMap((version) =>
      version.images.flatMap((image): Job[] => {
        const file = files.get(image.path);
        return file === undefined ? [] : [{ name, version, image, file }];
      }),
    ),
  );
  return Map.groupBy(jobs, ({ name, version, image }) => [name, version.version, image.architecture, image.format].join(' '));
}

/**
 * Makes the deltas of staged images: block lists from images of the same payload for other releases, and patches from former versions that were
 * published `before`, checked by applying them. Returns the indexes that list them, and their files.
 */
export async function makeDeltas(
  extensions: ReadonlyMap<string, ExtensionIndex>,
  before: ReadonlyMap<string, ExtensionIndex | undefined>,
  staged: readonly StagedImage[],
  context: DeltaContext,
): Promise<{ extensions: Map<string, ExtensionIndex>; files: readonly Staged[] }> {
  const maker = new DeltaMaker(context, staged);
  const made = await mapParallel(
    [...jobsOf(extensions, staged).values()],
    (jobs) => maker.ofPayload(jobs, before.get(jobs[0]?.name ?? '')),
    AT_ONCE,
  );
  const deltas = new Map(made.flat());
  return { extensions: mapImages(extensions, (image) => withDeltas(image, deltas.get(image.sha256) ?? image.deltas)), files: maker.files };
}
