import { copyFile, mkdir, readFile, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import {
  AnswerError,
  ARCHES,
  cargoHomeOf,
  debianMirror,
  downloadCrate,
  fillWords,
  goSumDigest,
  isPackageLocator,
  locatorOf,
  mainPackages,
  newestFirst,
  openArchive,
  openCargo,
  openGo,
  pinGo,
  readPins,
  resolvePackages,
  UnreachableError,
  UserError,
  UserErrors,
  wrapperDir,
  writeAtomic,
  type Arch,
  type Component,
  type DebianOrigin,
  type Extension,
  type GoOrigin,
  type Origin,
  type PinnedVersion,
  type Pins,
} from '@flatcar/core';
import { once, type UpstreamContext } from './context.ts';
import { licenseOf } from './github.ts';
import { FIRST_DOWNLOAD } from './proof.ts';
import { fetchVerified } from './verify.ts';
import { keptVersions } from './versions.ts';

type Bytes = PinnedVersion['bytes'][string];

/** Where sources are looked for, one after another. */
const SOURCE_SUITES = ['sid', 'trixie'];

/** What is to be pinned. */
export interface PinRequest {
  /** Folder of the extension. */
  readonly dir: string;
  readonly extension: Extension;
  /** The lead component's version. */
  readonly version: string;
  /** Versions of coupled components; those that are pinned, else the newest that the definition keeps, unless said. */
  readonly coupled?: Readonly<Record<string, string>>;
  /** SPDX expressions by component; those that are pinned, else what GitHub says, unless said. */
  readonly licenses?: Readonly<Record<string, string>>;
  /** Asks a person for a component's licence that neither is known nor could be found; without it that is an error. */
  readonly askLicense?: (component: string) => Promise<string>;
  /** Raises the revision: for other packaging, bytes or coupled versions under a version that is pinned. */
  readonly revision?: boolean;
  /** Bytes that the lock has pinned, under this version or another, stay as they are: only what changed is asked for. */
  readonly carry?: boolean;
}

/** What became of one set of bytes. */
export interface PinnedLine {
  readonly locator: string;
  readonly component: string;
  readonly sha256: string;
  readonly proof: string;
  /** `kept`: its host cannot be reached, and the pin stands as it was; `carried`: as another version has it. */
  readonly change: 'new' | 'same' | 'other' | 'kept' | 'carried';
}

/** What was pinned. */
export interface PinResult {
  readonly extension: string;
  readonly version: string;
  readonly revision: number;
  readonly with: Readonly<Record<string, string>>;
  readonly lines: readonly PinnedLine[];
  /** Files that were written; none when nothing changed. */
  readonly written: readonly string[];
}

/** One lock file and the entry of it that is made: the extension's own, or one that it shares with others. */
interface Lock {
  readonly dir: string;
  readonly file: string;
  readonly text: string | undefined;
  readonly pins: Pins;
  /** Key of the entry. */
  readonly version: string;
  readonly shared: boolean;
  readonly components: Component[];
}

/** Bytes that one or several components of a lock come from. */
interface Wanted {
  readonly locator: string;
  readonly lock: Lock;
  readonly component: Component;
  readonly origin: Origin;
  readonly arch: Arch;
  /** Of Go modules: what all components take of them. */
  readonly packages: readonly string[];
}

/** A wrapper module that waits to be put in its place. */
interface Wrapper {
  readonly from: string;
  readonly to: string;
}

const same = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);

async function openLock(dir: string, version: string, shared: boolean): Promise<Lock> {
  const file = join(dir, 'pins.json');
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  return { dir, file, text, pins: text === undefined ? {} : readPins(text, file), version, shared, components: [] };
}

