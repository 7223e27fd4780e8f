import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  imageVersion,
  matchingVersions,
  newestFirst,
  openStore,
  packagingDigest,
  PLAIN_VERSION,
  readPins,
  UsageError,
  UserError,
  writeAtomic,
  type Extension,
  type Pins,
} from '@flatcar/core/engine';
import type { Trust } from '@flatcar/publish';
import type { PinRequest, PinResult, UpstreamContext } from '@flatcar/upstream';
import { baseLock } from './base-commit.ts';
import { writeReadme, writeRootReadme } from './readme.ts';

/** What is known to be released: revisions are counted from it. */
export interface Released {
  /** The lock of the branch that images are published from, or of another commit. */
  readonly base?: Pins | undefined;
  /** The highest revision of each upstream version in a published tree. */
  readonly published?: ReadonlyMap<string, number> | undefined;
}

/** The released revision of a version; undefined if the version is not released. */
const releasedRevision = ({ base, published }: Released, version: string): number | undefined => {
  const known = [base?.[version]?.revision, published?.get(version)].filter((one) => one !== undefined);
  return known.length === 0 ? undefined : Math.max(...known);
};

/**
 * What the revisions of an extension are counted from: a published tree, and the given commit, else the branch that images are published from,
 * else (in a checkout without that branch, and without a tree) the last commit.
 */
export async function releasedOf(dir: string, ref: string | undefined, published?: ReadonlyMap<string, number>): Promise<Released> {
  const base = await baseLock(dir, ref);
  if (base !== undefined || published !== undefined) return { base, published };
  return { base: await baseLock(dir, 'HEAD').catch(() => undefined) };
}

/** Today's version of an extension whose versions are dates. */
export const today = (): string => new Date().toISOString().slice(0, 10).replaceAll('-', '.');

/** What was pinned, and which files were written. */
export interface Pinned extends PinResult {
  /** Why the revision or date is what it is, for a person. */
  readonly note: string | undefined;
}

interface PinOptions {
  readonly request: Omit<PinRequest, 'revision'>;
  /** Whether to pin under the revision after the released one. */
  readonly revision: boolean;
  /** Commit and tree that revisions are counted from; see releasedOf. */
  readonly base?: string | undefined;
  readonly published?: ReadonlyMap<string, number> | undefined;
  readonly repository: string;
}

async function readLock(dir: string): Promise<Pins> {
  const where = join(dir, 'pins.json');
  const text = await readFile(where, 'utf8').catch(() => '{}');
  return readPins(text, where);
}

/**
 * The revision for a version that is pinned again: the one after the released one, however often that is done before the release.
 * Undefined if nothing is known of what is released.
 */
export async function nextRevision(dir: string, version: string): Promise<number | undefined> {
  const known = await releasedOf(dir, undefined);
  if (known.base === undefined) return undefined;
  const released = releasedRevision(known, version);
  return released === undefined ? (await readLock(dir))[version]?.revision : released + 1;
}

/** Throws a UserError if a released version was changed: the published image would differ from the lock. */
async function assertUnchanged(dir: string, extension: Extension, version: string, pins: Pins, released: Released): Promise<void> {
  const [pin, before] = [pins[version], released.base?.[version]];
  if (pin === undefined || before?.packaging === undefined || before.revision !== pin.revision) return;
  const actual = await packagingDigest({ dir, extension, pins, fixture: false }, version).catch(() => undefined);
  if (actual === undefined || actual === before.packaging) return;
  throw new UserError(`files or definition changed since ${imageVersion(version, pin.revision)} was pinned`, {
    where: join(dir, 'pins.json'),
    next: `flatcar-ext pin ${extension.name}@${version} --revision pins them under revision ${before.revision + 1}`,
  });
}

/** The changelog lines of a revision. */
function changesOf(before: Readonly<Record<string, string>>, { coupled: after, lines }: PinResult): string[] {
  const coupled = Object.entries(after).flatMap(([name, version]) =>
    before[name] === version ? [] : [`${name} ${before[name] ?? ''} → ${version}`],
  );
  const bytes = [...new Set(lines.filter(({ change }) => change === 'other').map(({ component }) => component))];
  const changes = [...coupled, ...bytes.map((component) => `${component}: other bytes of the same version`)];
  return changes.length === 0 ? ['packaging'] : changes;
}

