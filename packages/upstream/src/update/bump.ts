import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  componentsOf,
  loadExtension,
  locatorsOf,
  newestFirst,
  PLAIN_VERSION,
  UserError,
  writeAtomic,
  type LoadedExtension,
} from '@flatcar/core/engine';
import { addChangelogEntry } from './changelog.ts';
import type { UpstreamContext } from '../context.ts';
import { branchOf, branchParts, findOutdated } from './outdated.ts';
import type { PackageChange } from './newer-packages.ts';
import { pinVersion, type PinResult } from '../pin/pin.ts';
import { pruneLock } from './prune.ts';
import { assertOffered } from '../sources/versions.ts';

/** One version of an extension to pin. */
export interface Bump {
  readonly extension: string;
  /** The pinned version that it replaces; undefined for a new branch. */
  readonly from?: string | undefined;
  readonly version: string;
  /** Debian packages that are newer than the pinned ones, if they are the reason. */
  readonly packages?: readonly PackageChange[] | undefined;
  /** Versions of coupled components; of others, the newest that match. */
  readonly coupled: Readonly<Record<string, string>>;
}

/** Proofs of one component from one kind of origin, for both architectures; `before` is empty if there was none. */
export interface ProofChange {
  readonly component: string;
  readonly origin: string;
  readonly before: readonly string[];
  readonly after: readonly string[];
}

/** The result of a bump. */
export interface BumpResult extends Bump {
  readonly pinned: PinResult;
  /** Versions of this extension that were removed. */
  readonly dropped: readonly string[];
  /** The proofs of each component before and after, by the kind of its origin. */
  readonly proofs: readonly ProofChange[];
  /** The lines of the changelog entry. */
  readonly changes: readonly string[];
  /** Files and folders that are new or changed. */
  readonly written: readonly string[];
  /** Folders that were removed, because nothing uses them. */
  readonly removed: readonly string[];
}

/** What to bump in an extension, and which of its versions to keep. Throws a UserError if upstream does not answer. */
export async function findBumps(loaded: LoadedExtension, context: UpstreamContext): Promise<{ bumps: Bump[]; keep: string[] }> {
  const { rows, errors } = await findOutdated([loaded], context);
  const [error] = errors;
  if (error !== undefined)
    throw new UserError(`${error.of === 'version' ? '' : `${error.of}: `}${error.error}`, {
      where: `${error.place} (${error.where ?? error.source})`,
      next: error.next,
    });
  const extension = loaded.extension.name;
  const leads = rows.filter(({ of }) => of === 'version');
  const bumps = leads.flatMap(({ outdated, current, newest }): Bump[] =>
    outdated && newest !== undefined ? [{ extension, version: newest, coupled: {}, from: current }] : [],
  );
  const keep = leads.flatMap(({ newest, current }) => newest ?? current ?? []);
  // Kept versions get newer packages and coupled components; new versions get the newest ones anyway.
  const behind = Map.groupBy(
    rows.filter(({ of, outdated, lead }) => of !== 'version' && outdated && lead !== undefined && keep.includes(lead)),
    ({ lead }) => lead ?? '',
  );
  for (const [version, of] of behind) {
    const packages = of.flatMap((row) => row.packages ?? []);
    const coupled = of.flatMap((row): [string, string][] =>
      row.packages === undefined && row.newest !== undefined ? [[row.of, row.newest]] : [],
    );
    bumps.push({
      extension,
      from: version,
      version,
      packages: packages.length === 0 ? undefined : packages,
      coupled: Object.fromEntries(coupled),
    });
  }
  return { bumps, keep };
}

/** The bump to a given version. Throws a UserError if upstream does not offer it. */
export async function bumpTo(
  loaded: LoadedExtension,
  version: string,
  context: UpstreamContext,
): Promise<{ bumps: Bump[]; keep: string[] }> {
  const { extension, pins } = loaded;
  if (!PLAIN_VERSION.test(version))
    throw new UserError(`'${version}' is not a valid version`, { next: 'write it without v; pre-releases are not shipped' });
  const pinned = newestFirst(Object.keys(pins));
  if (pinned.includes(version))
    throw new UserError(`${extension.name} ${version} is already pinned`, {
      where: join(loaded.dir, 'pins.json'),
      next: `to pin it again, run flatcar-ext pin ${extension.name}@${version} --revision`,
    });
  const { name } = extension;
  await assertOffered(extension.versions, version, { name, next: (newest) => `run flatcar-ext bump ${name}@${newest}` }, context);
  const parts = branchParts(extension.versions.track);
  const from = pinned.find((one) => branchOf(one, parts) === branchOf(version, parts));
  return {
    bumps: [{ extension: extension.name, version, coupled: {}, from }],
    keep: [version, ...pinned.filter((one) => one !== from)],
  };
}

