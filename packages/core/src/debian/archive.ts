import { basename } from 'node:path';
import { HttpStatusError, isUnanswered, UnreachableError } from '../http/errors.ts';
import { archWords, type Arch } from '../model/arch.ts';
import { fetchBlob } from '../store/fetch.ts';
import type { Store } from '../store/store.ts';
import { hasCode, messageOf, UserError } from '../util/errors.ts';
import type { Report } from '../util/events.ts';
import { debianMirror, securityArchive, snapshotArchive, snapshotStamp, trimUrl } from './mirror.ts';
import { parsePackages, sourceFileIn, type DebianPackage, type IndexedPackage, type PinnedPackage } from './packages.ts';
import { ANOTHER_MIRROR, assertNotOlder, readList } from './suite-index.ts';
import { compareDebianVersions } from './version.ts';

/** A package's bytes. */
export interface FetchedPackage {
  readonly file: string;
  /** The fetched package: another version than the pinned one if that has left every archive. */
  readonly package: DebianPackage;
  /** `pinned`, or `unpinned: why`. */
  readonly status: string;
}

/** A suite, a timestamp at which the snapshot archive has the pinned packages, and an architecture. */
interface ToolSource {
  readonly suite: string;
  readonly snapshot: string;
  readonly arch: Arch;
}

/** Where an extension's packages are from. */
interface PackageSource {
  readonly suite: string;
  readonly snapshot?: string;
  readonly arch: Arch;
  /** The command that pins the replacement of a package. */
  readonly repin: string;
}

/** Queries to the Debian archive. */
export interface Archive {
  /** Date of a suite's index, and what it lists for an architecture (`Architecture: all` included), of one component. */
  packages(suite: string, component: string, arch: Arch): Promise<{ date: Date; packages: readonly IndexedPackage[] }>;
  /**
   * Fetches a pinned package of a tool: from the mirror, from the snapshot archive if it has left the mirror, and if neither has it
   * the suite's current version, with a notice and a status that no published image may have. Throws a UserError for wrong bytes.
   */
  fetch(pin: DebianPackage, from: ToolSource): Promise<FetchedPackage>;
  /** The newest packages of a suite with its updates and security updates, and a timestamp at which a snapshot archive has them. */
  newest(suite: string, arch: Arch): Promise<{ snapshot: string; packages: readonly IndexedPackage[] }>;
  /**
   * Fetches a pinned package of an extension by its path: from the mirror, else from the snapshot archive. A package that has left both is not
   * replaced: the error names its current version and the command that pins that.
   */
  fetchPackage(pin: PinnedPackage, from: PackageSource): Promise<string>;
  /** Digest and size of a file of a source package, by its path below the mirror: from the first of the suites that has it. */
  sourceFile(path: string, suites: readonly string[]): Promise<{ sha256: string; size: number; suite: string } | undefined>;
  /** Fetches a pinned file of a source package by its path below the mirror. */
  fetchSource(pin: { path: string; sha256: string; size?: number }): Promise<string>;
}

/** Where an archive is located; for tests and operators. */
export interface ArchiveOptions {
  /** Base URL; debianMirror() by default. */
  readonly mirror?: string;
  /** Base URL of a snapshot archive: `/<timestamp>/<path>` is appended. */
  readonly snapshot?: string;
  /** Armored OpenPGP keys that may sign an index; Debian's own by default. */
  readonly keyring?: string;
}

const isGone = (error: unknown): error is HttpStatusError => error instanceof HttpStatusError && [404, 410].includes(error.status);

/** Suites without updates and security updates of their own: their packages are always the newest, or they are built upon another suite. */
const HAS_NO_UPDATES = /^(?:sid|unstable|experimental|rc-buggy)$|-/;

/** Attempts for a package: there is another place to fetch it from. */
const ATTEMPTS = 3;

class DebianArchive implements Archive {
  private readonly store: Store;
  private readonly report: Report;
  private readonly options: ArchiveOptions;
  private readonly lists = new Map<string, ReturnType<Archive['packages']>>();

  constructor(store: Store, report: Report, options: ArchiveOptions) {
    this.store = store;
    this.report = report;
    this.options = options;
  }

