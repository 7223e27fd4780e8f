import { createWriteStream } from 'node:fs';
import { readFile, rm, stat, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { digestOf } from '../util/digest.ts';
import { systemFailure } from '../util/errno.ts';
import { UserError } from '../util/errors.ts';
import { hashFile, makeFolder } from '../util/files.ts';
import { httpSend, timeFor, type HttpExchange, type HttpLimits } from '../http/client.ts';
import { HttpError, HttpStatusError, RetryableError, UnreachableError } from '../http/errors.ts';
import { mirrored } from '../http/mirror.ts';
import { withoutPassword } from '../http/proxy.ts';
import { headerOf } from '../http/rate-limit.ts';
import { interruption } from '../util/interrupt.ts';
import { DigestError } from './digest-error.ts';
import type { Store } from './store.ts';
import type { Report } from '../util/events.ts';

/** Bytes from outside: a URL and what they must be. */
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

/** For files that no digest is known of. */
export interface FetchNewOptions extends FetchOptions {
  /** The most bytes that are taken. */
  readonly max: number;
  /** An earlier attempt is continued if the server says that the file is still the same (If-Range). False by default. */
  readonly resume?: boolean;
}

/** A pinned file whose size is not known: larger than any image or archive that is shipped. */
const MOST_BYTES = 8 * 2 ** 30;
/** How long a server is waited for that asks for it, in milliseconds, in all. */
const LONGEST_WAIT = 300_000;

/** A download under way. */
interface Download {
  /** Where it is fetched from. */
  readonly url: string;
  /** What it is called: the URL before the mirror. */
  readonly name: string;
  readonly part: string;
  readonly sha256?: string;
  readonly size?: number;
  /** The most bytes that are taken: its size, where that is known. */
  readonly limit: number;
  readonly resume: boolean;
  readonly options: FetchOptions;
}

/** Why servers did not answer, by their origins: asked once per process, not once per file. */
const unreachable = new Map<string, UnreachableError>();

/** Counts bytes, keeps the size, and reports progress. */
function meter(
  already: number,
  total: number | undefined,
  { limit, size, name, options }: Download,
): Transform & { received: () => number } {
  let done = already;
  let reported = 0;
  const transform = new Transform({
    transform(chunk: Buffer, _, next) {
      done += chunk.length;
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
        options.report?.({ type: 'progress', what: name, done, total });
      }
      next(null, chunk);
    },
  });
  return Object.assign(transform, { received: () => done });
}

/** What the server called the version of the file of which a part is there: an ETag, or a date (RFC 9110 13.1.5). Beside the part. */
const validatorFile = (part: string): string => `${part}.validator`;
const readValidator = (part: string): Promise<string> => readFile(validatorFile(part), 'utf8').catch(() => '');

async function removePart(part: string): Promise<void> {
  await rm(part, { force: true });
  await rm(validatorFile(part), { force: true });
}

/** What tells a version of a file from another: a strong ETag, else the date of its last change. */
function validatorOf({ headers }: HttpExchange): string {
  const tag = headerOf(headers, 'etag');
  if (tag !== undefined && /^"[^"\r\n]{0,1000}"$/.test(tag)) return tag;
  const date = headerOf(headers, 'last-modified');
  return date !== undefined && /^[\w, :+-]{1,60}$/.test(date) ? date : '';
}

/** The headers that ask for what is missing of a part, and how many bytes are there. */
async function rangeOf({ part, sha256, resume }: Download): Promise<{ have: number; headers: Record<string, string> }> {
  const [have, validator] = await Promise.all([
    stat(part).then(
      ({ size }) => size,
      () => 0,
    ),
    readValidator(part),
  ]);
  // Without a digest only the server knows whether what is there is of the file that it has now.
  if (have === 0 || (sha256 === undefined && (validator === '' || !resume))) {
    await removePart(part);
    return { have: 0, headers: {} };
  }
  return { have, headers: { range: `bytes=${have}-`, ...(validator === '' ? undefined : { 'if-range': validator }) } };
}

/** Where a response begins: at the end of the part, or at zero. Throws for a response that is no part of the answer to the question. */
async function startOf(exchange: HttpExchange, have: number, { part, name }: Download): Promise<number> {
  const { status, headers } = exchange;
  if (status === 200) return 0;
  if (status === 416 && have > 0) {
    await removePart(part);
    throw new RetryableError(new HttpError('protocol', 'the server has no such part of the file', { where: name, next: 'run this again' }));
  }
  if (status !== 206)
    throw new HttpStatusError(status, {
      where: exchange.url,
      next:
        status === 404
          ? 'upstream may have moved or removed the file: check the URL in the definition'
          : status === 429 || status >= 500
            ? 'try again later, or name a mirror (--mirror URL)'
            : 'check the URL and any credentials or proxy',
    });
  if (have > 0 && (headerOf(headers, 'content-range') ?? '').startsWith(`bytes ${have}-`)) return have;
  const failure = new HttpError('protocol', 'the server sends another part of the file than was asked for', {
    where: exchange.url,
    next: 'check the URL and what is between (a proxy, a mirror)',
  });
  if (have === 0) throw failure;
  await removePart(part);
  throw new RetryableError(failure);
}