/** Versions of the components of a pinned version, by name. */
async function versionsOf(loaded: LoadedExtension, version: string): Promise<Map<string, string>> {
  const { components } = await componentsOf(loaded, version);
  return new Map(
    components
      .filter(({ component }) => component.origins.some(({ kind }) => kind !== 'files'))
      .map(({ component }) => [component.name, component.version]),
  );
}

/** Proofs of a version's components by `component origin`. */
async function proofsOf(loaded: LoadedExtension, version: string): Promise<Map<string, string[]>> {
  const { components } = await componentsOf(loaded, version);
  const found = components.flatMap(({ component, pin }) =>
    component.origins.map((origin): [string, string[]] => {
      const proofs = locatorsOf(origin, { component, pin }).flatMap((locator) => pin.bytes[locator]?.proof ?? []);
      return [`${component.name} ${origin.kind}`, [...new Set(proofs)].toSorted()];
    }),
  );
  return new Map(found.filter(([, proofs]) => proofs.length > 0));
}

function proofChanges(before: ReadonlyMap<string, string[]>, after: ReadonlyMap<string, string[]>): ProofChange[] {
  return [...after].map(([key, proofs]) => {
    const [component = '', origin = ''] = key.split(' ');
    return { component, origin, before: before.get(key) ?? [], after: proofs };
  });
}

function changesOf(before: ReadonlyMap<string, string> | undefined, after: ReadonlyMap<string, string>): string[] {
  if (before === undefined) return [...after].map(([name, version]) => `${name} ${version}`);
  const changed = [...after].flatMap(([name, version]) => {
    const was = before.get(name);
    return was === version ? [] : [was === undefined ? `${name} ${version}, new in the image` : `${name} ${was} → ${version}`];
  });
  return [...changed, ...[...before.keys()].filter((name) => !after.has(name)).map((name) => `without ${name}`)];
}

/** Adds the changes of a pinned version to the changelog, and returns its path. */
async function writeChangelog(dir: string, name: string, { version, revision }: PinResult, changes: readonly string[]): Promise<string> {
  const file = join(dir, 'CHANGELOG.md');
  const text = await readFile(file, 'utf8').catch(() => undefined);
  const lines = changes.length === 0 ? ['the same components'] : changes;
  await writeAtomic(file, addChangelogEntry(name, text, { version, revision, lines }));
  return file;
}

/**
 * Pins a version for both architectures, checked by all that upstream publishes, and writes the changelog entry. Removes what no kept version
 * uses from the lock, unless `keepOld`. A version that is already pinned gets `revision`, by default one more than the pinned one.
 */
export async function applyBump(
  dir: string,
  bump: Bump,
  options: { readonly keep: readonly string[]; readonly keepOld: boolean; readonly revision?: number },
  context: UpstreamContext,
): Promise<BumpResult> {
  const before = await loadExtension(dir);
  const { extension } = before;
  const was = bump.from === undefined ? undefined : await versionsOf(before, bump.from);
  const proofs = bump.from === undefined ? new Map<string, string[]>() : await proofsOf(before, bump.from);
  const isSame = bump.from === bump.version;
  const pinned = await pinVersion(
    {
      dir,
      extension,
      version: bump.version,
      coupled: bump.coupled,
      reusePins: true,
      revision: isSame ? (options.revision ?? true) : undefined,
    },
    context,
  );
  const after = await loadExtension(dir);
  const proven = proofChanges(proofs, await proofsOf(after, bump.version));
  const changes = [
    ...changesOf(was, await versionsOf(after, bump.version)),
    ...(bump.packages ?? []).map(({ name, from, to }) => `${name} ${from} → ${to}`),
  ];
  const changelog = await writeChangelog(dir, extension.name, pinned, changes);
  const dropped = options.keepOld
    ? []
    : Object.keys(after.pins).filter((version) => version !== bump.version && !options.keep.includes(version));
  const pruned = options.keepOld ? { written: [], removed: [] } : await pruneLock(after, dropped);
  await loadExtension(dir); // throws if what is left is not complete
  return {
    ...bump,
    pinned,
    proofs: proven,
    dropped,
    changes,
    written: [...new Set([...pinned.written, ...pruned.written, changelog])],
    removed: pruned.removed,
  };
}