async function coupledVersions(
  request: PinRequest,
  pinned: PinnedVersion | undefined,
  context: UpstreamContext,
): Promise<Record<string, string>> {
  const { extension, version, coupled = {} } = request;
  const unknown = Object.keys(coupled).find((name) => !(name in extension.coupled));
  if (unknown !== undefined)
    throw new UserError(`'${unknown}' is not coupled to ${extension.name}`, { next: `coupled are: ${Object.keys(extension.coupled).join(', ') || 'none'}` }); // prettier-ignore
  const entries = Object.entries(extension.coupled).map(async ([name, source]): Promise<[string, string]> => {
    const known = coupled[name] ?? pinned?.with[name];
    if (known !== undefined) return [name, known];
    const [newest] = await keptVersions(source, context, version).catch((cause: unknown) => {
      if (!(cause instanceof UserError)) throw cause;
      throw new UserError(`the version of '${name}' is not known: ${cause.message}`, {
        ...(cause.where === undefined ? {} : { where: cause.where }),
        next: `say it: --coupled ${name}=VERSION`,
        cause,
      });
    });
    if (newest === undefined)
      throw new UserError(`upstream has no version of '${name}' that fits`, {
        where: source.at,
        next: `say it: --coupled ${name}=VERSION`,
      });
    return [name, newest];
  });
  return Object.fromEntries(await Promise.all(entries));
}

/** The extension's own lock first, then those that it shares. */
async function locksOf(request: PinRequest, own: Lock, versions: Readonly<Record<string, string>>): Promise<Lock[]> {
  const locks = [own];
  for (const component of request.extension.components({ ...versions, version: request.version })) {
    if (component.origins.every(({ kind }) => kind === 'files')) continue;
    const { lock: dir, version } = component;
    let lock = dir === undefined ? own : locks.find((one) => one.shared && one.dir === dir && one.version === version);
    if (lock === undefined && dir !== undefined) locks.push((lock = await openLock(dir, version, true)));
    lock?.components.push(component);
  }
  return locks;
}

/** All bytes that a lock's components can come from, in the order of the definition. */
function wantedOf(lock: Lock): Wanted[] {
  const wanted = new Map<string, Wanted>();
  for (const component of lock.components) {
    for (const origin of component.origins) {
      for (const arch of ARCHES) {
        const locator = locatorOf(origin, component, arch);
        if (locator === undefined) continue;
        const packages = origin.kind === 'go' ? origin.packages : [];
        const known = wanted.get(locator);
        wanted.set(locator, {
          ...(known ?? { locator, lock, component, origin, arch }),
          packages: [...new Set([...(known?.packages ?? []), ...packages])],
        });
      }
    }
  }
  return [...wanted.values()];
}

/**
 * A Go module's pin is the digest of its wrapper's go.sum. A wrapper that is pinned and has all programs stays (what nobody has a
 * version of would be resolved otherwise tomorrow); any other is written into a temporary folder.
 */
async function pinGoModule(
  origin: GoOrigin,
  { component, packages, lock, locator }: Wanted,
  temp: string,
  again: boolean,
  wrappers: Wrapper[],
  context: UpstreamContext,
): Promise<Bytes> {
  const { store, tools, report } = context;
  const proof = 'Go checksum database';
  const version = origin.version ?? component.version;
  const to = wrapperDir(lock.dir, origin.module, version);
  const go = await once(context, 'go', () => openGo(store, tools, report));
  report({ type: 'step', text: `resolving the modules of ${origin.module} ${version}` });
  const is = await goSumDigest(to).catch(() => undefined);
  if (!again && is !== undefined && is === lock.pins[lock.version]?.bytes[locator]?.sha256) {
    const complete = await mainPackages(go, to, origin.module, packages).then(
      () => true,
      () => false,
    );
    if (complete) {
      await go.online(['mod', 'download'], { cwd: to });
      return { sha256: is, proof };
    }
  }
  const from = join(temp, String(wrappers.length));
  wrappers.push({ from, to });
  const [major = '', minor = '', patch = ''] = version.split('.');
  const local = origin.local === undefined ? undefined : fillWords(origin.local, { version, major, minor, patch });
  await pinGo(go, from, origin.module, version, packages, () => local);
  return { sha256: await goSumDigest(from), proof };
}

