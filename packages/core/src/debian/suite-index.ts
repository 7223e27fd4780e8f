import { readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { getText } from '../http/client.ts';
import { HttpError, HttpStatusError, isNetworkFailure } from '../http/errors.ts';
import { fetchBlob } from '../store/fetch.ts';
import type { Store } from '../store/store.ts';
import { readCompressed } from '../store/unpack.ts';
import { clockProblem } from '../util/clock.ts';
import { messageOf, UserError, type ErrorAbout } from '../util/errors.ts';
import type { Report } from '../util/events.ts';
import { paragraphs } from './deb822.ts';
import { judgeSignatures } from './openpgp.ts';

/** The keys of Debian's archive, armored: in this repository, for hosts that have none or old ones. */
export const DEBIAN_KEYRING = fileURLToPath(new URL('data/debian-archive-keyring.asc', import.meta.url));

export const ANOTHER_MIRROR = 'try another mirror (FLATCAR_EXT_DEBIAN_MIRROR)';

/** No current index is available; pinned packages may still be. */
export class IndexUnavailableError extends UserError {
  constructor(what: string, about: ErrorAbout = {}) {
    super(what, { code: 'index-unavailable', ...about });
  }
}
/** A signed index that is replayed: it is too old. */
export class StaleIndexError extends IndexUnavailableError {
  constructor(what: string, about: Omit<ErrorAbout, 'code'> = {}) {
    super(what, { ...about, code: 'index-stale' });
  }
}

/** InRelease of sid, the largest, has about 200 kB. */
const MOST_RELEASE = 1 << 20;

/** A text without a known digest, of at most MOST_RELEASE bytes. */
async function get(url: string): Promise<string> {
  return getText(url, { max: MOST_RELEASE }).catch((cause: unknown) => {
    if (cause instanceof HttpStatusError) throw new HttpStatusError(cause.status, { where: url, next: ANOTHER_MIRROR, cause });
    // Not an UnreachableError: a tool that is not available is no reason to build a component from another origin.
    if (isNetworkFailure(cause)) throw new IndexUnavailableError(cause.message, { where: url, next: ANOTHER_MIRROR, cause });
    if (cause instanceof HttpError) throw new UserError(cause.message, { where: url, next: ANOTHER_MIRROR, cause });
    throw cause;
  });
}

const DAY = 86_400_000;
/**
 * Days after its date for which an index without a date of expiry is accepted. Debian's stable has none: its index changes with each point release,
 * about every two months, and does not state its age.
 */
const MOST_DAYS = 365;
/** A path of a snapshot archive: its content is old on purpose. */
const SNAPSHOT_PATH = /\/\d{8}T\d{6}Z\//;

/** The text in a cleartext message (RFC 9580, 7) that a key of Debian signed; as for apt, one good signature of several is enough. */
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
  // Only the date of a good signature can be trusted: an index that is good at another time than now shows that a clock is wrong.
  const later = await openpgp.verify({ message, verificationKeys: keys, date: null });
  for (const { verified, signature } of later.signatures) {
    const isGood = await verified.catch(() => false);
    const clock = isGood ? clockProblem((await signature).packets[0]?.created) : undefined;
    if (clock !== undefined)
      throw new UserError(`the package index cannot be checked: ${clock}`, {
        where: url,
        next: 'set the clock of this machine; if it is right, use another mirror (FLATCAR_EXT_DEBIAN_MIRROR)',
      });
  }
  throw refused(verdicts[0]?.problem ?? new Error('it is not signed'));
}

/** Refuses an index that has expired, or that is too old for one that does not expire. Returns its date. */
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
      next: `check this machine's clock (it reads ${new Date().toUTCString()}); if it is right, ${ANOTHER_MIRROR}; to use old packages on purpose, set it to a snapshot archive`,
    });
  }
  return new Date(made);
}

/** The signed part of a suite's index, and its date. */
async function readInRelease(
  url: string,
  suite: string,
  keyring: string | undefined,
): Promise<{ fields: Map<string, string>; date: Date }> {
  const data = await signedText(await get(url), keyring, url);
  const fields = paragraphs(data)[0] ?? new Map<string, string>();
  // A mirror could serve another suite, whose index is signed as well.
  if (fields.get('Codename') !== suite && fields.get('Suite') !== suite)
    throw new UserError(`this is not the index of ${suite}`, { where: url, next: 'do not use this mirror' });
  return { fields, date: assertFresh(fields, url) };
}

/** Refuses an index that is older than the pinned packages, by timestamps of a snapshot archive. */
export function assertNotOlder(stamp: string, since: string | undefined, suite: string, where?: string): void {
  if (since === undefined || stamp >= since) return;
  throw new StaleIndexError(`the index of ${suite} is of ${stamp}, older than the pinned packages (${since})`, {
    where,
    next: ANOTHER_MIRROR,
  });
}

/** Packages of unstable, the longest list, has 11 MB packed and 60 MB of text. */
const MOST_LIST = 64 << 20;
const MOST_LIST_TEXT = 512 << 20;

/** Where lists are fetched from, and by which keys. */
export interface ListSource {
  readonly store: Store;
  readonly report: Report;
  /** URL of the archive. */
  readonly archive: string;
  /** Armored OpenPGP keys that may sign an index; Debian's by default. */
  readonly keyring?: string;
}

/** One list of a suite, such as `main/source/Sources`, and the date of the suite's index. */
export async function readList(
  suite: string,
  name: string,
  { store, report, archive, keyring }: ListSource,
): Promise<{ date: Date; text: string }> {
  const base = `${archive}/dists/${suite}`;
  const { fields, date } = await readInRelease(`${base}/InRelease`, suite, keyring);
  const sums = [...(fields.get('SHA256') ?? '').matchAll(/^ ([0-9a-f]{64}) +(\d+) (\S+)$/gm)];
  // Node reads gzip; some suites have xz only.
  const [, sha256, size, path] = ['gz', 'xz'].map((kind) => sums.find((sum) => sum[3] === `${name}.${kind}`)).find(Boolean) ?? [];
  if (sha256 === undefined) throw new UserError(`the index of ${suite} lists no ${name}`, { where: base });
  if (Number(size) > MOST_LIST)
    throw new UserError(`${name} of ${suite} has ${size ?? ''} bytes, more than ${MOST_LIST}`, { where: base, next: ANOTHER_MIRROR });
  // By its digest, so that an index and a list of different days are never mixed.
  const file = await fetchBlob(store, { url: `${base}/${dirname(name)}/by-hash/SHA256/${sha256}`, sha256, size: Number(size) }, { report });
  const text = await readCompressed(file, path?.endsWith('.gz') === true ? 'gzip' : 'xz', MOST_LIST_TEXT).catch((cause: unknown) => {
    throw new UserError(`the list of packages cannot be unpacked: ${messageOf(cause)}`, { where: base, next: ANOTHER_MIRROR, cause });
  });
  return { date, text: text.toString() };
}
