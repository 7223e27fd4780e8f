import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import {
  allComponents,
  buildExtension,
  loadExtension,
  openStore,
  openTools,
  parseJson,
  sidecarPaths,
  UserError,
  type LoadedExtension,
  type Manifest,
  type Report,
  type Store,
} from '@flatcar/core/engine';
import * as v from 'valibot';
import { gitCommit } from './build-context.ts';
import { withFreshStore } from './fresh-store.ts';
import { readImageFile, type ImageFile } from './image-file.ts';
import { findDir } from './select.ts';

/** The part of a build record that names the checkout. */
const ProvenanceSchema = v.object({
  predicate: v.object({
    buildDefinition: v.object({
      resolvedDependencies: v.array(v.object({ digest: v.object({ gitCommit: v.optional(v.string()) }) })),
    }),
  }),
});

/** The commit in the build record of an image; undefined if the record names none. Throws a UserError if there is no valid record. */
export async function recordedCommit(image: string): Promise<string | undefined> {
  const where = sidecarPaths(image).provenance;
  const text = await readFile(where, 'utf8').catch((cause: unknown) => {
    throw new UserError('the image has no build record beside it', { where, next: 'keep the image and its sidecars together', cause });
  });
  const { predicate } = parseJson(ProvenanceSchema, text, { what: 'build record', where, next: 'fetch or build the image again' });
  return predicate.buildDefinition.resolvedDependencies.map(({ digest }) => digest.gitCommit).find((commit) => commit !== undefined);
}

/** What to do about an image that this checkout does not reproduce. */
async function adviceFor(image: string, commit: string | undefined): Promise<string> {
  const recorded = await recordedCommit(image);
  if (recorded === undefined) return 'the build record names no commit: ask whoever built the image for the sources';
  if (recorded === commit) return 'report that the build is not reproducible';
  return `check out commit ${recorded}, from which the image was built; the repository is at ${commit ?? 'no commit'}`;
}

const nameOf = ({ name, version }: { readonly name: string; readonly version: string }): string => `${name} ${version}`;

/**
 * The components of the definition that the image contains; undefined for all of them (some for `build --only`). Throws a UserError if the
 * definition has others.
 */
async function chosenComponents(
  loaded: LoadedExtension,
  { name, version, upstream, revision, components: named }: Manifest,
): Promise<readonly string[] | undefined> {
  const pinned = loaded.pins[upstream];
  if (pinned === undefined) throw new UserError(`this checkout does not pin ${name} ${upstream}`);
  if (pinned.revision !== revision)
    throw new UserError(`this checkout pins revision ${pinned.revision} of ${name} ${upstream}, and the image is ${version}`);
  const { components, own } = await allComponents(loaded, upstream);
  const wanted = new Set(named.map(nameOf));
  const made = [...components, ...own].map(({ component }) => component);
  const chosen = made.filter((component) => wanted.has(nameOf(component)));
  if (chosen.map(nameOf).join() !== named.map(nameOf).join())
    throw new UserError(
      `this checkout builds ${name} ${version} from ${made.map(nameOf).join(', ')}, and the image contains ${named.map(nameOf).join(', ')}`,
    );
  return chosen.length === made.length ? undefined : chosen.filter(({ origins }) => origins[0]?.kind !== 'files').map((one) => one.name);
}

/** What a rebuild needs besides the image. */
export interface RebuildOptions {
  readonly loaded: LoadedExtension;
  /** Commit of the checkout, for advice. */
  readonly commit: string | undefined;
  /** Shares its downloads, not its results. */
  readonly store: Store;
  readonly report: Report;
  readonly signal?: AbortSignal;
  readonly mirror?: string;
  /** Whether to compile without a sandbox. */
  readonly noSandbox?: boolean;
}

/**
 * Builds an image again in a store without results, each component from the origin that the manifest names, and compares the bytes. Only the
 * key's owner can sign: of a signed image everything but the signature is compared, by its roothash. Returns what is the same.
 */
export async function rebuildImage({ file, manifest, target }: ImageFile, options: RebuildOptions): Promise<string> {
  const { loaded, commit, store, report, signal, mirror, noSandbox } = options;
  const only = await chosenComponents(loaded, manifest).catch(async (error: unknown) => {
    if (!(error instanceof UserError)) throw error;
    throw new UserError(error.message, { where: file, next: await adviceFor(file, commit), cause: error });
  });
  return withFreshStore(store, async (fresh) => {
    const { images } = await buildExtension(loaded, {
      version: manifest.upstream,
      arch: manifest.architecture,
      targets: [target],
      profile: manifest.profile,
      origin: manifest.components.map(({ origin }) => origin),
      only,
      out: join(dirname(fresh.root), 'out'),
      store: fresh,
      tools: openTools(fresh, report),
      report,
      mirror,
      noSandbox,
      signal,
    });
    const [image] = images;
    if (image?.sha256 === manifest.sha256) return 'rebuilt from nothing: the same bytes';
    if (manifest.signed === true && image?.roothash !== undefined && image.roothash === manifest.roothash)
      return 'rebuilt from nothing: the same roothash, without the signature';
    throw new UserError(`the rebuilt image has sha256 ${image?.sha256 ?? ''}, this one ${manifest.sha256}`, {
      where: file,
      next: await adviceFor(file, commit),
    });
  });
}

/** Builds an image file again from the definition in this checkout; see rebuildImage. */
export async function rebuildFile(
  file: string,
  options: Pick<RebuildOptions, 'report' | 'noSandbox' | 'signal' | 'mirror'>,
): Promise<string> {
  const image = await readImageFile(file);
  const loaded = await loadExtension(await findDir(image.manifest.name));
  return rebuildImage(image, { ...options, loaded, commit: await gitCommit(), store: openStore() });
}
