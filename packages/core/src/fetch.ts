import { createWriteStream } from 'node:fs';
import { rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { EnvHttpProxyAgent, interceptors, request, type Dispatcher } from 'undici';
import { checkProxies, connectionAdvice } from './connection.ts';
import { systemFailure } from './errno.ts';
import { messageOf, UserError } from './errors.ts';
import { hashFile, makeFolder } from './files.ts';
import { interruption } from './interrupt.ts';
import { digestOf, type Store } from './store.ts';
import type { Report } from './types.ts';

/** A host that cannot be reached: DNS, refused, time-outs, TLS, resets. The only error that `--origin auto` may fall back on. */
export class UnreachableError extends UserError {}

/** The host answered, but not with the file. */
export class AnswerError extends UserError {
  /** HTTP status. */
  readonly status: number;
  constructor(status: number, about: { where: string; next: string; cause?: unknown }) {
    super(`the server answered ${status}`, about);
    this.name = 'AnswerError';
    this.status = status;
  }
}

/** Bytes from outside: a URL and what they must be. */
export interface PinnedUrl {
  readonly url: string;
  /** Lowercase hex. */
  readonly sha256: string;
  /** In bytes, where known. */
  readonly size?: number;
}

/** A download under way; without a digest it is resumed only where `resume` says so. */
type Wanted = Omit<PinnedUrl, 'sha256'> & { readonly sha256?: string };

export interface FetchOptions {
  readonly report?: Report;
  /** `https://host/path` is fetched as `<mirror>/host/path`. */
  readonly mirror?: string;
  readonly signal?: AbortSignal | undefined;
  /** Attempts in all; 5 unless said. */
  readonly attempts?: number;
  /** For fetchNew: what an earlier attempt left is continued. For names that never change their bytes, whose signature is checked. */
  readonly resume?: boolean;
  /** First pause between attempts in milliseconds, doubled each time; 500 unless said. */
  readonly pause?: number;
  /** A connection slower than this many bytes a second over `window` milliseconds is given up; 1024 over 30 s unless said. */
  readonly slowest?: { readonly bytesPerSecond: number; readonly window: number };
}

/** Where a URL is fetched from, given a mirror. */
export function mirrored(url: string, mirror: string | undefined): string {
  if (mirror === undefined) return url;
  const { host, pathname, search } = new URL(url);
  return `${mirror.replace(/\/+$/, '')}/${host}${pathname}${search}`;
}

/** A failure that another attempt may mend; `wait` as the server asked, in milliseconds. */
class Again extends Error {
  readonly wait: number | undefined;
  /** True when no answer came from the host at all. */
  readonly unreachable: boolean;
  /** HTTP status, when the host answered and the answer was no. */
  readonly status: number | undefined;
  constructor(message: string, about: { wait?: number; unreachable?: boolean; status?: number; cause?: unknown } = {}) {
    super(message, { cause: about.cause });
    this.wait = about.wait;
    this.unreachable = about.unreachable ?? false;
    this.status = about.status;
  }
}

let agent: Dispatcher | undefined;
/**
 * One dispatcher for the process, for all that speaks HTTP: proxies from the environment, redirects followed.
 * Throws a UsageError for a proxy that is not an HTTP proxy.
 */
export function dispatcher(): Dispatcher {
  checkProxies();
  return (agent ??= new EnvHttpProxyAgent({ connect: { timeout: 10_000 } }).compose(interceptors.redirect({ maxRedirections: 10 })));
}

/** Why servers did not answer, by their origins: asked once per process, not once per file. */
const unreachable = new Map<string, Again>();

/** The error for a file of a server that does not answer. */
function unreachableError(url: string, cause: Again): UnreachableError {
  return new UnreachableError(`${new URL(url).host} cannot be reached: ${cause.message}`, {
    where: url,
    next: connectionAdvice(url, cause),
    cause,
  });
}

/** How long a server is waited for that asks for it, in milliseconds. */
const LONGEST_WAIT = 300_000;

/** Retry-After in milliseconds from now (RFC 9110 10.2.3: seconds or a date; a past date is now); undefined for what is neither. */
export function retryAfter(value: string | string[] | undefined): number | undefined {
  if (typeof value !== 'string') return undefined;
  const seconds = /^\d+$/.test(value) ? Number(value) : (Date.parse(value) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.max(seconds, 0) * 1000 : undefined;
}

/** Counts bytes, keeps the rate and the size, and tells the watcher. */
function meter(
  already: number,
  total: number | undefined,
  options: FetchOptions & { name: string; limit: number | undefined },
): Transform & { received: () => number } {
  const { bytesPerSecond, window } = options.slowest ?? { bytesPerSecond: 1024, window: 30_000 };
  let done = already;
  let seen = already;
  let told = 0;
  const transform = new Transform({
    transform(chunk: Buffer, _, next) {
      done += chunk.length;
      if (options.limit !== undefined && done > options.limit) {
        next(
          new UserError(`the server sends more than the pinned ${options.limit} bytes`, {
            where: options.name,
            next: 'check the pin; nothing was kept',
          }),
        );
        return;
      }
      const now = Date.now();
      if (now - told > 200) {
        told = now;
        options.report?.({ type: 'progress', what: options.name, done, ...(total === undefined ? {} : { total }) });
      }
      next(null, chunk);
    },
  });
  const timer = setInterval(() => {
    if (done - seen < (bytesPerSecond * window) / 1000) transform.destroy(new Again(`slower than ${bytesPerSecond} bytes a second`));
    seen = done;
  }, window);
  transform.once('close', () => clearInterval(timer));
  return Object.assign(transform, { received: () => done });
}

/** One attempt: asks for what is missing of the part, appends it, and checks the length. */
async function attempt(url: string, part: string, pin: Wanted, options: FetchOptions): Promise<void> {
  if (pin.sha256 === undefined && options.resume !== true) await rm(part, { force: true }); // what is there may be of another file
  const have = await stat(part).then(
    ({ size }) => size,
    () => 0,
  );
  let response: Dispatcher.ResponseData;
  try {
    response = await request(url, {
      dispatcher: dispatcher(),
      headers: { 'user-agent': 'flatcar-ext', 'accept-encoding': 'identity', ...(have > 0 ? { range: `bytes=${have}-` } : {}) },
      headersTimeout: 30_000,
      bodyTimeout: 60_000,
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    });
  } catch (cause) {
    options.signal?.throwIfAborted();
    throw new Again(messageOf(cause), { unreachable: true, cause });
  }
  const { statusCode, headers, body } = response;
  if (statusCode === 416) {
    // The part is longer than the file, or already whole: its digest decides.
    await body.dump();
    if ((await hashFile(part)) === pin.sha256) return;
    await rm(part, { force: true });
    throw new Again('the part that was there does not fit the file');
  }
  if (statusCode === 429 || statusCode >= 500) {
    await body.dump();
    const asked = retryAfter(headers['retry-after']);
    const wait = asked === undefined ? undefined : Math.min(asked, LONGEST_WAIT);
    throw new Again(`the server answered ${statusCode}`, { status: statusCode, ...(wait === undefined ? {} : { wait }) });
  }
  if (statusCode !== 200 && statusCode !== 206) {
    await body.dump();
    throw new AnswerError(statusCode, {
      where: url,
      next:
        statusCode === 404
          ? 'upstream may have moved or removed the file: check the URL in the definition'
          : 'check the URL and any credentials or proxy',
    });
  }
  // A server that ignores Range sends the whole file again, and one that lies about it is found by the digest.
  const resumed = statusCode === 206 && have > 0 && String(headers['content-range'] ?? '').startsWith(`bytes ${have}-`);
  if (statusCode === 206 && !resumed) {
    await body.dump();
    await rm(part, { force: true });
    throw new Again('the server sent another range than was asked for');
  }
  const start = resumed ? have : 0;
  const length = headers['content-length'] === undefined ? undefined : start + Number(headers['content-length']);
  const total = pin.size ?? length;
  const counter = meter(start, total, { ...options, name: pin.url, limit: pin.size });
  try {
    await pipeline(
      body,
      counter,
      createWriteStream(part, { flags: resumed ? 'a' : 'w', flush: true }),
      ...(options.signal === undefined ? [] : [{ signal: options.signal }]),
    );
  } catch (cause) {
    options.signal?.throwIfAborted();
    if (cause instanceof UserError || cause instanceof Again) throw cause;
    const failed = systemFailure(cause);
    if (failed !== undefined) throw failed;
    throw new Again(`the connection broke after ${counter.received()} bytes: ${messageOf(cause)}`, { cause });
  }
  // The server ended the body in good order, so it is no failure of the network that another origin could stand in for.
  if (total !== undefined && counter.received() < total)
    throw new UserError(`the server sent ${counter.received()} bytes where ${total} are pinned`, {
      where: url,
      next: 'check the pin and the URL; nothing was kept',
    });
}

/** Attempts until the part is whole, by its length. */
async function transfer(url: string, part: string, pin: Wanted, options: FetchOptions): Promise<void> {
  const { origin } = new URL(url);
  const known = unreachable.get(origin);
  if (known !== undefined) throw unreachableError(url, known);
  await makeFolder(dirname(part));
  options.report?.({ type: 'step', text: `fetching ${url}` });

  const attempts = options.attempts ?? 5;
  let pause = options.pause ?? 500;
  for (let count = 1; ; count += 1) {
    try {
      await attempt(url, part, pin, options);
      break;
    } catch (error) {
      if (!(error instanceof Again)) {
        if (error instanceof UserError) await rm(part, { force: true });
        throw error;
      }
      // A name that does not resolve or a closed port will not change within seconds.
      const hopeless =
        error.unreachable &&
        /ENOTFOUND|ECONNREFUSED|EAI_AGAIN|ENETUNREACH|CERT|SIGNATURE/.test(
          `${error.message} ${messageOf(error.cause)} ${String((error.cause as NodeJS.ErrnoException).code)}`,
        );
      if (count >= attempts || (hopeless && count >= 2)) {
        if (error.status !== undefined)
          throw new AnswerError(error.status, { where: url, next: 'try again later, or name a mirror (--mirror URL)', cause: error });
        if (error.unreachable) unreachable.set(origin, error);
        throw unreachableError(url, error);
      }
      await sleep(error.wait ?? pause, undefined, options.signal === undefined ? {} : { signal: options.signal });
      pause = Math.min(pause * 2, 30_000);
    }
  }
}

async function download(store: Store, pin: PinnedUrl, options: FetchOptions): Promise<string> {
  const url = mirrored(pin.url, options.mirror);
  const part = store.partial(pin.sha256);
  await transfer(url, part, pin, options);
  const got = await hashFile(part);
  if (got !== pin.sha256) {
    await rm(part, { force: true });
    throw new UserError(`wrong digest: sha256 ${pin.sha256} is pinned, the server sent ${got}`, {
      where: url,
      next: 'do not change the pin before you know why: upstream replaced the file, or something on the way did',
    });
  }
  return (await store.keep(part, pin.sha256)).path;
}

/**
 * The bytes of a pinned URL, from the store or over HTTP: resumed, retried with backoff, length and digest checked.
 * Two processes that want the same fetch it once. Throws UnreachableError when the host does not answer,
 * UserError for everything else; nothing wrong is ever kept.
 */
export async function fetchBlob(store: Store, pin: PinnedUrl, given: FetchOptions = {}): Promise<string> {
  const options = { ...given, signal: interruption(given.signal) };
  const there = await store.blob(pin.sha256);
  if (there !== undefined) return there;
  return store.lock(`fetch-${pin.sha256}`, async () => (await store.blob(pin.sha256)) ?? download(store, pin, options));
}

/**
 * Fetches a URL whose digest is not known yet into the store, for pinning: whoever calls must check what came.
 * Throws as fetchBlob does.
 */
export async function fetchNew(
  store: Store,
  url: string,
  given: FetchOptions = {},
): Promise<{ path: string; sha256: string; size: number }> {
  const options = { ...given, signal: interruption(given.signal) };
  const name = digestOf({ url });
  return store.lock(`fetch-${name}`, async () => {
    const part = store.partial(name);
    await transfer(mirrored(url, options.mirror), part, { url }, options);
    return store.keep(part);
  });
}
