import { createWriteStream } from 'node:fs';
import { readFile, rm, stat, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { digestOf } from '../util/digest.ts';
import { systemFailure } from '../util/errno.ts';
import { hasCode, UserError } from '../util/errors.ts';
import { hashFile, makeFolder } from '../util/files.ts';
import { httpSend } from '../http/client.ts';
import { timeFor, type HttpExchange, type HttpLimits } from '../http/options.ts';
import { HttpError, HttpStatusError, RetryableError, UnreachableError } from '../http/errors.ts';
import { mirrored } from '../http/mirror.ts';
import { withoutPassword } from '../http/proxy.ts';
import { headerOf } from '../http/rate-limit.ts';
import { interruption } from '../util/interrupt.ts';
import { DigestError } from './digest-error.ts';
import type { Store } from './store.ts';
import type { DownloadEvent, Report } from '../util/events.ts';

/** Bytes from outside: their URL and digest. */
export interface PinnedUrl {
  readonly url: string;
  /** Lowercase hex. */
  readonly sha256: string;
  /** In bytes, where known. */
  readonly size?: number;
}

export interface FetchOptions {
  readonly report?: Report;
  /** `https://host/path` is fetched as `<mirror>/host/path`. */
  readonly mirror?: string;
  readonly signal?: AbortSignal | undefined;
  /** Attempts in all, 5 by default. */
  readonly attempts?: number;
  /** First pause between attempts in milliseconds, doubled each time, 500 by default. */
  readonly pause?: number;
  /** How long a server may take; the total follows from the size by default. */
  readonly limits?: Partial<HttpLimits>;
}

/** For files without a known digest. */
export interface FetchNewOptions extends FetchOptions {
  /** The most bytes that are accepted. */
  readonly max: number;
  /** An earlier attempt is continued if the server confirms that the file is still the same (If-Range). False by default. */
  readonly resume?: boolean;
}

/** The limit for a pinned file without a known size: larger than any image or archive that is shipped. */
const MOST_BYTES = 8 * 2 ** 30;
/** All pauses that a server may request, in milliseconds. */
const LONGEST_WAIT = 300_000;

/** A download under way. */
interface Download {
  /** The URL that is requested. */
  readonly url: string;
  /** The URL without the mirror, for messages. */
  readonly name: string;
  readonly part: string;
  readonly sha256?: string;
  readonly size?: number;
  /** The most bytes that are accepted: the size, if known. */
  readonly limit: number;
  readonly resume: boolean;
  readonly options: FetchOptions;
  /** Bytes that arrived so far, over all attempts. */
  received: number;
}

/** Hosts that cannot be reached, by origin: tried once per process, not once per file. */
const unreachable = new Map<string, UnreachableError>();

/** Reports a download. */
function tell({ url, received, options }: Download, state: DownloadEvent['state'], total?: number): void {
  options.report?.({ type: 'download', state, url: withoutPassword(url), received, total });
}

/** Counts bytes, keeps the size, and reports progress. */
function meter(already: number, total: number | undefined, download: Download): Transform & { received: () => number } {
  const { limit, size, name } = download;
  const expected = total === undefined ? undefined : download.received + total - already;
  let done = already;
  let reported = 0;
  const transform = new Transform({
    transform(chunk: Buffer, _, next) {
      done += chunk.length;
      download.received += chunk.length;
      if (done > limit) {
        next(
          new HttpError('too-large', `the server sends more than ${size === undefined ? `${limit} bytes` : `the pinned ${limit} bytes`}`, {
            where: name,
            next: size === undefined ? 'check the URL; nothing was kept' : 'check the pin; nothing was kept',
          }),
        );
        return;
      }
      const now = Date.now();
      if (now - reported > 200) {
        reported = now;
        tell(download, 'running', expected);
      }
      next(null, chunk);
    },
  });
  return Object.assign(transform, { received: () => done });
}

/** File beside a part with the server's validator of the downloaded version: an ETag, or a date (RFC 9110 13.1.5). */
const validatorFile = (part: string): string => `${part}.validator`;
const readValidator = (part: string): Promise<string> => readFile(validatorFile(part), 'utf8').catch(() => '');

async function removePart(part: string): Promise<void> {
  await rm(part, { force: true });
  await rm(validatorFile(part), { force: true });
}

/** The validator of a file's version: a strong ETag, else the date of its last change. */
function validatorOf({ headers }: HttpExchange): string {
  const tag = headerOf(headers, 'etag');
  if (tag !== undefined && /^"[^"\r\n]{0,1000}"$/.test(tag)) return tag;
  const date = headerOf(headers, 'last-modified');
  return date !== undefined && /^[\w, :+-]{1,60}$/.test(date) ? date : '';
}

/** The headers that request the missing bytes of a part, and how many bytes it has. */
async function rangeOf({ part, sha256, resume }: Download): Promise<{ have: number; headers: Record<string, string> }> {
  const [have, validator] = await Promise.all([
    stat(part).then(
      ({ size }) => size,
      () => 0,
    ),
    readValidator(part),
  ]);
  // Without a digest only the server knows whether the part belongs to its current file.
  if (have === 0 || (sha256 === undefined && (validator === '' || !resume))) {
    await removePart(part);
    return { have: 0, headers: {} };
  }
  return { have, headers: { range: `bytes=${have}-`, ...(validator === '' ? undefined : { 'if-range': validator }) } };
}

/** The offset at which a response begins: the end of the part, or zero. Throws for a response that does not match the request. */
async function startOf(exchange: HttpExchange, have: number, { part, name }: Download): Promise<number> {
  const { status, headers } = exchange;
  if (status === 200) return 0;
  if (status === 416 && have > 0) {
    await removePart(part);
    throw new RetryableError(
      new HttpError('protocol', 'the server does not have the requested part of the file', { where: name, next: 'run this again' }),
    );
  }
  if (status !== 206)
    throw new HttpStatusError(status, {
      where: exchange.url,
      next:
        status === 404
          ? 'upstream may have moved or removed the file: check the URL in the definition'
          : status === 429 || status >= 500
            ? 'try again later, or specify a mirror (--mirror URL)'
            : 'check the URL and any credentials or proxy',
    });
  if (have > 0 && (headerOf(headers, 'content-range') ?? '').startsWith(`bytes ${have}-`)) return have;
  const failure = new HttpError('protocol', 'the server sends another part of the file than requested', {
    where: exchange.url,
    next: 'check the URL, and any proxy or mirror in between',
  });
  if (have === 0) throw failure;
  await removePart(part);
  throw new RetryableError(failure);
}

/** Compressions for which some servers send the Content-Encoding of the file itself: the bytes are those of the file. */
const SUFFIXES: Readonly<Record<string, RegExp>> = {
  gzip: /\.t?gz$/,
  'x-gzip': /\.t?gz$/,
  zstd: /\.zst$/,
  'x-bzip2': /\.bz2$/,
  'x-xz': /\.xz$/,
};

/** Refuses a file without a digest that is compressed on the way: that was not requested. */
function assertPlain({ headers, url }: HttpExchange, { name, sha256 }: Download): void {
  const encoding = (headerOf(headers, 'content-encoding') ?? 'identity').trim().toLowerCase();
  if (sha256 !== undefined || encoding === '' || encoding === 'identity' || SUFFIXES[encoding]?.test(new URL(name).pathname) === true)
    return;
  throw new HttpError('encoding', `the server sends a compressed response (${encoding.slice(0, 40)}), which was not requested`, {
    where: url,
    next: 'check the URL, and any proxy or mirror in between',
  });
}

/** Appends a response to the part. */
async function writePart(exchange: HttpExchange, have: number, download: Download): Promise<void> {
  const { part, size, options, sha256 } = download;
  // The part is complete already: its digest decides.
  if (exchange.status === 416 && have > 0 && (await hashFile(part)) === sha256) return;
  const start = await startOf(exchange, have, download);
  assertPlain(exchange, download);
  const total = size ?? (exchange.length === undefined ? undefined : start + exchange.length);
  if (start === 0) {
    await rm(part, { force: true });
    await writeFile(validatorFile(part), validatorOf(exchange));
  }
  const counter = meter(start, total, download);
  try {
    const { signal } = options;
    await pipeline(exchange.body, counter, createWriteStream(part, { flags: start > 0 ? 'a' : 'w', flush: true }), { signal });
  } catch (cause) {
    options.signal?.throwIfAborted();
    throw systemFailure(cause, part) ?? cause; // a write to an open file names no path
  }
  // The server ended the body properly, so this is not a network failure for which another origin could be used.
  if (size !== undefined && counter.received() < size)
    throw new HttpError('too-short', `the server sent ${counter.received()} bytes where ${size} are pinned`, {
      where: exchange.url,
      next: 'check the pin and the URL; nothing was kept',
    });
}

/** Failures after which the part is worth keeping: another attempt continues it. */
const KEEPING = new Set(['unreachable', 'tls', 'timeout', 'broken', 'rate-limited', 'status', 'redirect', 'request']);

/** Attempts until the part has its full length. Calls `onResume` if its bytes are from more than one response. */
async function transfer(download: Download, onResume: () => void): Promise<void> {
  const { url, part, limit, options } = download;
  const { origin } = new URL(url);
  const known = unreachable.get(origin);
  if (known !== undefined) throw new UnreachableError(known.message, { where: withoutPassword(url), next: known.next, cause: known });
  await makeFolder(dirname(part));
  tell(download, 'begun', download.size);
  let have = 0;
  try {
    await httpSend(
      url,
      {
        attempts: options.attempts ?? 5,
        pause: options.pause,
        signal: options.signal,
        limits: { waits: LONGEST_WAIT, total: timeFor(limit) + LONGEST_WAIT, ...options.limits },
        whenLimited: 'try again then, or specify a mirror (--mirror URL)',
        headers: async () => {
          const range = await rangeOf(download);
          ({ have } = range);
          return range.headers;
        },
      },
      async (exchange) => {
        if (have > 0 && exchange.status === 206) onResume();
        await writePart(exchange, have, download);
      },
    );
    tell(download, 'complete', download.received);
  } catch (error) {
    tell(download, 'failed');
    if (error instanceof UnreachableError) unreachable.set(origin, error);
    if (error instanceof UserError && !(error instanceof HttpError && KEEPING.has(error.code))) await removePart(part);
    throw error;
  }
}

/**
 * Attempts until the part is complete and `check` accepts it. A part from several responses may mix versions of a file that changed, so it is
 * fetched once more from zero before an error reports that the server has the wrong bytes.
 */
async function fetchPart(download: Download, check: () => Promise<void>): Promise<void> {
  const { part } = download;
  for (let isLast = false; ; isLast = true) {
    let isResumed = false;
    try {
      await transfer(download, () => {
        isResumed = true;
      });
      await check();
      await rm(validatorFile(part), { force: true });
      return;
    } catch (error) {
      const isWrong =
        hasCode(error, 'wrong-digest') || (error instanceof HttpError && ['too-large', 'too-short', 'protocol'].includes(error.code));
      if (isWrong) await removePart(part);
      if (!isWrong || !isResumed || isLast) throw error;
    }
  }
}

async function download(store: Store, pin: PinnedUrl, options: FetchOptions): Promise<string> {
  const url = mirrored(pin.url, options.mirror);
  const part = store.partial(pin.sha256);
  await fetchPart({ ...pin, url, name: pin.url, part, limit: pin.size ?? MOST_BYTES, resume: true, options, received: 0 }, async () => {
    const got = await hashFile(part);
    if (got !== pin.sha256)
      throw new DigestError(`wrong digest: sha256 ${pin.sha256} is pinned, the server sent ${got}`, {
        where: withoutPassword(url),
        next: 'do not change the pin before you know why: upstream, or something in between, replaced the file',
      });
  });
  return (await store.keep(part, pin.sha256)).path;
}

/**
 * Path of the bytes of a pinned URL, from the store or over HTTP: resumed, retried with backoff, length and digest checked.
 * Two processes that request the same file fetch it once. Throws an UnreachableError if there is no connection to the host, a DigestError for
 * wrong bytes, another UserError for everything else; wrong bytes are never kept.
 */
export async function fetchBlob(store: Store, pin: PinnedUrl, given: FetchOptions = {}): Promise<string> {
  const options = { ...given, signal: interruption(given.signal) };
  const there = await store.blob(pin.sha256);
  if (there !== undefined) return there;
  return store.lock(`fetch-${pin.sha256}`, async () => (await store.blob(pin.sha256)) ?? download(store, pin, options));
}

/**
 * Fetches a URL without a known digest into the store, of at most `max` bytes, for pinning: the caller must check the file.
 * Throws as fetchBlob does.
 */
export async function fetchNew(
  store: Store,
  name: string,
  given: FetchNewOptions,
): Promise<{ path: string; sha256: string; size: number }> {
  const { max, resume = false, ...rest } = given;
  const options = { ...rest, signal: interruption(given.signal) };
  const key = digestOf({ url: name });
  return store.lock(`fetch-${key}`, async () => {
    const part = store.partial(key);
    await fetchPart({ url: mirrored(name, options.mirror), name, part, limit: max, resume, options, received: 0 }, async () => undefined);
    return store.keep(part);
  });
}