  packages(suite: string, component: string, arch: Arch): ReturnType<Archive['packages']> {
    const key = `${suite} ${component} ${arch}`;
    const reading = this.lists.get(key) ?? this.readPackages(suite, component, arch);
    this.lists.set(key, reading);
    reading.catch(() => this.lists.delete(key));
    return reading;
  }

  async newest(suite: string, arch: Arch): ReturnType<Archive['newest']> {
    const found = new Map<string, IndexedPackage>();
    let date = new Date(0);
    for (const one of [suite, `${suite}-updates`, `${suite}-security`]) {
      const index = await this.packages(one, 'main', arch).catch((error: unknown) => {
        if (one === suite || !isGone(error)) throw error;
        if (!HAS_NO_UPDATES.test(suite)) this.reportMissing(one, error);
      });
      if (index === undefined) continue;
      if (index.date > date) ({ date } = index);
      for (const fresh of index.packages) {
        const known = found.get(fresh.name);
        if (known === undefined || compareDebianVersions(fresh.version, known.version) > 0) found.set(fresh.name, fresh);
      }
    }
    return { snapshot: snapshotStamp(date), packages: [...found.values()] };
  }

  async fetch(pin: DebianPackage, { suite, snapshot, arch }: ToolSource): Promise<FetchedPackage> {
    const pinned = (file: string): FetchedPackage => ({ file, package: pin, status: 'pinned' });
    const kept = await this.store.blob(pin.sha256);
    if (kept !== undefined) return pinned(kept);
    const mirror = await this.mirror();
    try {
      return pinned(await this.fetchFrom(mirror, pin));
    } catch (error) {
      // Not an UnreachableError: a tool that is not available is no reason to build a component from another origin.
      if (error instanceof UnreachableError) throw new UserError(error.message, { where: mirror, next: ANOTHER_MIRROR, cause: error });
      if (!isGone(error)) throw error;
    }
    try {
      return pinned(await this.fetchFrom(`${this.snapshots()}/${snapshot}`, pin));
    } catch (error) {
      // A snapshot archive that does not answer must not stop a build; wrong bytes must.
      if (!isUnanswered(error)) throw error;
    }
    return this.fetchCurrent(pin, { suite, snapshot, arch });
  }

  async fetchPackage(pin: PinnedPackage, { suite, snapshot, arch, repin }: PackageSource): Promise<string> {
    const kept = await this.store.blob(pin.sha256);
    if (kept !== undefined) return kept;
    const { path } = pin;
    const isSecurity = path.startsWith('pool/updates/');
    const archiveOf = (url: string): string => (isSecurity ? securityArchive(url) : url);
    const mirror = archiveOf(await this.mirror());
    const bases = [mirror, ...(snapshot === undefined ? [] : [`${archiveOf(this.snapshots())}/${snapshot}`])];
    for (const base of bases) {
      try {
        return await this.fetchFrom(base, pin);
      } catch (error) {
        // A snapshot archive that does not answer has no other result than one without the package; wrong bytes do.
        if (!(base === mirror ? isGone(error) : isUnanswered(error))) throw error;
      }
    }
    const [name = '', version = ''] = basename(path, '.deb').split('_');
    throw new UserError(
      `${name} ${decodeURIComponent(version)} has left the Debian archive; ${await this.replacementOf(name, suite, arch)}`,
      {
        where: `${mirror}/${path}`,
        next: `pin the current version: ${repin}; or set FLATCAR_EXT_DEBIAN_SNAPSHOT to a snapshot archive that can be reached`,
      },
    );
  }

  async sourceFile(path: string, suites: readonly string[]): ReturnType<Archive['sourceFile']> {
    const [, component = 'main'] = path.split('/');
    const stale: UserError[] = [];
    for (const suite of suites) {
      const index = await this.readSuite(suite, `${component}/source/Sources`).catch((error: unknown) => {
        // Another suite may have the same file, and its path contains its version.
        if (!hasCode(error, 'index-stale')) throw error;
        stale.push(error);
        this.report({ type: 'notice', text: `${error.message} (${error.where ?? suite})` });
      });
      const found = index === undefined ? undefined : sourceFileIn(index.text, path);
      if (found !== undefined) return { ...found, suite };
    }
    const [first] = stale;
    if (first !== undefined) throw first;
    return undefined;
  }