/** Adds the changelog entry of a revision unless the changelog has it; returns the files that were written. */
async function noteChange(dir: string, name: string, result: PinResult, lines: readonly string[]): Promise<string[]> {
  const { addChangelogEntry } = await import('@flatcar/upstream');
  const { version, revision } = result;
  const file = join(dir, 'CHANGELOG.md');
  const before = await readFile(file, 'utf8').catch(() => undefined);
  if (before?.includes(`## ${imageVersion(version, revision)} (`) === true) return [];
  await writeAtomic(file, addChangelogEntry(name, before, { version, revision, lines }));
  return [file];
}

function noteOf(
  { versions }: Extension,
  result: PinResult,
  isRevision: boolean,
  before: number | undefined,
  released: number | undefined,
  pins: Pins,
): string | undefined {
  const { extension, version, revision } = result;
  if (isRevision && released === undefined && before !== undefined) return `${version} is not released yet: its revision stays ${revision}`;
  if (versions.kind !== 'date') return undefined;
  const newest = newestFirst(Object.keys(pins))[0];
  if (before === undefined || version !== newest) return `a new date: ${version}`;
  return `the date stays ${version}, ${isRevision ? `revision ${revision}` : 'which is pinned'}; flatcar-ext pin ${extension}@${today()} takes a new one`;
}

/**
 * Pins a version, and writes the changelog (for a revision) and the READMEs. A revision is the one after the released one, however often it is
 * pinned. Throws a UserError, and writes nothing, if released files were changed and no revision is requested.
 */
export async function pinExtension(
  { request, revision: isRevision, base, published, repository }: PinOptions,
  context: UpstreamContext,
): Promise<Pinned> {
  const { pinVersion } = await import('@flatcar/upstream');
  const { dir, extension, version } = request;
  const pins = await readLock(dir);
  const before = pins[version];
  const known = await releasedOf(dir, base, published);
  const released = releasedRevision(known, version);
  // A version of the last commit only may be changed in place: it is not known to be published.
  const isKnown = base !== undefined || published !== undefined || (await baseLock(dir)) !== undefined;
  if (!isRevision && isKnown) await assertUnchanged(dir, extension, version, pins, known);
  const revision = !isRevision ? undefined : released === undefined ? (before?.revision ?? 0) : released + 1;
  const result = await pinVersion({ ...request, revision }, context);
  const written = new Set(result.written);
  if (result.revision > (released ?? 0))
    for (const file of await noteChange(dir, extension.name, result, changesOf(before?.coupled ?? {}, result))) written.add(file);
  if (await writeReadme(dir)) written.add(join(dir, 'README.md'));
  if (await writeRootReadme(repository)) written.add(join(repository, 'README.md'));
  return { ...result, written: [...written], note: noteOf(extension, result, isRevision, before?.revision, released, pins) };
}

/**
 * The version to pin for the word after `@`: `1.37.1` is that version, and `1.37` or no word the newest matching pinned version. An extension
 * without pins gets upstream's newest version, or today's date.
 */
export async function versionToPin(extension: Extension, dir: string, word: string | undefined, context: UpstreamContext): Promise<string> {
  const [found] = matchingVersions(newestFirst(Object.keys(await readLock(dir))), word);
  if (found !== undefined) return found;
  if (word !== undefined && !PLAIN_VERSION.test(word))
    throw new UsageError(`'${word}' is not a version to pin`, { next: 'write it without v; pre-releases are not shipped' });
  if (word !== undefined) return word;
  if (extension.versions.kind === 'date') return today();
  const { keptVersions } = await import('@flatcar/upstream');
  const [newest] = await keptVersions(extension.versions, context);
  if (newest === undefined)
    throw new UserError('upstream lists no version', { where: dir, next: `specify a version: ${extension.name}@VERSION` });
  return newest;
}

/** The highest published revision of each upstream version of an extension. */
export async function treeRevisions(where: string, name: string, trust: Trust): Promise<Map<string, number>> {
  const { openTree, readPublished } = await import('@flatcar/publish');
  const published = await readPublished(openTree(where, openStore(), { flag: '--tree' }), trust);
  const versions = (await published.extension(name))?.versions ?? [];
  return new Map(versions.toSorted((a, b) => a.revision - b.revision).map(({ upstream, revision }) => [upstream, revision]));
}