/** Finds out what the bytes must be, from upstream itself. */
async function pinOne(wanted: Wanted, temp: string, again: boolean, wrappers: Wrapper[], context: UpstreamContext): Promise<Bytes> {
  const { origin, component, arch, lock, locator } = wanted;
  const { store, toolchains, signal } = context;
  switch (origin.kind) {
    case 'release': {
      const { sha256, size, proof } = await fetchVerified(origin, component, arch, lock.dir, context);
      return { sha256, size, proof };
    }
    case 'go':
      return pinGoModule(origin, wanted, temp, again, wrappers, context);
    case 'cargo': {
      const cargo = await openCargo((await toolchains.rust()).bin, cargoHomeOf(store), signal === undefined ? {} : { signal });
      const crate = join(temp, `${origin.crate}.crate`);
      await copyFile(await downloadCrate(cargo, origin.crate, component.version), crate);
      const { sha256, size } = await store.keep(crate);
      return { sha256, size, proof: 'crates registry index' };
    }
    case 'source': {
      const archive = openArchive(store, context.report);
      const path = locator.replace(/^debian:/, '');
      const found = await archive.sourceFile(path, SOURCE_SUITES);
      if (found === undefined)
        throw new UserError(`Debian's ${SOURCE_SUITES.join(' and ')} have no ${path}`, {
          where: await debianMirror(),
          next: 'pin a version that Debian has, and look for its path on the mirror',
        });
      const { sha256, size } = found;
      await archive.fetchSource({ path, sha256, size }).catch((error: unknown) => {
        // The archive keeps an index for a while longer than what it lists.
        const isGone = error instanceof UserError && error.cause instanceof AnswerError;
        if (!isGone || lock.pins[lock.version]?.bytes[locator]?.sha256 !== sha256) throw error;
        context.report({ type: 'notice', text: `${locator}: ${error.message}, but its index still has the digest that is pinned` });
      });
      return { sha256, size, proof: 'Debian archive index, signed by the archive key' };
    }
    case 'debian':
      throw new Error('packages are pinned together: pinPackages');
    case 'files':
      throw new Error('files of this repository are not pinned');
  }
}

/** What a component's packages are now, for one architecture; asked for once. */
function packagesNow(origin: DebianOrigin, component: Component, arch: Arch, context: UpstreamContext): ReturnType<typeof resolvePackages> {
  const { store, report } = context;
  return once(context, `packages ${component.name} ${component.version} ${arch}`, async () => {
    const archive = await once(context, 'archive', () => Promise.resolve(openArchive(store, report)));
    report({ type: 'step', text: `resolving the packages of ${component.name} for ${arch}` });
    return resolvePackages(origin, component, arch, { store, archive });
  });
}

type Line = PinnedLine & { bytes: Bytes };