  async fetchSource(pin: { path: string; sha256: string; size?: number }): Promise<string> {
    const kept = await this.store.blob(pin.sha256);
    if (kept !== undefined) return kept;
    const mirror = await this.mirror();
    return this.fetchFrom(mirror, pin).catch((error: unknown) => {
      if (!isGone(error)) throw error;
      throw new UserError(`${pin.path} has left the Debian archive`, {
        where: mirror,
        next: 'set FLATCAR_EXT_DEBIAN_MIRROR to a snapshot archive of a time at which the file existed, or build another version',
        cause: error,
      });
    });
  }

  private async mirror(): Promise<string> {
    return this.options.mirror === undefined ? debianMirror() : trimUrl(this.options.mirror);
  }

  private snapshots(): string {
    return this.options.snapshot ?? snapshotArchive();
  }

  private fetchFrom(base: string, { path, sha256, size }: PinnedPackage): Promise<string> {
    return fetchBlob(this.store, { url: `${base}/${path}`, sha256, size }, { report: this.report, attempts: ATTEMPTS });
  }

  /** One list of a suite, such as `main/source/Sources`. */
  private async readSuite(suite: string, name: string): Promise<{ date: Date; text: string }> {
    const mirror = await this.mirror();
    const archive = suite.endsWith('-security') ? securityArchive(mirror) : mirror;
    return readList(suite, name, { store: this.store, report: this.report, archive, keyring: this.options.keyring });
  }

  private async readPackages(suite: string, component: string, arch: Arch): Promise<{ date: Date; packages: IndexedPackage[] }> {
    const { date, text } = await this.readSuite(suite, `${component}/binary-${archWords(arch).debian}/Packages`);
    return { date, packages: parsePackages(text) };
  }

  /** Reports a mirror without a suite of updates; throws for security updates, whose absence would hide fixes. */
  private reportMissing(suite: string, error: HttpStatusError): void {
    if (suite.endsWith('-security'))
      throw new UserError(`this mirror has no ${suite}`, {
        where: error.where,
        next: 'use a mirror that has debian-security beside debian (FLATCAR_EXT_DEBIAN_MIRROR)',
        cause: error,
      });
    this.report({ type: 'notice', text: `this mirror has no ${suite}: ${error.where ?? ''}` });
  }

  /** What a suite has in place of a package, for errors. */
  private async replacementOf(name: string, suite: string, arch: Arch): Promise<string> {
    try {
      const { packages } = await this.newest(suite, arch);
      const current = packages.find((one) => one.name === name);
      return current === undefined ? `${suite} no longer has ${name}` : `${suite} now has ${current.version}`;
    } catch (error) {
      return `the current packages of ${suite} cannot be read: ${messageOf(error)}`;
    }
  }

  /** The suite's current version of a package that has left every archive. */
  private async fetchCurrent(pin: DebianPackage, { suite, snapshot, arch }: ToolSource): Promise<FetchedPackage> {
    const mirror = await this.mirror();
    const index = await this.packages(suite, pin.path.split('/')[1] ?? 'main', arch);
    // An index from before the pins is an old one that is replayed.
    assertNotOlder(snapshotStamp(index.date), snapshot, suite, mirror);
    const current = index.packages.find(({ name }) => name === pin.name);
    if (current === undefined) {
      throw new UserError(`package ${pin.name} ${pin.version} has left the archive, and ${suite} has no other version`, {
        where: mirror,
        next: 'set FLATCAR_EXT_DEBIAN_SNAPSHOT to a snapshot archive, or pin again with scripts/pin/tools.ts',
      });
    }
    const status = `unpinned: ${pin.name} ${pin.version} has left the archive, ${current.version} replaces it`;
    this.report({
      type: 'notice',
      text: `${status}. WHAT IS MADE WITH IT IS NOT FOR PUBLISHING. Set FLATCAR_EXT_DEBIAN_SNAPSHOT to a snapshot archive, or pin again with scripts/pin/tools.ts`,
    });
    const { name, version, path, sha256, size } = current;
    return { file: await this.fetchFrom(mirror, current), package: { name, version, path, sha256, size }, status };
  }
}

/** Opens the Debian archive; nothing is requested before it is needed. */
export function openArchive(store: Store, report: Report = () => undefined, options: ArchiveOptions = {}): Archive {
  return new DebianArchive(store, report, options);
}
