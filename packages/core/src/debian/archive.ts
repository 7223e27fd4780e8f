import { readdir, readFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Arch, archWords } from '../model/arch.ts';
import { clockProblem } from '../util/clock.ts';
import { compareDebianVersions } from './version.ts';
import { parseDependencies, parseProvides, type Provided, type Relation } from './dependencies.ts';
import { envOf } from '../util/env.ts';
import { messageOf, UserError } from '../util/errors.ts';
import { readControlFiles } from '../archives/deb.ts';
import { fetchBlob } from '../store/fetch.ts';
import { getText } from '../http/client.ts';
import { HttpError, HttpStatusError, isNetworkFailure, isUnanswered, UnreachableError } from '../http/errors.ts';
import { judgeSignatures } from './openpgp.ts';
import type { Store } from '../store/store.ts';
import type { Report } from '../util/events.ts';
import { readCompressed } from '../store/unpack.ts';

/** A binary package, as it is pinned. */
export interface DebianPackage {
  readonly name: string;
  readonly version: string;
  /** Path below the mirror: `pool/main/s/…deb`. */
  readonly path: string;
  readonly sha256: string;
  /** In bytes. */
  readonly size: number;
}

/** A binary package, as an index of the archive has it. */
export interface IndexedPackage extends DebianPackage {
  /** Source package. */
  readonly source: string;
  /** Pre-Depends and Depends: one of each list is needed. */
  readonly depends: readonly (readonly Relation[])[];
  /** Other packages that it stands for. */
  readonly provides: readonly Provided[];
}

/** A binary package, as an extension pins it. */
export interface PinnedPackage {
  /** Path below the mirror; security updates are below `pool/updates/`, on a mirror of their own. */
  readonly path: string;
  readonly sha256: string;
  readonly size?: number;
}

/** A package's bytes. */
export interface FetchedPackage {
  readonly file: string;
  /** What it turned out to be: not what was pinned, when that has left every archive. */
  readonly package: DebianPackage;
  /** `pinned`, or `unpinned: why`. */
  readonly status: string;
}

/** What is asked of the Debian archive. */
export interface Archive {
  /** Date of a suite's index, and what it lists for an architecture (`Architecture: all` included), of one component. */
  packages(suite: string, component: string, arch: Arch): Promise<{ date: Date; packages: readonly IndexedPackage[] }>;
  /**
   * Fetches a pinned package: from the mirror, when it has left that from the snapshot archive, when it is not there either
   * the suite's current version, with a notice and a status that no published image may have. Wrong bytes are an error.
   */
  fetch(pin: DebianPackage, at: { suite: string; snapshot: string; arch: Arch }): Promise<FetchedPackage>;
  /** The newest packages of a suite with its updates and security updates, and a timestamp at which a snapshot archive has them. */
  newest(suite: string, arch: Arch): Promise<{ snapshot: string; packages: readonly IndexedPackage[] }>;
  /**
   * Fetches a pinned package by its path: from the mirror, else from the snapshot archive. Nothing stands in for what is gone:
   * the error names its replacement, and `repin`, the command that takes that.
   */
  fetchPackage(pin: PinnedPackage, at: { suite: string; snapshot?: string; arch: Arch; repin: string }): Promise<string>;
  /** Digest and size of a file of a source package, by its path below the mirror: from the first of the suites that has it. */
  sourceFile(path: string, suites: readonly string[]): Promise<{ sha256: string; size: number; suite: string } | undefined>;
  /** Fetches a pinned file of a source package by its path below the mirror. */
  fetchSource(pin: { path: string; sha256: string; size?: number }): Promise<string>;
}

/** Where an archive stands; for tests and operators. */
export interface ArchiveOptions {
  /** Base URL; debianMirror() unless said. */
  readonly mirror?: string;
  /** Base URL of a snapshot archive: `/<timestamp>/<path>` is appended. */
  readonly snapshot?: string;
  /** Armored OpenPGP keys that may sign an index; Debian's own unless said. */
  readonly keyring?: string;
}

/** The keys of Debian's archive, armored: in this repository, for hosts that have none or old ones. */
export const DEBIAN_KEYRING = fileURLToPath(new URL('data/debian-archive-keyring.asc', import.meta.url));

