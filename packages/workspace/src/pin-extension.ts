import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  imageVersion,
  newestFirst,
  packagingDigest,
  readPins,
  UserError,
  writeAtomic,
  type Extension,
  type Pins,
} from '@flatcar/core/engine';
import type { PinRequest, PinResult, UpstreamContext } from '@flatcar/upstream';
import { baseLock } from './base-commit.ts';
import { writeReadme, writeRootReadme } from './readme.ts';

/** What is released already, as far as is known: what a revision is counted from. */
export interface Released {
  /** Lock of the branch that images are published from, or of another commit. */
  readonly base?: Pins | undefined;
  /** Revisions of each upstream version in a published tree. */
  readonly published?: ReadonlyMap<string, number> | undefined;
}

/** The released revision of a version; undefined for a version that is not released. */
const releasedRevision = ({ base, published }: Released, version: string): number | undefined => {
  const known = [base?.[version]?.revision, published?.get(version)].filter((one) => one !== undefined);
  return known.length === 0 ? undefined : Math.max(...known);
};

/**
 * What a revision of an extension is counted from: the given commit, else the branch that images are published from, else (in a checkout
 * without that branch) the last commit, besides what a tree has.
 */
export async function releasedOf(dir: string, ref: string | undefined, published?: ReadonlyMap<string, number>): Promise<Released> {
  const base = await baseLock(dir, ref);
  if (base !== undefined || published !== undefined) return { base, published };
  return { base: await baseLock(dir, 'HEAD').catch(() => undefined) };
}

/** The version that an extension of dates gets today. */
export const today = (): string => new Date().toISOString().slice(0, 10).replaceAll('-', '.');

/** What was pinned, and what was written besides the lock. */
export interface Pinned extends PinResult {
  /** What a person should know about the revision. */
  readonly note: string | undefined;
}

interface PinOptions {
  readonly request: Omit<PinRequest, 'revision'>;
  /** True to pin under the revision after the released one. */
  readonly revision: boolean;
  /** Where `revision` counts from: see releasedOf. */
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
 * The revision under which a pinned version is pinned again: the one after the released one, however often that is done before it is released.
 * Undefined where nothing is known of what is released.
 */
export async function nextRevision(dir: string, version: string): Promise<number | undefined> {
  const known = await releasedOf(dir, undefined);
  if (known.base === undefined) return undefined;
  const released = releasedRevision(known, version);
  return released === undefined ? (await readLock(dir))[version]?.revision : released + 1;
}

/** Refuses to pin under a released revision what has changed since: the lock would be right, and the image that is published another. */
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

/** What a revision changed, for the changelog. */
function changesOf(before: Readonly<Record<string, string>>, { coupled: after, lines }: PinResult): string[] {
  const coupled = Object.entries(after).flatMap(([name, version]) =>
    before[name] === version ? [] : [`${name} ${before[name] ?? ''} → ${version}`],
  );
  const bytes = [...new Set(lines.filter(({ change }) => change === 'other').map(({ component }) => component))];
  const changes = [...coupled, ...bytes.map((component) => `${component}: other bytes of the same version`)];
  return changes.length === 0 ? ['packaging'] : changes;
}

/** Adds an entry for a revision, once. */
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
 * Pins a version and brings the files up to date that speak of it: the changelog (for a revision) and the READMEs. A revision is the one after
 * the released one, however often it is asked for. Throws a UserError, and writes nothing, where released files were changed and no revision
 * is asked for.
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
  // What only the last commit has may still be changed in place: nothing says that it is published.
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
