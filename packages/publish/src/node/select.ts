import {
  LATEST,
  matchingVersions,
  targetName,
  UserError,
  UserErrors,
  type Arch,
  type ExtensionRef,
  type Target,
} from '@flatcar/core/browser';
import type { Channel } from '../tree/layout.ts';
import type { ExtensionIndex, PublishedImage, PublishedVersion } from '../tree/schema.ts';

/** Keeps images up to date and fetches those for the next release; an extension of this repository. */
export const STAGER = 'extension-stager';

/** What a node gets. */
export interface NodeOptions {
  readonly wanted: readonly ExtensionRef[];
  readonly targets: readonly Target[];
  readonly arch: Arch;
  /** URL from which nodes fetch. */
  readonly baseUrl: string;
  /** Only images and their links, without updates. */
  readonly minimal: boolean;
  /** Names of the published extensions, for errors. */
  readonly published?: readonly string[];
  /** False: extension-stager is not added. */
  readonly stager: boolean;
}

/** One extension for one node: a version, what the node follows from there, and the image for each target. */
export interface SelectedExtension {
  readonly name: string;
  readonly kind: ExtensionIndex['kind'];
  readonly channel: Channel;
  readonly version: PublishedVersion;
  readonly images: readonly { readonly target: Target; readonly image: PublishedImage }[];
}

/** Extensions for a node, and what the operator should know. */
export interface Selection {
  readonly extensions: readonly SelectedExtension[];
  readonly hasStager: boolean;
  /** A line for each extension that was added because another one requires it. */
  readonly added: readonly string[];
  readonly notices: readonly string[];
}

/** Reads the published index of an extension. */
export type ReadExtension = (name: string) => Promise<ExtensionIndex | undefined>;

/** Versions that a word selects: one image version if the word has a revision, else all of an upstream version or of a branch. */
export function selectVersions(versions: readonly PublishedVersion[], wanted: string | undefined): readonly PublishedVersion[] {
  const upstreams: readonly string[] = versions.map(({ upstream }) => upstream);
  const image = versions.find(({ version }) => version === wanted);
  if (image !== undefined && !upstreams.includes(image.version)) return [image];
  const found = new Set(matchingVersions(upstreams, wanted));
  return versions.filter(({ upstream }) => found.has(upstream));
}

/**
 * What a node follows: a version that was given in full stays, less than that is a branch. By default it is what the extension follows: every
 * version, or those of its minor version.
 */
function channelOf({ version, upstream }: PublishedVersion, wanted: string | undefined, follow: ExtensionIndex['follow']): Channel {
  const [major, minor, ...rest] = upstream.split('.');
  if (wanted === undefined && follow === 'minor' && rest.length > 0) return { kind: 'branch', version: `${major}.${minor}` };
  if (wanted === undefined || wanted === LATEST) return { kind: 'latest' };
  return wanted === version || wanted === upstream ? { kind: 'pinned', version } : { kind: 'branch', version: wanted };
}

/** The images of a version for the targets, in their order; images may be missing. */
function imagesFor({ images }: PublishedVersion, targets: readonly Target[], arch: Arch): SelectedExtension['images'] {
  return targets.flatMap((target) => {
    const image = images.find((one) => one.target === targetName(target) && one.architecture === arch);
    return image === undefined ? [] : [{ target, image }];
  });
}

/** The newest version that is not withdrawn and has an image for each target. */
function selectVersion(index: ExtensionIndex, wanted: string | undefined, targets: readonly Target[], arch: Arch): SelectedExtension {
  const { name, kind, follow } = index;
  const available = index.versions.filter(({ withdrawn }) => withdrawn === undefined);
  const candidates = selectVersions(available, wanted);
  for (const version of candidates) {
    const images = imagesFor(version, targets, arch);
    if (images.length === targets.length) return { name, kind, channel: channelOf(version, wanted, follow), version, images };
  }
  const what = wanted === undefined ? name : `${name} ${wanted}`;
  if (candidates.length === 0)
    throw new UserError(`${what} is not published`, { next: `published versions: ${available.map(({ version }) => version).join(', ')}` });
  const images = candidates.flatMap((version) => version.images).filter(({ architecture }) => architecture === arch);
  const existing = [...new Set(images.map(({ target }) => target))].toSorted();
  throw new UserError(`no version of ${what} has an image for ${targets.map(targetName).join(' and ')} on ${arch}`, {
    next: existing.length === 0 ? `no image for ${arch} is published` : `images are published for: ${existing.join(', ')}`,
  });
}