const trim = (url: string): string => url.replace(/\/+$/, '');
/** Security updates have an archive of their own beside Debian's, on mirrors as on the snapshot archive: `/debian-security`. */
const beside = (url: string, isSecurity: boolean): string => (isSecurity ? url.replace(/(?:\/\d{8}T\d{6}Z)?$/, '-security$&') : url);
const isGone = (error: unknown): boolean => error instanceof HttpStatusError && [404, 410].includes(error.status);
const textOf = (path: string): Promise<string> => readFile(path, 'utf8').catch(() => '');

/** Reads paragraphs of `Key: value`, where folded lines begin with a space (deb822(5)). */
function paragraphs(text: string): Map<string, string>[] {
  return text
    .split(/\n(?:[ \t]*\n)+/)
    .map(
      (paragraph) =>
        new Map([...paragraph.matchAll(/^([\w-]+):[ \t]*(.*(?:\n[ \t].*)*)/gm)].map(([, key = '', value = '']) => [key, value])),
    )
    .filter(({ size }) => size > 0);
}

const words = (text = ''): string[] => text.split(/\s+/).filter((word) => word !== '');

/** An entry of apt's sources for binary packages. */
export interface AptSource {
  readonly uris: readonly string[];
  readonly suites: readonly string[];
  readonly components: readonly string[];
  /** Key file or fingerprint of `Signed-By`; empty unless specified, and for a key that is embedded. */
  readonly signedBy: string;
}

