import {
  ARCHES,
  checkCompatibility,
  compareVersions,
  formatOf,
  imageVersion,
  keep,
  targetName,
  waiveFindings,
  type Arch,
  type Format,
  type Pins,
  type Release,
  type Target,
} from '@flatcar/core/engine';
import type { ExtensionIndex, PublishedVersion } from '../tree/schema.ts';
import type { Published } from '../tree/state.ts';

/** What planning needs of an extension of the repository. */
export interface PlannedExtension {
  readonly name: string;
  readonly pins: Pins;
  /** Policy of its versions, such as `3 minors`; see keep() of core. */
  readonly track: string;
  /** Lint rules that do not apply, as in its definition. */
  readonly waive?: Readonly<Record<string, string>>;
  /** Extensions that must be merged as well. */
  readonly requires?: readonly string[];
  /** True if no portable image is built of it, as in its definition. */
  readonly releaseBound?: boolean;
}

/** A payload that is not published. */
export interface MissingPayload {
  readonly extension: string;
  /** Image version; upstream version and revision are its parts. */
  readonly version: string;
  readonly upstream: string;
  readonly revision: number;
  readonly architecture: Arch;
  readonly format: Format;
}

/** Images that are not published, of one version and architecture. */
export interface MissingImages {
  readonly extension: string;
  readonly version: string;
  readonly architecture: Arch;
  readonly format: Format;
  readonly targets: readonly string[];
  /** `build`: the payload must be built first. `published`: the images are bound from the published payload. */
  readonly from: 'build' | 'published';
}

/** An image that is not bound to a target, and why. */
export interface Skipped {
  readonly extension: string;
  readonly version: string;
  readonly architecture: Arch;
  readonly target: string;
  readonly why: string;
}

/** A pinned version whose name belongs to the replacement of a withdrawn version. */
export interface Collision {
  readonly extension: string;
  readonly version: string;
  /** The version that was withdrawn and replaced under this name. */
  readonly withdrawn: string;
}

/** A pinned version that changed after it was published under the same revision. */
export interface Changed {
  readonly extension: string;
  readonly version: string;
}

export interface ReleasePlan {
  /** Of the index that the plan was computed from; 0 for an empty tree. */
  readonly serial: number;
  readonly targets: readonly string[];
  readonly payloads: readonly MissingPayload[];
  readonly images: readonly MissingImages[];
  readonly skipped: readonly Skipped[];
  /** Pins whose revision must be raised before they can be built. */
  readonly collisions: readonly Collision[];
  /** Pins whose revision must be raised, otherwise their change is never published. */
  readonly stale: readonly Changed[];
}

/** The targets to publish for: portable, and the newest release of each channel (for LTS, of each supported major). */
export function supportedTargets(releases: readonly Release[]): Target[] {
  const heads = new Map<string, Release>();
  for (const release of releases) {
    const line = release.channel === 'lts' ? `lts ${release.number.split('.')[0] ?? ''}` : release.channel;
    const head = heads.get(line);
    if (head === undefined || compareVersions(release.number, head.number) > 0) heads.set(line, release);
  }
  return ['portable', ...[...heads.values()].toSorted((a, b) => compareVersions(b.number, a.number))];
}

interface Wanted {
  readonly version: string;
  readonly upstream: string;
  readonly revision: number;
  readonly published: PublishedVersion | undefined;
}

/** A published version; if it was withdrawn, its replacement. */
function successor(byVersion: ReadonlyMap<string, PublishedVersion>, version: string): PublishedVersion | undefined {
  const found = byVersion.get(version);
  return found?.withdrawn === undefined ? found : (successor(byVersion, found.withdrawn.by) ?? found);
}

/** Pinned versions whose names belong to the replacement of a withdrawn version: these pins can never be published. */
function takenNames({ name, pins, track: policy }: PlannedExtension, index: ExtensionIndex | undefined): Collision[] {
  const by = new Map(
    (index?.versions ?? []).flatMap(({ version, withdrawn }) => (withdrawn === undefined ? [] : [[withdrawn.by, version] as const])),
  );
  return keep(policy, Object.keys(pins)).flatMap((upstream): Collision[] => {
    const version = imageVersion(upstream, pins[upstream]?.revision ?? 0);
    const withdrawn = by.get(version);
    return withdrawn === undefined ? [] : [{ extension: name, version, withdrawn }];
  });
}

/** Pinned versions that differ from what is published under their names. */
function staleNames({ name, pins, track: policy }: PlannedExtension, index: ExtensionIndex | undefined): Changed[] {
  return keep(policy, Object.keys(pins)).flatMap((upstream): Changed[] => {
    const version = imageVersion(upstream, pins[upstream]?.revision ?? 0);
    const is = pins[upstream]?.packaging;
    const was = index?.versions.find((one) => one.version === version)?.packaging;
    return is === undefined || was === undefined || is === was ? [] : [{ extension: name, version }];
  });
}

const pick = ({ version, upstream, revision }: PublishedVersion): Omit<Wanted, 'published'> => ({ version, upstream, revision });

/** The versions to offer: those that the policy keeps, and the replacement of a withdrawn version. */
function wantedVersions({ pins, track: policy }: PlannedExtension, index: ExtensionIndex | undefined): Wanted[] {
  const byVersion = new Map((index?.versions ?? []).map((one) => [one.version, one]));
  const wanted = new Map<string, Wanted>();
  for (const upstream of keep(policy, Object.keys(pins))) {
    const revision = pins[upstream]?.revision ?? 0;
    const version = imageVersion(upstream, revision);
    const published = successor(byVersion, version);
    wanted.set(
      published?.version ?? version,
      published === undefined ? { version, upstream, revision, published } : { ...pick(published), published },
    );
  }
  return [...wanted.values()].toSorted((a, b) => compareVersions(b.version, a.version));
}