/** True if a portable image is published: one portable extension-stager serves all releases. */
const hasPortable = ({ versions }: ExtensionIndex, arch: Arch): boolean =>
  versions.some(
    ({ withdrawn, images }) =>
      withdrawn === undefined && images.some(({ target, architecture }) => target === 'portable' && architecture === arch),
  );

async function select(
  { name, version }: ExtensionRef,
  { targets, arch, published }: NodeOptions,
  readExtension: ReadExtension,
): Promise<SelectedExtension> {
  const index = await readExtension(name);
  if (index === undefined)
    throw new UserError(`${name} is not published`, {
      next: published === undefined ? 'check the name' : `published extensions: ${published.join(', ') || 'none'}`,
    });
  return selectVersion(index, version, name === STAGER && hasPortable(index, arch) ? ['portable'] : targets, arch);
}

/** Selects what the operator named. Reports all unknown names and versions at once. */
async function selectWanted(options: NodeOptions, readExtension: ReadExtension): Promise<SelectedExtension[]> {
  const results = await Promise.allSettled(options.wanted.map((ref) => select(ref, options, readExtension)));
  const errors = results.flatMap((one) => (one.status === 'rejected' ? [one.reason as unknown] : []));
  const userErrors = errors.filter((error) => error instanceof UserError);
  if (userErrors.length > 1 && userErrors.length === errors.length)
    throw new UserErrors(`${errors.length} extensions cannot be selected`, userErrors);
  if (errors.length > 0) throw errors.find((error) => !(error instanceof UserError)) ?? errors[0];
  return results.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
}

/** Adds the extensions that others require, and those that these require. Returns a notice for each. */
async function addRequired(extensions: SelectedExtension[], options: NodeOptions, readExtension: ReadExtension): Promise<string[]> {
  const notices: string[] = [];
  // The list grows while the loop runs: a required extension may require others.
  for (const { name, version } of extensions)
    for (const required of version.requires) {
      if (extensions.some((one) => one.name === required)) continue;
      notices.push(`${required} is added: ${name} requires it`);
      extensions.push(
        await select({ name: required }, options, readExtension).catch((cause: unknown) => {
          if (!(cause instanceof UserError)) throw cause;
          const { where, next, message } = cause;
          throw new UserError(`${name} requires ${required}: ${message}`, { where, next, cause });
        }),
      );
    }
  return notices;
}

/** Notices for extensions that follow a minor version without being told to. */
function branchNotices(extensions: readonly SelectedExtension[], wanted: readonly ExtensionRef[]): string[] {
  return extensions.flatMap(({ name, channel }) =>
    channel.kind !== 'branch' || wanted.some((one) => one.name === name && one.version !== undefined)
      ? []
      : [
          `${name} follows ${channel.version}: the next minor version may need other steps; to follow every version, ask for ${name}@${LATEST}`,
        ],
  );
}

function assertNoConflicts(extensions: readonly SelectedExtension[]): void {
  for (const { name, version } of extensions) {
    const other = version.conflicts.find((conflict) => extensions.some((one) => one.name === conflict));
    if (other !== undefined) throw new UserError(`${name} and ${other} cannot be merged together`, { next: 'leave one of them out' });
  }
}

/** Selects the extensions of a node with all that they require, and extension-stager beside images that are bound to releases. */
export async function selectExtensions(options: NodeOptions, readExtension: ReadExtension): Promise<Selection> {
  const { wanted, targets, arch, minimal } = options;
  const duplicate = wanted.find(({ name }, index) => wanted.findIndex((one) => one.name === name) !== index);
  if (duplicate !== undefined)
    throw new UserError(`${duplicate.name} is specified twice`, { next: 'specify one version of each extension' });
  const isPortable = targets.includes('portable');
  if (isPortable && targets.length > 1)
    throw new UserError('portable images fit every release', { next: 'specify either portable or releases' });

  const extensions = await selectWanted(options, readExtension);
  const added = await addRequired(extensions, options, readExtension);
  assertNoConflicts(extensions);

  const isStager = ({ name }: SelectedExtension): boolean => name === STAGER;
  if (!isPortable && !minimal && options.stager && !extensions.some(isStager)) {
    const index = await readExtension(STAGER);
    if (index !== undefined && hasPortable(index, arch)) extensions.push(selectVersion(index, undefined, ['portable'], arch));
  }
  const hasStager = extensions.some(isStager);
  const branches = minimal ? [] : branchNotices(extensions, wanted);
  const missing = `without ${STAGER}, images for the next release are not fetched before the node boots into it: its extensions are missing until then`;
  return { extensions, hasStager, added, notices: [...added, ...branches, ...(isPortable || hasStager ? [] : [missing])] };
}