/** Reads the entries for binary packages of one of apt's source files, of either form (sources.list(5)); disabled entries are left out. */
export function parseSources(name: string, text: string): AptSource[] {
  const plain = text.replaceAll(/^[ \t]*#.*\n?/gm, '');
  if (name.endsWith('.sources')) {
    return paragraphs(plain)
      .map((entry) => new Map([...entry].map(([key, value]) => [key.toLowerCase(), value])))
      .filter(
        (entry) => words(entry.get('types')).includes('deb') && !/^(no|false|without|off|disable|0)$/i.test(entry.get('enabled') ?? ''),
      )
      .map((entry) => ({
        uris: words(entry.get('uris')),
        suites: words(entry.get('suites')),
        components: words(entry.get('components')),
        signedBy: words(entry.get('signed-by')).join(' '),
      }));
  }
  return [...plain.matchAll(/^[ \t]*deb[ \t]+(?:\[([^\]\n]*)\][ \t]+)?(\S+)[ \t]+(\S+)([^#\n]*)/gm)].map(
    ([, options, uri = '', suite = '', rest]) => ({
      uris: [uri],
      suites: [suite],
      components: words(rest),
      signedBy: /(?:^|\s)signed-by=(\S+)/i.exec(options ?? '')?.[1] ?? '',
    }),
  );
}

/** Suites that are Debian's own; a derivative has names of its own for what it calls `-updates`. The host's own codename is added. */
const DEBIAN_SUITE = /^(?:(?:old)*stable|testing|unstable|sid|bullseye|bookworm|trixie|forky|duke)$/;

/** The first URL of an entry that this program can ask: http(s) without a password, directly or from a list on the host. */
async function usableUrl({ uris }: AptSource, root: string): Promise<URL | undefined> {
  for (const uri of uris) {
    // Cloud images keep the mirror in a list of its own: URLs, each with options after it, and comments (apt-transport-mirror(1)).
    const list = /^mirror\+file:\/*(\/.*)/.exec(uri)?.[1];
    const urls =
      list === undefined ? [uri] : (await textOf(join(root, list))).split('\n').map((line) => words(line.replace(/#.*/, ''))[0] ?? '');
    for (const text of urls) {
      // tor+http:, cdrom:, file:, mirror: and their like take apt; `$(ARCH)` is apt's to fill in.
      if (!/^https?:\/\//.test(text) || text.includes('$(') || !URL.canParse(text)) continue;
      const url = new URL(text);
      // Passwords would end up in messages and build records: FLATCAR_EXT_DEBIAN_MIRROR is for those who want that.
      if (url.username === '' && url.password === '') return url;
    }
  }
  return undefined;
}

/**
 * The mirror that apt on this host takes Debian from, if the host is a Debian. Derivatives are none: their own archives have the same
 * form, and even the path `/debian`. Others' archives on Debian are called `main` and `/debian` too: the mirror is the entry that has
 * one of Debian's suites with `-updates`, else one at the path `/debian` that no key of somebody else's signs.
 */
export async function mirrorOfHost(root = '/'): Promise<string | undefined> {
  const osRelease = (await textOf(join(root, 'etc/os-release'))) || (await textOf(join(root, 'usr/lib/os-release')));
  const field = (key: string): string => new RegExp(`^${key}=["']?([^"'\n]*)`, 'm').exec(osRelease)?.[1] ?? '';
  if (field('ID') !== 'debian') return undefined;
  const isSuite = (suite: string): boolean => DEBIAN_SUITE.test(suite) || (suite !== '' && suite === field('VERSION_CODENAME'));

  const apt = join(root, 'etc/apt');
  const names = (await readdir(join(apt, 'sources.list.d')).catch(() => [])).filter((name) => /^[\w.-]+\.(list|sources)$/.test(name));
  const files = ['sources.list', ...names.toSorted().map((name) => join('sources.list.d', name))];
  const entries = (await Promise.all(files.map(async (file) => parseSources(file, await textOf(join(apt, file)))))).flat();
  const candidates: { url: URL; updates: boolean }[] = [];
  for (const entry of entries) {
    const { suites, components, signedBy } = entry;
    const updates = suites.some((suite) => suite.endsWith('-updates') && isSuite(suite.slice(0, -'-updates'.length)));
    const isOthers = signedBy !== '' && !/(?:^|\/)debian-archive[^/]*$/.test(signedBy);
    if (!components.includes('main') || !(updates || (suites.some(isSuite) && !isOthers))) continue;
    const url = await usableUrl(entry, root);
    if (url !== undefined) candidates.push({ url, updates });
  }
  const found = candidates.find(({ updates }) => updates) ?? candidates.find(({ url }) => /\/debian\/?$/.test(url.pathname));
  return found === undefined ? undefined : trim(found.url.href);
}

/**
 * The mirror of hosts that name none. kernel.org has mirrored Debian for decades, keeps `/debian-security` beside `/debian`
 * (both are listed on https://mirrors.kernel.org) and answers by https. What comes from there is believed by Debian's signatures and pinned digests only.
 */
export const DEFAULT_MIRROR = 'https://mirrors.kernel.org/debian';

/** An http(s) URL from the environment; undefined where the variable is unset or empty. */
function urlFrom(variable: string): string | undefined {
  const text = envOf(variable);
  if (text === undefined) return undefined;
  if (!/^https?:\/\//.test(text) || !URL.canParse(text))
    throw new UserError(`${variable}: '${text}' is not a valid http or https URL`, { next: `set it to a URL such as ${DEFAULT_MIRROR}` });
  return trim(text);
}

/** A Debian mirror: FLATCAR_EXT_DEBIAN_MIRROR, else the one of apt on a Debian host, else a public one. `root` is the host's. */
export async function debianMirror(root = '/'): Promise<string> {
  return urlFrom('FLATCAR_EXT_DEBIAN_MIRROR') ?? (await mirrorOfHost(root)) ?? DEFAULT_MIRROR;
}

/** Debian's own domain: its snapshot archive has every package that Debian ever had (wiki.debian.org/SnapshotDebianOrg). */
const DEBIAN = 'debian.org';

/** The snapshot archive: FLATCAR_EXT_DEBIAN_SNAPSHOT, else Debian's own. No mirror has one; an index could name it (`Snapshots:`), but Debian's do not. */
export function snapshotArchive(): string {
  return urlFrom('FLATCAR_EXT_DEBIAN_SNAPSHOT') ?? `https://snapshot.${DEBIAN}/archive/debian`;
}

/** How a timestamp is written in the snapshot archive: `20261121T091544Z`. */
export function snapshotStamp(date: Date): string {
  return `${date.toISOString().slice(0, 19).replaceAll(/[-:]/g, '')}Z`;
}

const ANOTHER_MIRROR = 'try another mirror (FLATCAR_EXT_DEBIAN_MIRROR)';

/** No index of these days can be had: that says nothing about what is pinned. */
export class IndexUnavailableError extends UserError {}
/** A signed index that somebody serves again: it is of another day than today. */
export class StaleIndexError extends IndexUnavailableError {}

/** InRelease of sid, the largest, has about 200 kB. */
const MOST_RELEASE = 1 << 20;

/** A text that no digest is known of, of at most MOST_RELEASE bytes. */
async function get(url: string): Promise<string> {
  return getText(url, { max: MOST_RELEASE }).catch((cause: unknown) => {
    if (cause instanceof HttpStatusError) throw new HttpStatusError(cause.status, { where: url, next: ANOTHER_MIRROR, cause });
    // Not as UnreachableError: that a tool cannot be had is no reason to build a component from another origin.
    if (isNetworkFailure(cause)) throw new IndexUnavailableError(cause.message, { where: url, next: ANOTHER_MIRROR, cause });
    if (cause instanceof HttpError) throw new UserError(cause.message, { where: url, next: ANOTHER_MIRROR, cause });
    throw cause;
  });
}

const DAY = 86_400_000;
/**
 * Days after its date until which an index without a date of expiry is taken. Debian's stable has none: its index changes with each point release,
 * about every two months, and says nothing of its age itself.
 */
const MOST_DAYS = 365;
/** A path of a snapshot archive: what is there is old on purpose. */
const SNAPSHOT_PATH = /\/\d{8}T\d{6}Z\//;
/** Suites without updates and security updates of their own: what they have is always the newest, or is built upon another suite. */
const HAS_NO_UPDATES = /^(?:sid|unstable|experimental|rc-buggy)$|-/;

/** The text that a key of Debian signed, out of a cleartext message (RFC 9580, 7); one good signature of several is enough, as for apt. */
export async function signedText(cleartextMessage: string, keyring: string | undefined, url: string): Promise<string> {
  const openpgp = await import('openpgp');
  const armoredKeys = keyring ?? (await readFile(DEBIAN_KEYRING, 'utf8'));
  const next = 'do not use this mirror; after a key change of Debian refresh packages/core/src/debian/data/debian-archive-keyring.asc';
  const keys = await openpgp.readKeys({ armoredKeys });
  const refused = (cause: unknown): UserError =>
    new UserError(`the package index has no good signature by a known key of Debian: ${messageOf(cause)}`, { where: url, next, cause });
  const message = await openpgp.readCleartextMessage({ cleartextMessage }).catch((cause: unknown) => {
    throw refused(cause);
  });
  const { data, signatures } = await openpgp.verify({ message, verificationKeys: keys });
  const verdicts = await judgeSignatures(signatures, keys, { where: url, keyFile: DEBIAN_KEYRING, next });
  if (verdicts.some(({ problem }) => problem === undefined)) return data;
  // Only a good signature says when it was made: an index that is good at another time than now tells that a clock is wrong.
  const later = await openpgp.verify({ message, verificationKeys: keys, date: null });
  for (const { verified, signature } of later.signatures) {
    const isGood = await verified.catch(() => false);
    const clock = isGood ? clockProblem((await signature).packets[0]?.created) : undefined;
    if (clock !== undefined)
      throw new UserError(`the package index cannot be checked: ${clock}`, {
        where: url,
        next: 'set the clock of this machine; where it is right, use another mirror (FLATCAR_EXT_DEBIAN_MIRROR)',
      });
  }
  throw refused(verdicts[0]?.problem ?? new Error('there is no signature'));
}

/** Refuses an index that has expired, or that is too old for one that does not expire. Gives its date. */
function assertFresh(fields: ReadonlyMap<string, string>, url: string): Date {
  const [date, until] = [fields.get('Date') ?? '', fields.get('Valid-Until')];
  const made = Date.parse(date);
  const ends = until === undefined ? made + MOST_DAYS * DAY : Date.parse(until);
  if (Number.isNaN(made)) throw new UserError(`the index has no valid date: '${date}'`, { where: url, next: ANOTHER_MIRROR });
  if (Number.isNaN(ends))
    throw new UserError(`the index has no valid date of expiry: '${until ?? ''}'`, { where: url, next: ANOTHER_MIRROR });
  if (ends <= Date.now() && !SNAPSHOT_PATH.test(url)) {
    const what = until === undefined ? `is of ${date}, more than ${MOST_DAYS} days ago` : `expired on ${until}`;
    throw new StaleIndexError(`the package index ${what}`, {
      where: url,
      next: `check this machine's clock (it says ${new Date().toUTCString()}); where it is right, ${ANOTHER_MIRROR}; for old packages on purpose set it to a snapshot archive`,
    });
  }
  return new Date(made);
}

/** A suite's index: what was signed, not what stands around it, and its date. */
async function readInRelease(url: string, suite: string, options: ArchiveOptions): Promise<{ fields: Map<string, string>; date: Date }> {
  const data = await signedText(await get(url), options.keyring, url);
  const fields = paragraphs(data)[0] ?? new Map<string, string>();
  // A mirror could serve another suite, whose index is signed as well.
  if (fields.get('Codename') !== suite && fields.get('Suite') !== suite)
    throw new UserError(`this is not the index of ${suite}`, { where: url, next: 'do not use this mirror' });
  return { fields, date: assertFresh(fields, url) };
}

/** Refuses an index that is older than what was pinned before, by timestamps of a snapshot archive: time only goes forward. */
export function assertNotOlder(stamp: string, since: string | undefined, suite: string, where?: string): void {
  if (since === undefined || stamp >= since) return;
  throw new StaleIndexError(`the index of ${suite} is of ${stamp}, older than the pinned packages (${since})`, {
    where,
    next: ANOTHER_MIRROR,
  });
}

/** Reads a Packages index. */
export function parsePackages(text: string): IndexedPackage[] {
  return paragraphs(text).flatMap((fields) => {
    const [name, version, path, sha256] = ['Package', 'Version', 'Filename', 'SHA256'].map((key) => fields.get(key));
    if (name === undefined || version === undefined || path === undefined || sha256 === undefined) return [];
    const depends = ['Pre-Depends', 'Depends'].flatMap((key) => parseDependencies(fields.get(key)));
    const [source = name] = words(fields.get('Source'));
    const provides = parseProvides(fields.get('Provides'));
    return [{ name, version, path, sha256, size: Number(fields.get('Size')), source, depends, provides }];
  });
}

/** What a Sources index says of a file (Directory, Checksums-Sha256). */
export function sourceFileIn(text: string, path: string): { sha256: string; size: number } | undefined {
  const [folder, name] = [dirname(path), basename(path)];
  // The index has tens of thousands of entries: only those of this folder are read.
  for (const entry of text.split('\n\n').filter((one) => `${one}\n`.includes(`\nDirectory: ${folder}\n`))) {
    const sums = paragraphs(`${entry}\n`)[0]?.get('Checksums-Sha256') ?? '';
    const [, sha256, size] = [...sums.matchAll(/^ ([0-9a-f]{64}) (\d+) (\S+)$/gm)].find((sum) => sum[3] === name) ?? [];
    if (sha256 !== undefined) return { sha256, size: Number(size) };
  }
  return undefined;
}

/**
 * The version of upstream in a version of Debian (deb-version(7)): without the epoch, Debian's revision, marks of a repacked source, and
 * what builds and updates of native packages append. `2.0+really1.9-1` is 1.9.
 */
export function upstreamVersion(version: string): string {
  return version
    .replace(/^\d+:/, '')
    .replace(/-[^-]*$/, '')
    .replace(/^.*\+really/, '')
    .replace(/[+~.](?:dfsg|ds|repack).*$/, '')
    .replace(/\+(?:b\d+|deb\d+u\d+)$/, '');
}

/** Packages of unstable, the longest list, has 11 MB packed and 60 MB of text. */
const MOST_LIST = 64 << 20;
const MOST_LIST_TEXT = 512 << 20;

/** Opens the Debian archive; nothing is asked of it before it must be. */
export function openArchive(store: Store, report: Report = () => undefined, options: ArchiveOptions = {}): Archive {
  const indexes = new Map<string, ReturnType<Archive['packages']>>();
  const mirrorUrl = async (): Promise<string> => (options.mirror === undefined ? debianMirror() : trim(options.mirror));

  /** One index of a suite, such as `main/source/Sources`. */
  async function readIndex(suite: string, name: string): Promise<{ date: Date; text: string }> {
    const base = `${beside(await mirrorUrl(), suite.endsWith('-security'))}/dists/${suite}`;
    const { fields, date } = await readInRelease(`${base}/InRelease`, suite, options);
    const sums = [...(fields.get('SHA256') ?? '').matchAll(/^ ([0-9a-f]{64}) +(\d+) (\S+)$/gm)];
    // Node reads gzip; some suites have xz only.
    const [, sha256, size, path] = ['gz', 'xz'].map((kind) => sums.find((sum) => sum[3] === `${name}.${kind}`)).find(Boolean) ?? [];
    if (sha256 === undefined) throw new UserError(`the index of ${suite} lists no ${name}`, { where: base });
    if (Number(size) > MOST_LIST)
      throw new UserError(`${name} of ${suite} has ${size ?? ''} bytes, more than ${MOST_LIST}`, { where: base, next: ANOTHER_MIRROR });
    // By its digest, so that an index and a list of different days are never mixed.
    const file = await fetchBlob(
      store,
      { url: `${base}/${dirname(name)}/by-hash/SHA256/${sha256}`, sha256, size: Number(size) },
      { report },
    );
    const text = await readCompressed(file, path?.endsWith('.gz') === true ? 'gzip' : 'xz', MOST_LIST_TEXT).catch((cause: unknown) => {
      throw new UserError(`the list of packages cannot be unpacked: ${messageOf(cause)}`, { where: base, next: ANOTHER_MIRROR, cause });
    });
    return { date, text: text.toString() };
  }

  async function readPackages(suite: string, component: string, arch: Arch): Promise<{ date: Date; packages: IndexedPackage[] }> {
    const { date, text } = await readIndex(suite, `${component}/binary-${archWords(arch).debian}/Packages`);
    return { date, packages: parsePackages(text) };
  }

  const packages: Archive['packages'] = (suite, component, arch) => {
    const key = `${suite} ${component} ${arch}`;
    const reading = indexes.get(key) ?? readPackages(suite, component, arch);
    indexes.set(key, reading);
    reading.catch(() => indexes.delete(key));
    return reading;
  };

  const newest: Archive['newest'] = async (suite, arch) => {
    const found = new Map<string, IndexedPackage>();
    let date = new Date(0);
    for (const one of [suite, `${suite}-updates`, `${suite}-security`]) {
      const index = await packages(one, 'main', arch).catch((error: unknown) => {
        if (one === suite || !isGone(error)) throw error;
        if (HAS_NO_UPDATES.test(suite)) return;
        // Without it fixes would be missing, and nobody would see: a mirror can leave it out as well as serve an old one.
        if (one.endsWith('-security'))
          throw new UserError(`this mirror has no ${one}`, {
            where: (error as HttpStatusError).where,
            next: 'use a mirror that has debian-security beside debian (FLATCAR_EXT_DEBIAN_MIRROR)',
            cause: error,
          });
        report({ type: 'notice', text: `this mirror has no ${one}: ${(error as HttpStatusError).where ?? ''}` });
      });
      if (index === undefined) continue;
      if (index.date > date) ({ date } = index);
      for (const fresh of index.packages) {
        const there = found.get(fresh.name);
        if (there === undefined || compareDebianVersions(fresh.version, there.version) > 0) found.set(fresh.name, fresh);
      }
    }
    return { snapshot: snapshotStamp(date), packages: [...found.values()] };
  };

  return {
    packages,
    newest,
    async fetchPackage({ path, ...pin }, { suite, snapshot, arch, repin }) {
      const kept = await store.blob(pin.sha256);
      if (kept !== undefined) return kept;
      const mirror = await mirrorUrl();
      const isSecurity = path.startsWith('pool/updates/');
      const snapshots = options.snapshot ?? snapshotArchive();
      const bases = [beside(mirror, isSecurity), ...(snapshot === undefined ? [] : [`${beside(snapshots, isSecurity)}/${snapshot}`])];
      for (const [index, base] of bases.entries()) {
        try {
          return await fetchBlob(store, { url: `${base}/${path}`, ...pin }, { report, attempts: 3 });
        } catch (error) {
          // Whatever keeps the snapshot archive from answering comes to the same; wrong bytes do not.
          if (!(index === 0 ? isGone(error) : isUnanswered(error))) throw error;
        }
      }
      const [name = '', version = ''] = basename(path, '.deb').split('_');
      const now = await newest(suite, arch).then(
        ({ packages: listed }) => listed.find((one) => one.name === name)?.version,
        (error: unknown) => error,
      );
      const there =
        typeof now === 'string'
          ? `${suite} has ${now} now`
          : now === undefined
            ? `${suite} has no ${name} any more`
            : `what ${suite} has now cannot be read: ${messageOf(now)}`;
      throw new UserError(`${name} ${decodeURIComponent(version)} has left the Debian archive; ${there}`, {
        where: `${bases[0]}/${path}`,
        next: `take that: ${repin}; or set FLATCAR_EXT_DEBIAN_SNAPSHOT to a snapshot archive that can be reached`,
      });
    },
    async sourceFile(path, suites) {
      const [, component = 'main'] = path.split('/');
      const stale: unknown[] = [];
      for (const suite of suites) {
        const index = await readIndex(suite, `${component}/source/Sources`).catch((error: unknown) => {
          // Another suite may have the same file, and the path says which version it is.
          if (!(error instanceof StaleIndexError)) throw error;
          stale.push(error);
          report({ type: 'notice', text: `${error.message} (${error.where ?? suite})` });
        });
        const found = index === undefined ? undefined : sourceFileIn(index.text, path);
        if (found !== undefined) return { ...found, suite };
      }
      if (stale.length > 0) throw stale[0];
      return undefined;
    },
    async fetchSource({ path, ...pin }) {
      const there = await store.blob(pin.sha256);
      if (there !== undefined) return there;
      const mirror = await mirrorUrl();
      return fetchBlob(store, { url: `${mirror}/${path}`, ...pin }, { report, attempts: 3 }).catch((error: unknown) => {
        if (!(error instanceof HttpStatusError && [404, 410].includes(error.status))) throw error;
        throw new UserError(`${path} has left the Debian archive`, {
          where: mirror,
          next: 'set FLATCAR_EXT_DEBIAN_MIRROR to a snapshot archive of the time when it was there, or build another version',
          cause: error,
        });
      });
    },
    async fetch(pin, { suite, snapshot, arch }) {
      const there = await store.blob(pin.sha256);
      if (there !== undefined) return { file: there, package: pin, status: 'pinned' };
      const mirror = await mirrorUrl();
      const from = (base: string, one: DebianPackage): Promise<string> =>
        fetchBlob(store, { url: `${base}/${one.path}`, sha256: one.sha256, size: one.size }, { report, attempts: 3 });
      try {
        return { file: await from(mirror, pin), package: pin, status: 'pinned' };
      } catch (error) {
        // Not as UnreachableError: that a tool cannot be had is no reason to build a component from another origin.
        if (error instanceof UnreachableError) throw new UserError(error.message, { where: mirror, next: ANOTHER_MIRROR, cause: error });
        if (!(error instanceof HttpStatusError && [404, 410].includes(error.status))) throw error;
      }
      try {
        return { file: await from(`${options.snapshot ?? snapshotArchive()}/${snapshot}`, pin), package: pin, status: 'pinned' };
      } catch (error) {
        // Whatever keeps the snapshot archive from answering must not stop a build; wrong bytes must.
        if (!isUnanswered(error)) throw error;
      }
      const component = pin.path.split('/')[1] ?? 'main';
      const index = await packages(suite, component, arch);
      // An index of before the pins were made is an old one that somebody serves again.
      assertNotOlder(snapshotStamp(index.date), snapshot, suite, mirror);
      const current = index.packages.find(({ name }) => name === pin.name);
      if (current === undefined) {
        throw new UserError(`package ${pin.name} ${pin.version} has left the archive, and ${suite} has no other`, {
          where: mirror,
          next: 'set FLATCAR_EXT_DEBIAN_SNAPSHOT to a snapshot archive, or re-pin with scripts/pin-tools.ts',
        });
      }
      const status = `unpinned: ${pin.name} ${pin.version} has left the archive, ${current.version} stands in`;
      report({
        type: 'notice',
        text: `${status}. WHAT IS MADE WITH IT IS NOT FOR PUBLISHING. Set FLATCAR_EXT_DEBIAN_SNAPSHOT to a snapshot archive, or re-pin with scripts/pin-tools.ts`,
      });
      const { name, version, path, sha256, size } = current;
      return { file: await from(mirror, current), package: { name, version, path, sha256, size }, status };
    },
  };
}

/** Fields of a package's control file (deb-control(5)); those that it does not have are missing. Throws a UserError for what is not a package. */
export async function packageFields(file: string, fields: readonly string[]): Promise<Record<string, string>> {
  const control = (await readControlFiles(file)).get('control') ?? '';
  const wanted = new Set(fields);
  return Object.fromEntries([...(paragraphs(control)[0] ?? [])].filter(([name]) => wanted.has(name)));
}