/** The packages of a lock's component, with all that they need: those of both architectures together, as `all` belongs to both. */
async function pinPackages(lock: Lock, revision: boolean, context: UpstreamContext): Promise<{ lines: Line[]; snapshot?: string }> {
  const found = lock.components.flatMap((component) =>
    component.origins.flatMap((origin) => (origin.kind === 'debian' ? [{ component, origin }] : [])),
  );
  const [first, second] = found;
  if (first === undefined) return { lines: [] };
  if (second !== undefined)
    throw new UserError(`both '${first.component.name}' and '${second.component.name}' are made of packages`, {
      where: lock.file,
      next: 'give one of them a lock of its own, or make them one component',
    });
  const { component, origin } = first;
  const pinned = lock.pins[lock.version];
  const before = new Map(Object.entries(pinned?.bytes ?? {}).filter(([locator]) => isPackageLocator(locator)));
  const line = (locator: string, bytes: Bytes, change: PinnedLine['change']): Line => {
    const { sha256, proof } = bytes;
    return { locator, component: component.name, sha256, proof, change, bytes };
  };
  const kept = pinned?.snapshot === undefined ? {} : { snapshot: pinned.snapshot };
  let snapshot = '';
  const bytes = new Map<string, Bytes>();
  try {
    for (const arch of ARCHES) {
      const now = await packagesNow(origin, component, arch, context);
      if (now.snapshot > snapshot) ({ snapshot } = now);
      for (const { locator, sha256, size, proof } of now.packages) bytes.set(locator, { sha256, size, proof });
    }
  } catch (error) {
    if (!(error instanceof UnreachableError) || before.size === 0) throw error;
    context.report({ type: 'notice', text: `${component.name}: ${error.message}; its packages stay as they were, UNCHECKED` });
    return { lines: [...before].map(([locator, one]) => line(locator, one, 'kept')), ...kept };
  }
  const fresh = [...bytes.keys()].filter((locator) => before.get(locator)?.sha256 !== bytes.get(locator)?.sha256);
  const gone = [...before.keys()].filter((locator) => !bytes.has(locator));
  if (before.size > 0 && fresh.length + gone.length > 0 && !revision)
    throw new UserError(
      `${component.name} ${component.version} is pinned with other packages; the archive has ${fresh.map((one) => basename(one, '.deb')).join(', ') || 'fewer'} now`,
      { where: lock.file, next: '--revision pins these under a higher revision' },
    );
  const lines = [...bytes].map(([locator, one]) =>
    line(locator, one, fresh.includes(locator) ? (before.size > 0 ? 'other' : 'new') : 'same'),
  );
  return { lines, ...(fresh.length + gone.length === 0 ? kept : { snapshot }) };
}

/** Asks for one set of bytes and compares it with the pin that is there. */
async function settle(
  wanted: Wanted,
  { revision = false, carry = false }: PinRequest,
  pin: () => Promise<Bytes>,
  context: UpstreamContext,
): Promise<PinnedLine & { bytes: Bytes }> {
  const { locator, component, lock } = wanted;
  const before = lock.pins[lock.version]?.bytes[locator];
  const carried = carry ? Object.values(lock.pins).find(({ bytes }) => bytes[locator] !== undefined)?.bytes[locator] : undefined;
  if (carried !== undefined)
    return { locator, component: component.name, sha256: carried.sha256, proof: carried.proof, change: 'carried', bytes: carried };
  let bytes: Bytes;
  try {
    bytes = await pin();
  } catch (error) {
    if (!(error instanceof UnreachableError)) throw error;
    if (before === undefined)
      throw new UserError(`${component.name} ${component.version} cannot be pinned: ${error.message}`, {
        where: locator,
        ...(error.next === undefined ? {} : { next: error.next }),
        cause: error,
      });
    context.report({ type: 'notice', text: `${locator}: ${error.message}; its pin stays as it was, UNCHECKED (${before.proof})` });
    return { locator, component: component.name, sha256: before.sha256, proof: before.proof, change: 'kept', bytes: before };
  }
  const change = before === undefined ? 'new' : before.sha256 === bytes.sha256 ? 'same' : 'other';
  if (change === 'other' && !revision)
    throw new UserError(`${component.name} ${component.version} was pinned as ${before?.sha256}, and is ${bytes.sha256} now`, {
      where: locator,
      next: 'find out why before anything else; if the new bytes are right, --revision pins them under a higher revision',
    });
  // That the same bytes came once more says less than what somebody else found out about them.
  if (change === 'same' && bytes.proof === FIRST_DOWNLOAD && before !== undefined) bytes = { ...bytes, proof: before.proof };
  return { locator, component: component.name, sha256: bytes.sha256, proof: bytes.proof, change, bytes };
}

