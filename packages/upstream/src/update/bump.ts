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

/** One version of an extension that is to be pinned. */
export interface Bump {
  readonly extension: string;
  /** The pinned version that it takes the place of; absent for a branch that is new. */
  readonly from?: string;
  readonly version: string;
  /** Packages of Debian that are newer than those that are pinned, where those are why. */
  readonly packages?: readonly PackageChange[];
  /** Versions of coupled components that are said; the newest that fit otherwise. */
  readonly coupled: Readonly<Record<string, string>>;
}

/** Proofs of one component from one kind of origin, of both architectures; `before` is empty where there was none. */
export interface ProofChange {
  readonly component: string;
  readonly origin: string;
  readonly before: readonly string[];
  readonly after: readonly string[];
}

/** What a bump did. */
export interface BumpResult extends Bump {
  readonly pinned: PinResult;
  /** Versions of this extension that are not kept any more. */
  readonly dropped: readonly string[];
  /** What the bytes of each component were checked by before, and are checked by now, by the kind of their origin. */
  readonly proofs: readonly ProofChange[];
  /** As the changelog has it. */
  readonly changes: readonly string[];
  /** Files and folders that changed, or are new. */
  readonly written: readonly string[];
  /** Folders that nothing asks for any more. */
  readonly removed: readonly string[];
}

/** What is to be bumped in an extension, and which of its versions stay. Throws when upstream cannot be asked. */
export async function findBumps(loaded: LoadedExtension, context: UpstreamContext): Promise<{ bumps: Bump[]; keep: string[] }> {
  const { rows, errors } = await findOutdated([loaded], context);
  const [error] = errors;
  if (error !== undefined)
    throw new UserError(`${error.of === 'version' ? '' : `${error.of}: `}${error.error}`, {
      where: `${error.place} (${error.where ?? error.source})`,
      ...(error.next === undefined ? {} : { next: error.next }),
    });
  const extension = loaded.extension.name;
  const leads = rows.filter(({ of }) => of === 'version');
  const bumps = leads.flatMap(({ outdated, current, newest }): Bump[] =>
    outdated && newest !== undefined
      ? [{ extension, version: newest, coupled: {}, ...(current === undefined ? {} : { from: current }) }]
      : [],
  );
  const keep = leads.flatMap(({ newest, current }) => newest ?? current ?? []);
  // Versions that stay get what is coupled to them and the newer packages; those that come get the newest anyway.
  const behind = Map.groupBy(
    rows.filter(({ of, outdated, lead }) => of !== 'version' && outdated && lead !== undefined && keep.includes(lead)),
    ({ lead }) => lead ?? '',
  );
  for (const [version, of] of behind) {
    const packages = of.flatMap((row) => row.packages ?? []);
    const coupled = of.flatMap((row): [string, string][] => (row.packages === undefined && row.newest !== undefined ? [[row.of, row.newest]] : [])); // prettier-ignore
    bumps.push({
      extension,
      from: version,
      version,
      ...(packages.length === 0 ? {} : { packages }),
      coupled: Object.fromEntries(coupled),
    });
  }
  return { bumps, keep };
}

/** The bump to a version that somebody named. Throws where upstream does not offer it. */
export async function bumpTo(
  loaded: LoadedExtension,
  version: string,
  context: UpstreamContext,
): Promise<{ bumps: Bump[]; keep: string[] }> {
  const { extension, pins } = loaded;
  if (!PLAIN_VERSION.test(version))
    throw new UserError(`'${version}' is no version to ship`, { next: 'write it without v; pre-releases are not shipped' });
  const pinned = newestFirst(Object.keys(pins));
  if (pinned.includes(version))
    throw new UserError(`${extension.name} ${version} is pinned already`, {
      where: join(loaded.dir, 'pins.json'),
      next: `flatcar-ext pin ${extension.name}@${version} --revision pins it again`,
    });
  const { name } = extension;
  await assertOffered(extension.versions, version, { name, next: (newest) => `flatcar-ext bump ${name}@${newest}` }, context);
  const parts = branchParts(extension.versions.keep);
  const from = pinned.find((one) => branchOf(one, parts) === branchOf(version, parts));
  return {
    bumps: [{ extension: extension.name, version, coupled: {}, ...(from === undefined ? {} : { from }) }],
    keep: [version, ...pinned.filter((one) => one !== from)],
  };
}

/** Component versions of a pinned version, by name. */
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

/**
 * Pins a version for both architectures, checked by all that upstream offers, and writes the changelog entry. What no kept version
 * needs any more leaves the lock, unless `keepOld`. A version that is pinned already gets `revision`, one more than the pinned one unless specified.
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
      carry: true,
      revision: isSame ? (options.revision ?? true) : undefined,
    },
    context,
  );
  let after = await loadExtension(dir);
  const proven = proofChanges(proofs, await proofsOf(after, bump.version));
  const changes = [
    ...changesOf(was, await versionsOf(after, bump.version)),
    ...(bump.packages ?? []).map(({ name, from, to }) => `${name} ${from} → ${to}`),
  ];
  const changelog = join(dir, 'CHANGELOG.md');
  const text = await readFile(changelog, 'utf8').catch(() => undefined);
  const { revision } = pinned;
  await writeAtomic(
    changelog,
    addChangelogEntry(extension.name, text, {
      version: bump.version,
      revision,
      lines: changes.length === 0 ? ['the same components'] : changes,
    }),
  );
  const dropped = options.keepOld
    ? []
    : Object.keys(after.pins).filter((version) => version !== bump.version && !options.keep.includes(version));
  const pruned = options.keepOld ? { written: [], removed: [] } : await pruneLock(after, dropped);
  after = await loadExtension(dir); // what is left must be whole
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
