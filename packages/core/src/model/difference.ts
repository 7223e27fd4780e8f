import type { HostRequirements, TreeEntry } from './payload.ts';

/** A value before and after. */
interface BeforeAfter<T> {
  readonly before: T;
  readonly after: T;
}

/** A file that differs. */
export interface FileChange extends BeforeAfter<number> {
  readonly what: 'added' | 'removed' | 'changed';
  readonly path: string;
  /** Sizes in bytes. */
  readonly before: number;
  readonly after: number;
  /** Type and permissions if they differ: `file 755`. */
  readonly modes?: BeforeAfter<string>;
}

/** The difference between two images. */
export interface Difference {
  readonly versions: readonly ({ readonly component: string } & BeforeAfter<string>)[];
  readonly files: readonly FileChange[];
  /** Host requirements that differ: `glibc` 2.34 and 2.38. */
  readonly requirements: readonly ({ readonly what: string } & BeforeAfter<string>)[];
  /** Sizes of the images in bytes. */
  readonly size: BeforeAfter<number>;
}

/** What is compared of an image: facts of its manifest or of its payload's record, and its files. */
export interface ImageContent {
  /** Of the image, in bytes. */
  readonly size: number;
  readonly components: readonly { readonly name: string; readonly version: string }[];
  readonly needs: HostRequirements;
  readonly replaces: readonly string[];
  readonly conflicts: readonly string[];
  readonly requires: readonly string[];
  readonly entries: readonly TreeEntry[];
}

/** The keys whose values differ, in the order of both. */
function changedKeys(before: ReadonlyMap<string, string>, after: ReadonlyMap<string, string>): ({ key: string } & BeforeAfter<string>)[] {
  return [...new Set([...before.keys(), ...after.keys()])]
    .map((key) => ({ key, before: before.get(key) ?? '', after: after.get(key) ?? '' }))
    .filter((one) => one.before !== one.after);
}

const componentVersions = ({ components }: ImageContent): Map<string, string> =>
  new Map(components.map(({ name, version }) => [name, version]));

/** What an image needs of a host, replaces there, or cannot be merged with. */
const hostRequirements = ({ needs, replaces, conflicts, requires }: ImageContent): Map<string, string> =>
  new Map([
    ['systemd', needs.systemd],
    ['glibc', needs.glibc ?? ''],
    ['kernel', needs.kernel ?? ''],
    ['libraries', needs.libraries.toSorted().join(' ')],
    ['replaces', replaces.toSorted().join(' ')],
    ['conflicts', conflicts.toSorted().join(' ')],
    ['requires', requires.toSorted().join(' ')],
  ]);

const modeOf = ({ type, mode }: TreeEntry): string => `${type} ${(mode & 0o7777).toString(8)}`;

/** How a path differs between two images; undefined if it does not. */
function fileChange(path: string, before: TreeEntry | undefined, after: TreeEntry | undefined): FileChange | undefined {
  const sizes = { path, before: before?.size ?? 0, after: after?.size ?? 0 };
  if (before === undefined || after === undefined) return { what: before === undefined ? 'added' : 'removed', ...sizes };
  if (before.sha256 === after.sha256 && before.link === after.link && before.mode === after.mode) return undefined;
  const modes = { before: modeOf(before), after: modeOf(after) };
  return { what: 'changed', ...sizes, modes: modes.before === modes.after ? undefined : modes };
}

const filesOf = ({ entries }: ImageContent): Map<string, TreeEntry> =>
  new Map(entries.filter(({ type }) => type !== 'dir').map((entry) => [entry.path, entry]));

function changedFiles(before: ImageContent, after: ImageContent): FileChange[] {
  const [old, now] = [filesOf(before), filesOf(after)];
  return [...new Set([...old.keys(), ...now.keys()])].toSorted().flatMap((path) => fileChange(path, old.get(path), now.get(path)) ?? []);
}

/** Compares versions, files, host requirements and sizes of two images. */
export function differenceBetween(before: ImageContent, after: ImageContent): Difference {
  const versions = changedKeys(componentVersions(before), componentVersions(after));
  const requirements = changedKeys(hostRequirements(before), hostRequirements(after));
  return {
    versions: versions.map(({ key: component, ...values }) => ({ component, ...values })),
    files: changedFiles(before, after),
    requirements: requirements.map(({ key: what, ...values }) => ({ what, ...values })),
    size: { before: before.size, after: after.size },
  };
}