/** Compressions whose files are served with the same Content-Encoding by some servers: the bytes are those of the file. */
const SUFFIXES: Readonly<Record<string, RegExp>> = {
  gzip: /\.t?gz$/,
  'x-gzip': /\.t?gz$/,
  zstd: /\.zst$/,
  'x-bzip2': /\.bz2$/,
  'x-xz': /\.xz$/,
};

/** A file without a digest must come as it is: nothing was asked to be compressed on the way. */
function assertPlain({ headers, url }: HttpExchange, { name, sha256 }: Download): void {
  const encoding = (headerOf(headers, 'content-encoding') ?? 'identity').trim().toLowerCase();
  if (sha256 !== undefined || encoding === '' || encoding === 'identity' || SUFFIXES[encoding]?.test(new URL(name).pathname) === true)
    return;
  throw new HttpError('encoding', `the server sends a compressed response (${encoding.slice(0, 40)}), which was not asked for`, {
    where: url,
    next: 'check the URL and what is between (a proxy, a mirror)',
  });
}

/** Writes a response into the part, behind what is there of it. */
async function writePart(exchange: HttpExchange, have: number, download: Download): Promise<void> {
  const { part, size, options, sha256 } = download;
  // A part that is whole already: its digest decides.
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
    throw systemFailure(cause, part) ?? cause; // a write to an open file names none
  }
  // The server ended the body in good order, so it is no failure of the network that another origin could stand in for.
  if (size !== undefined && counter.received() < size)
    throw new HttpError('too-short', `the server sent ${counter.received()} bytes where ${size} are pinned`, {
      where: exchange.url,
      next: 'check the pin and the URL; nothing was kept',
    });
}

/** Failures after which what is there of the file is worth keeping: another attempt goes on behind it. */
const KEEPING = new Set(['unreachable', 'tls', 'timeout', 'broken', 'rate-limited', 'status', 'redirect', 'request']);

/** Attempts until the part is whole, by its length. `onResume` is called where its bytes are of more than one response. */
async function transfer(download: Download, onResume: () => void): Promise<void> {
  const { url, part, limit, options } = download;
  const { origin } = new URL(url);
  const known = unreachable.get(origin);
  if (known !== undefined) throw new UnreachableError(known.message, { where: withoutPassword(url), next: known.next, cause: known });
  await makeFolder(dirname(part));
  options.report?.({ type: 'step', text: `fetching ${withoutPassword(url)}` });
  let have = 0;
  try {
    await httpSend(
      url,
      {
        attempts: options.attempts ?? 5,
        pause: options.pause,
        signal: options.signal,
        limits: { waits: LONGEST_WAIT, total: timeFor(limit) + LONGEST_WAIT, ...options.limits },
        whenLimited: 'try again then, or name a mirror (--mirror URL)',
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
  } catch (error) {
    if (error instanceof UnreachableError) unreachable.set(origin, error);
    if (error instanceof UserError && !(error instanceof HttpError && KEEPING.has(error.code))) await removePart(part);
    throw error;
  }
}

/**
 * Attempts until the part is whole and `check` accepts it. Where bytes of another response are in it, which may be of a file that has changed
 * since, there is one more try from zero before an error says that the server has the wrong bytes.
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
        error instanceof DigestError || (error instanceof HttpError && ['too-large', 'too-short', 'protocol'].includes(error.code));
      if (isWrong) await removePart(part);
      if (!isWrong || !isResumed || isLast) throw error;
    }
  }
}

async function download(store: Store, pin: PinnedUrl, options: FetchOptions): Promise<string> {
  const url = mirrored(pin.url, options.mirror);
  const part = store.partial(pin.sha256);
  await fetchPart({ ...pin, url, name: pin.url, part, limit: pin.size ?? MOST_BYTES, resume: true, options }, async () => {
    const got = await hashFile(part);
    if (got !== pin.sha256)
      throw new DigestError(`wrong digest: sha256 ${pin.sha256} is pinned, the server sent ${got}`, {
        where: withoutPassword(url),
        next: 'do not change the pin before you know why: upstream replaced the file, or something on the way did',
      });
  });
  return (await store.keep(part, pin.sha256)).path;
}

/**
 * The bytes of a pinned URL, from the store or over HTTP: resumed, retried with backoff, length and digest checked.
 * Two processes that want the same fetch it once. Throws UnreachableError when there is no connection to the host,
 * UserError for everything else; nothing wrong is ever kept.
 */
export async function fetchBlob(store: Store, pin: PinnedUrl, given: FetchOptions = {}): Promise<string> {
  const options = { ...given, signal: interruption(given.signal) };
  const there = await store.blob(pin.sha256);
  if (there !== undefined) return there;
  return store.lock(`fetch-${pin.sha256}`, async () => (await store.blob(pin.sha256)) ?? download(store, pin, options));
}

/**
 * Fetches a URL whose digest is not known yet into the store, of at most `max` bytes, for pinning: whoever calls must check what came.
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
    await fetchPart({ url: mirrored(name, options.mirror), name, part, limit: max, resume, options }, async () => undefined);
    return store.keep(part);
  });
}