/** Why a published payload does not fit a target: the first error after waived findings are removed. */
function misfit(
  { waive, requires }: PlannedExtension,
  published: PublishedVersion | undefined,
  architecture: Arch,
  target: Target,
): string | undefined {
  const needs = published?.needs[architecture];
  if (published === undefined || needs === undefined) return undefined;
  const findings = checkCompatibility({ needs, components: published.components, requires }, target);
  return waiveFindings(findings, waive ?? {}).left.find(({ level }) => level === 'error')?.what;
}

/** What is missing of one version on one architecture. */
function missingOf(
  extension: PlannedExtension,
  { version, upstream, revision, published }: Wanted,
  architecture: Arch,
  targets: readonly Target[],
): Pick<ReleasePlan, 'payloads' | 'images' | 'skipped'> {
  const { name } = extension;
  const payloads: MissingPayload[] = [];
  const images: MissingImages[] = [];
  const skipped: Skipped[] = [];
  // A withdrawn version without a successor gets no more images.
  if (published?.withdrawn !== undefined) return { payloads, images, skipped };
  const existing = published?.images.filter((one) => one.architecture === architecture) ?? [];
  const missing = targets.filter(
    (target) =>
      !existing.some((image) => image.target === targetName(target)) &&
      (target === 'portable' ? extension.releaseBound !== true : target.arches.includes(architecture)),
  );
  for (const format of new Set(targets.map(formatOf))) {
    const fitting: string[] = [];
    for (const target of missing.filter((one) => formatOf(one) === format)) {
      const why = misfit(extension, published, architecture, target);
      if (why === undefined) fitting.push(targetName(target));
      else skipped.push({ extension: name, version, architecture, target: targetName(target), why });
    }
    if (fitting.length === 0) continue;
    // An image is bound from another image of the payload: a retired version without images must be built again.
    const isPublished = existing.some((image) => image.format === format);
    if (!isPublished) payloads.push({ extension: name, version, upstream, revision, architecture, format });
    images.push({ extension: name, version, architecture, format, targets: fitting, from: isPublished ? 'published' : 'build' });
  }
  return { payloads, images, skipped };
}

/**
 * What to build and bind so that every kept version of every extension is published for all targets. Depends only on the lock files, the
 * release catalogue and the index. Published images are never built again.
 */
export async function plan(
  extensions: readonly PlannedExtension[],
  targets: readonly Target[],
  published: Published,
  arches: readonly Arch[] = ARCHES,
): Promise<ReleasePlan> {
  const parts: Pick<ReleasePlan, 'payloads' | 'images' | 'skipped'>[] = [];
  const collisions: Collision[] = [];
  const stale: Changed[] = [];
  for (const extension of extensions.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    // One index at a time: memory is bounded by the largest extension, not by all.
    const index = await published.extension(extension.name);
    collisions.push(...takenNames(extension, index));
    stale.push(...staleNames(extension, index));
    for (const wanted of wantedVersions(extension, index))
      for (const architecture of arches) parts.push(missingOf(extension, wanted, architecture, targets));
  }
  return {
    serial: published.index?.serial ?? 0,
    targets: targets.map(targetName),
    payloads: parts.flatMap(({ payloads }) => payloads),
    images: parts.flatMap(({ images }) => images),
    skipped: parts.flatMap(({ skipped }) => skipped),
    collisions,
    stale,
  };
}

/** A job: versions of one extension on one architecture that lack the same targets. */
export interface Job {
  /** Unique in a plan, and part of names of artifacts and folders: `<extension>-<architecture>`, with `-<n>` if there are several. */
  readonly id: string;
  readonly extension: string;
  readonly architecture: Arch;
  /** `build` or `bind --tree`. */
  readonly from: MissingImages['from'];
  /** Upstream versions if they are built, image versions if they are only bound. */
  readonly versions: string[];
  readonly targets: string[];
}

/** The most jobs of a GitHub matrix. */
export const MATRIX_LIMIT = 256;

/** The jobs of a plan, all of them. */
export function jobsOf({ images, payloads }: Pick<ReleasePlan, 'images' | 'payloads'>): Job[] {
  const versionOf = ({ extension, version, from }: MissingImages): string =>
    from === 'published' ? version : (payloads.find((one) => one.extension === extension && one.version === version)?.upstream ?? version);
  // The targets of a version in both formats together, then the versions that lack the same targets.
  const byVersion = Map.groupBy(images, (one) => JSON.stringify([one.extension, one.architecture, one.from, versionOf(one)]));
  const whole = [...byVersion.values()].flatMap(([first, ...others]) =>
    first === undefined ? [] : [{ ...first, version: versionOf(first), targets: [first, ...others].flatMap(({ targets }) => targets) }],
  );
  const byTargets = Map.groupBy(whole, ({ extension, architecture, from, targets }) =>
    JSON.stringify([extension, architecture, from, targets]),
  );
  const counts = new Map<string, number>();
  return [...byTargets.values()].flatMap(([first, ...others]): Job[] => {
    if (first === undefined) return [];
    const { extension, architecture, from, targets } = first;
    const base = `${extension}-${architecture}`;
    const count = (counts.get(base) ?? 0) + 1;
    counts.set(base, count);
    const versions = [first, ...others].map(({ version }) => version);
    return [{ id: count === 1 ? base : `${base}-${count}`, extension, architecture, from, versions, targets }];
  });
}

/** The plan as a GitHub matrix (`strategy.matrix`); jobs beyond its limit are left for the next run. */
export function matrixOf(plan: ReleasePlan): { include: Job[] } {
  return { include: jobsOf(plan).slice(0, MATRIX_LIMIT) };
}
