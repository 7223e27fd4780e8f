import {
  ARCHES, compareVersions, checkCompatibility, formatOf, imageVersion, keep, targetName, waiveFindings, type Arch, type Format, type Pins, type Release, type Target,
} from '@flatcar/core/engine'; // prettier-ignore
import type { ExtensionIndex, PublishedVersion } from '../tree/schema.ts';
import type { Published } from '../tree/state.ts';

/** An extension of the repository, as far as planning needs it. */
export interface PlannedExtension {
  readonly name: string;
  readonly pins: Pins;
  /** Policy of its versions, such as `3 minors`; see keep() of core. */
  readonly track: string;
  /** Lint rules that do not apply, as in its definition. */
  readonly waive?: Readonly<Record<string, string>>;
  /** Extensions that are merged beside it. */
  readonly requires?: readonly string[];
  /** True if no portable image is built of it, as in its definition. */
  readonly releaseBound?: boolean;
}

/** A payload that is not published. */
export interface MissingPayload {
  readonly extension: string;
  /** Image version, and what it is made of. */
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
  /** `build`: its payload is to be built first; `published`: it is bound from the one that is published. */
  readonly from: 'build' | 'published';
}

/** A published image that is not made for a target, and why. */
export interface Skipped {
  readonly extension: string;
  readonly version: string;
  readonly architecture: Arch;
  readonly target: string;
  readonly why: string;
}

/** A pinned version whose name was given away when another one was withdrawn. */
export interface Collision {
  readonly extension: string;
  readonly version: string;
  /** The version that was withdrawn, and replaced under this name. */
  readonly withdrawn: string;
}

/** A pinned version that was changed after it had been published under the same revision. */
export interface Changed {
  readonly extension: string;
  readonly version: string;
}

export interface ReleasePlan {
  /** Of the index that this was computed from; 0 for an empty tree. */
  readonly serial: number;
  readonly targets: readonly string[];
  readonly payloads: readonly MissingPayload[];
  readonly images: readonly MissingImages[];
  readonly skipped: readonly Skipped[];
  /** Pins whose revision must be raised before anything is built of them. */
  readonly collisions: readonly Collision[];
  /** Pins whose revision must be raised, or their change is never published. */
  readonly stale: readonly Changed[];
}

/** The targets that are published for: any, and the newest release of each channel (of LTS: of each supported major). */
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

/** A published version, or what took its place when it was withdrawn. */
function successor(byVersion: ReadonlyMap<string, PublishedVersion>, version: string): PublishedVersion | undefined {
  const found = byVersion.get(version);
  return found?.withdrawn === undefined ? found : (successor(byVersion, found.withdrawn.by) ?? found);
}

/** Names of this extension that a withdrawal has given to the content of another version: a pin of the same name never becomes images. */
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

/** Pins that say something else of a version than what is published under its name. */
function staleNames({ name, pins, track: policy }: PlannedExtension, index: ExtensionIndex | undefined): Changed[] {
  return keep(policy, Object.keys(pins)).flatMap((upstream): Changed[] => {
    const version = imageVersion(upstream, pins[upstream]?.revision ?? 0);
    const is = pins[upstream]?.packaging;
    const was = index?.versions.find((one) => one.version === version)?.packaging;
    return is === undefined || was === undefined || is === was ? [] : [{ extension: name, version }];
  });
}

const pick = ({ version, upstream, revision }: PublishedVersion): Omit<Wanted, 'published'> => ({ version, upstream, revision });

/** The versions that are offered: those of the lock that its policy keeps, and in place of a withdrawn one what follows it. */
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

/**
 * What is to be built and bound so that every kept version of every extension is published for all targets. Decided by the lock files, the
 * release catalogue and the index alone: the same three give the same plan, and nothing else is asked. What is published is never built again.
 */