async function licenses(lock: Lock, request: PinRequest, context: UpstreamContext): Promise<Record<string, string>> {
  const known = [lock.version, ...newestFirst(Object.keys(lock.pins))].map((version) => lock.pins[version]?.licenses ?? {});
  const entries = lock.components.map(async ({ name, origins }): Promise<[string, string]> => {
    const given = request.licenses?.[name] ?? known.find((one) => one[name] !== undefined)?.[name];
    if (given !== undefined) return [name, given];
    const repo = origins.map((one) => (one.kind === 'release' ? /^https:\/\/github\.com\/([^/]+\/[^/]+)\//.exec(one.url)?.[1] : undefined)).find((one) => one !== undefined); // prettier-ignore
    const packaged = origins.find((one) => one.kind === 'debian');
    const found =
      packaged !== undefined
        ? await licenseOfPackages(packaged, lock.components.find((one) => one.name === name), context)
        : repo === undefined ? undefined : await once(context, `license ${repo}`, () => licenseOf(repo, context)); // prettier-ignore
    if (found === undefined && request.askLicense !== undefined) return [name, await request.askLicense(name)];
    if (found === undefined)
      throw new UserError(`the licence of ${name} is not known`, { where: lock.file, next: `say it: --license ${name}=SPDX-EXPRESSION` });
    return [name, found];
  });
  return Object.fromEntries(await Promise.all(entries));
}

/** Licences of the packages that a definition names, where their copyright files tell them in a machine's words. */
async function licenseOfPackages(
  origin: DebianOrigin,
  component: Component | undefined,
  context: UpstreamContext,
): Promise<string | undefined> {
  if (component === undefined) return undefined;
  const { licenses: found } = await packagesNow(origin, component, 'x86-64', context);
  const parts = new Set(found.flatMap((one) => one.split(' AND ')));
  return parts.size === 0 ? undefined : [...parts].toSorted().join(' AND ');
}

/** All errors together; what is no UserError at once. */
async function settled<T>(jobs: readonly Promise<T>[], what: string): Promise<T[]> {
  const results = await Promise.allSettled(jobs);
  const errors = results.flatMap((one) => (one.status === 'rejected' ? [one.reason as unknown] : []));
  const [first] = errors;
  if (errors.length === 1 || errors.some((error) => !(error instanceof UserError))) throw first;
  if (errors.length > 1) throw new UserErrors(`${errors.length} ${what}; nothing was written`, errors as UserError[]);
  return results.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
}

/** An entry as it is written. */
type Written = Omit<PinnedVersion, 'with'> & Partial<Pick<PinnedVersion, 'with'>>;

/** The text of a lock file: versions newest first, what is below in the order of the definition; other versions as they were written. */
function textOf({ text }: Lock, version: string, entry: Written): string {
  const { $schema, ...others } = (text === undefined ? {} : JSON.parse(text)) as Record<string, unknown>;
  const all: Record<string, unknown> = { ...others, [version]: entry };
  const sorted = Object.fromEntries(newestFirst(Object.keys(all)).map((key) => [key, all[key]]));
  return `${JSON.stringify({ ...($schema === undefined ? {} : { $schema }), ...sorted }, undefined, 2)}\n`;
}

function entryOf(
  lock: Lock,
  request: PinRequest,
  versions: Readonly<Record<string, string>>,
  lines: readonly { locator: string; bytes: Bytes }[],
  found: Readonly<Record<string, string>>,
  snapshot: string | undefined,
): Written {
  const pinned = lock.pins[lock.version];
  // Packages are pinned anew all together.
  const before = pinned === undefined ? undefined : { ...pinned, bytes: Object.fromEntries(Object.entries(pinned.bytes).filter(([locator]) => !isPackageLocator(locator))) }; // prettier-ignore
  const bytes = Object.fromEntries(lines.map((line) => [line.locator, line.bytes]));
  // Of a lock that is shared, the rest may be of other extensions.
  const others = <T>(map: Readonly<Record<string, T>> | undefined, own: Readonly<Record<string, T>>): Record<string, T> => ({ ...(lock.shared ? map : {}), ...own }); // prettier-ignore
  return {
    revision: before === undefined ? 0 : before.revision + (request.revision === true && !lock.shared ? 1 : 0),
    ...(Object.keys(versions).length === 0 ? {} : { with: { ...versions } }),
    licenses: others(before?.licenses, found),
    ...(snapshot === undefined ? {} : { snapshot }),
    bytes: others(before?.bytes, bytes),
  };
}

/** go.mod and go.sum of a wrapper module; undefined where there is none. */
async function wrapperText(dir: string): Promise<string | undefined> {
  const files = ['go.mod', 'go.sum'].map((name) => readFile(join(dir, name), 'utf8'));
  return Promise.all(files).then(
    (texts) => texts.join(),
    () => undefined,
  );
}

/** Puts a wrapper module in the place of an older one: as a whole, by a rename in the same folder. */
async function place({ from, to }: Wrapper): Promise<void> {
  const fresh = `${to}.new`;
  await rm(fresh, { recursive: true, force: true });
  await mkdir(fresh, { recursive: true });
  for (const name of ['go.mod', 'go.sum']) await copyFile(join(from, name), join(fresh, name));
  await rm(to, { recursive: true, force: true });
  await mkdir(dirname(to), { recursive: true });
  await rename(fresh, to);
}

/**
 * Pins one version of an extension for both architectures: everything is downloaded into the store and checked by all that upstream
 * publishes, Go modules are resolved into wrapper modules, and only when nothing failed are the lock files written.
 * A pin whose host cannot be reached stays as it is, with a notice. All errors are shown together.
 */
export async function pinVersion(request: PinRequest, context: UpstreamContext): Promise<PinResult> {
  // Locks may be shared, and are read before they are written.
  return context.store.lock('pin', () => pinAlone(request, context), context.signal);
}

async function pinAlone(request: PinRequest, context: UpstreamContext): Promise<PinResult> {
  const { extension, version, dir } = request;
  const own = await openLock(dir, version, false);
  const before = own.pins[version];
  const versions = await coupledVersions(request, before, context);
  if (before !== undefined && !same(before.with, versions) && request.revision !== true)
    throw new UserError(`${extension.name} ${version} is pinned with other versions: ${JSON.stringify(before.with)}`, {
      where: own.file,
      next: '--revision pins these under a higher revision',
    });
  const locks = await locksOf(request, own, versions);
  return context.store.withTemp(async (temp) => {
    const wrappers: Wrapper[] = [];
    const jobs = locks.flatMap((lock) =>
      wantedOf(lock).map(async (wanted) => ({
        lock,
        ...(await settle(wanted, request, () => pinOne(wanted, temp, request.revision === true, wrappers, context), context)),
      })),
    );
    const packages = settled(locks.map((lock) => pinPackages(lock, request.revision === true, context)), 'locks of packages could not be pinned'); // prettier-ignore
    packages.catch(() => undefined); // awaited below, after what is told first
    const single = await settled(jobs, 'things could not be pinned');
    const ofPackages = await packages;
    const lines = [...single, ...locks.flatMap((lock, index) => (ofPackages[index]?.lines ?? []).map((line) => ({ lock, ...line })))];
    const found = await settled(locks.map((lock) => licenses(lock, request, context)), 'licences are not known'); // prettier-ignore
    const written: string[] = [];
    for (const { from, to } of wrappers) {
      const [fresh, there] = await Promise.all([from, to].map(wrapperText));
      if (fresh === undefined || fresh === there) continue; // a proxy that did not answer left none
      await place({ from, to });
      written.push(to);
    }
    let revision = 0;
    for (const [index, lock] of locks.entries()) {
      const entry = entryOf(lock, request, lock.shared ? {} : versions, lines.filter((line) => line.lock === lock), found[index] ?? {}, ofPackages[index]?.snapshot); // prettier-ignore
      if (!lock.shared) ({ revision } = entry);
      const text = textOf(lock, lock.version, entry);
      if (text === lock.text) continue;
      if (lock.shared && lines.some((line) => line.lock === lock && line.change === 'other'))
        context.report({
          type: 'notice',
          text: `${lock.file} is shared: the other extensions that read it need a higher revision as well`,
        });
      await mkdir(lock.dir, { recursive: true });
      await writeAtomic(lock.file, text);
      written.push(lock.file);
    }
    const shown = lines.map(({ locator, component, sha256, proof, change }) => ({ locator, component, sha256, proof, change }));
    return { extension: extension.name, version, revision, with: versions, lines: shown, written };
  });
}