export async function plan(
  extensions: readonly PlannedExtension[],
  targets: readonly Target[],
  published: Published,
  arches: readonly Arch[] = ARCHES,
): Promise<ReleasePlan> {
  const payloads: MissingPayload[] = [];
  const images: MissingImages[] = [];
  const skipped: Skipped[] = [];
  const collisions: Collision[] = [];
  const stale: Changed[] = [];
  const formats = [...new Set(targets.map(formatOf))];
  for (const extension of extensions.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    const { name } = extension;
    // One index at a time: memory is bounded by the largest extension's, not by all.
    const index = await published.extension(name);
    collisions.push(...takenNames(extension, index));
    stale.push(...staleNames(extension, index));
    for (const { version, upstream, revision, published: there } of wantedVersions(extension, index)) {
      for (const architecture of arches) {
        const has = new Set(there?.images.filter((one) => one.architecture === architecture).map(({ target }) => target));
        const needs = there?.needs[architecture];
        for (const format of formats) {
          const wanted = targets.filter(
            (target) =>
              formatOf(target) === format &&
              !has.has(targetName(target)) &&
              (target === 'portable' ? extension.releaseBound !== true : target.arches.includes(architecture)) &&
              // A name that was withdrawn and has no successor gets no more images.
              there?.withdrawn === undefined,
          );
          const fitting = wanted.filter((target) => {
            const unfit =
              needs === undefined
                ? []
                : waiveFindings(
                    checkCompatibility({ needs, components: there?.components ?? [], requires: extension.requires }, target),
                    extension.waive ?? {},
                  ).left;
            const first = unfit.find(({ level }) => level === 'error');
            if (first !== undefined) skipped.push({ extension: name, version, architecture, target: targetName(target), why: first.what });
            return first === undefined;
          });
          if (fitting.length === 0) continue;
          // It is bound out of an image: without any, what is left of a retired version is its name.
          const isPublished = there?.images.some((one) => one.architecture === architecture && one.format === format) === true;
          if (!isPublished) payloads.push({ extension: name, version, upstream, revision, architecture, format });
          images.push({
            extension: name,
            version,
            architecture,
            format,
            targets: fitting.map(targetName),
            from: isPublished ? 'published' : 'build',
          });
        }
      }
    }
  }
  return { serial: published.index?.serial ?? 0, targets: targets.map(targetName), payloads, images, skipped, collisions, stale };
}

/** A job: versions of one extension on one architecture that lack the same targets, so that none holds back another. Values are arguments. */
export interface Job {
  /** Unique in a plan, and a name for artifacts and folders: `<extension>-<architecture>`, with `-<n>` where there are several. */
  readonly id: string;
  readonly extension: string;
  readonly architecture: Arch;
  /** `build` or `bind --tree`. */
  readonly from: MissingImages['from'];
  /** `kubernetes@1.37.0 kubernetes@1.36.4`: upstream versions where they are built, image versions where they are bound. */
  readonly versions: string;
  /** For `--release`: `portable,4593.2.5`. */
  readonly targets: string;
}

/** A GitHub matrix holds no more jobs. */
export const MATRIX_LIMIT = 256;

/** The jobs of a plan, all of them. */
export function jobsOf({ images, payloads }: Pick<ReleasePlan, 'images' | 'payloads'>): Job[] {
  const argument = ({ extension, version, from }: MissingImages): string =>
    from === 'published'
      ? `${extension}@${version}`
      : `${extension}@${payloads.find((one) => one.extension === extension && one.version === version)?.upstream ?? version}`;
  // A version's targets of both formats together, then versions that lack the same.
  const versions = Map.groupBy(images, (one) => JSON.stringify([one.extension, one.architecture, one.from, argument(one)]));
  const whole = [...versions.entries()].map(([key, group]) => {
    const [extension, architecture, from, what] = JSON.parse(key) as [string, Arch, MissingImages['from'], string];
    return { extension, architecture, from, what, targets: group.flatMap(({ targets }) => targets).join(',') };
  });
  const jobs = Map.groupBy(whole, ({ extension, architecture, from, targets }) => JSON.stringify([extension, architecture, from, targets]));
  const counts = new Map<string, number>();
  return [...jobs.values()].flatMap((group): Job[] =>
    group.slice(0, 1).map(({ extension, architecture, from, targets }) => {
      const base = `${extension}-${architecture}`;
      const count = (counts.get(base) ?? 0) + 1;
      counts.set(base, count);
      return {
        id: count === 1 ? base : `${base}-${count}`,
        extension,
        architecture,
        from,
        versions: group.map(({ what }) => what).join(' '),
        targets,
      };
    }),
  );
}

/** The plan as a GitHub matrix (`strategy.matrix`); what is beyond its limit is left for the next run. */
export function matrixOf(plan: ReleasePlan): { include: Job[] } {
  return { include: jobsOf(plan).slice(0, MATRIX_LIMIT) };
}
