import { Readable } from 'node:stream';
import type { Dispatcher } from 'undici';
import { HttpError, RetryableError } from './errors.ts';
import { failureOf, shown } from './failures.ts';
import type { HttpExchange, HttpLimits, HttpOptions } from './options.ts';
import { checkProxies, connectionAdvice } from './proxy.ts';
import { headerOf } from './rate-limit.ts';
import { headersFor, nextHop } from './redirects.ts';

/** Until there is a connection, including TLS and a proxy's tunnel, in milliseconds. */
const CONNECT_MS = 10_000;
/** A response's headers in bytes, as most servers limit those of requests. */
const MOST_HEADERS = 16 << 10;
/** Interim responses (1xx) before the response itself: a server sends one or two. */
const MOST_INTERIM = 10;
const REDIRECTS = 10;
/** A body of up to this many bytes is sent in one write. */
const SENT_AT_ONCE = 1 << 20;

type Undici = typeof import('undici');

let agent: Dispatcher | undefined;
/** One dispatcher for the process: proxies from the environment, no redirects, HTTP/1.1 only. The client limits times, except that of a connection. */
function dispatcher({ EnvHttpProxyAgent, Pool }: Undici): Dispatcher {
  checkProxies();
  return (agent ??= new EnvHttpProxyAgent({
    connectTimeout: CONNECT_MS,
    maxHeaderSize: MOST_HEADERS,
    allowH2: false,
    headersTimeout: 0,
    bodyTimeout: 0,
    // The proxy agent sends the request for a tunnel itself, without a signal.
    clientFactory: (origin, options) => new Pool(origin, { ...options, headersTimeout: CONNECT_MS }),
  }));
}

/** What all requests of an attempt have in common. */
export interface Attempt {
  readonly options: HttpOptions;
  readonly limits: HttpLimits;
  /** The origin that the headers are for. */
  readonly own: string;
  readonly signal: AbortSignal;
}

/** Slices of a body; calls `onChunk` before each, and `onEnd`. */
async function* sending(body: Buffer | Readable, onChunk: () => void, onEnd: () => void): AsyncGenerator<Buffer> {
  const chunks = Buffer.isBuffer(body) ? [body] : (body as AsyncIterable<Buffer>);
  for await (const chunk of chunks)
    for (let at = 0; at < chunk.length; at += 1 << 16) {
      onChunk();
      yield chunk.subarray(at, at + (1 << 16));
    }
  onEnd();
}

/** The chunks of a response's body. Throws a RetryableError if it stalls or breaks; pauses of its reader do not count. */
async function* receiving(
  body: Readable,
  url: URL,
  { limits: { slowest }, signal }: Attempt,
  stop: AbortController,
): AsyncGenerator<Buffer> {
  const { bytesPerSecond, window } = slowest;
  let received = 0;
  let isWaiting = true;
  /** Milliseconds of this window that the reader used. */
  let busy = 0;
  const timer = setInterval(() => {
    if (isWaiting && busy < window / 2 && received < (bytesPerSecond * window) / 1000) {
      const what = `${url.host} sends fewer than ${bytesPerSecond} bytes a second`;
      stop.abort(new RetryableError(new HttpError('timeout', what, { where: shown(url), next: connectionAdvice(url.href, undefined) })));
    }
    received = 0;
    busy = 0;
  }, window);
  try {
    for await (const chunk of body as AsyncIterable<Buffer>) {
      received += chunk.length;
      isWaiting = false;
      const given = Date.now();
      yield chunk;
      busy += Date.now() - given;
      isWaiting = true;
    }
  } catch (cause) {
    signal.throwIfAborted();
    throw stop.signal.aborted ? stop.signal.reason : failureOf(cause, url);
  } finally {
    clearInterval(timer);
  }
}

const close = (body: Readable): void => {
  body.on('error', () => undefined).destroy();
};

/** Sends one request, and waits for the headers of its response. */
async function sendOnce(
  url: URL,
  { options, limits, own, signal }: Attempt,
): Promise<{ response: Dispatcher.ResponseData; stop: AbortController }> {
  const { method = 'GET' } = options;
  const stop = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  let isAnswered = false;
  const within = (ms: number, what: string): void => {
    clearTimeout(timer);
    if (isAnswered) return; // the end of a body may be reported after its response
    const failure = new HttpError('timeout', what, { where: shown(url), next: connectionAdvice(url.href, undefined) });
    timer = setTimeout(() => stop.abort(new RetryableError(failure)), ms);
  };
  const forHeaders = (): void => within(limits.headers, `${url.host} does not respond within ${limits.headers / 1000} s`);
  let interim = 0;
  const headers = typeof options.headers === 'function' ? await options.headers() : (options.headers ?? {});
  const given = options.body?.();
  const body = typeof given === 'string' ? Buffer.from(given) : given;
  const onChunk = (): void => within(limits.slowest.window, `${url.host} does not accept the request body`);
  // A small body is sent together with the headers: a server with conditional writes compares them a moment before it writes.
  const isMetered = body !== undefined && !(Buffer.isBuffer(body) && body.length <= SENT_AT_ONCE);
  const undici = await import('undici'); // not at start: many commands ask nobody
  forHeaders();
  try {
    const length: Record<string, string> = Buffer.isBuffer(body) ? { 'content-length': String(body.length) } : {};
    const response = await undici.request(url, {
      dispatcher: dispatcher(undici),
      method,
      headers: { ...length, ...headersFor(url, own, headers) },
      body: isMetered ? Readable.from(sending(body, onChunk, forHeaders), { objectMode: false }) : (body ?? null),
      signal: AbortSignal.any([stop.signal, signal]),
      onInfo: () => {
        interim += 1;
        if (interim > MOST_INTERIM)
          stop.abort(
            new HttpError('protocol', `the server sends more than ${MOST_INTERIM} interim responses (1xx)`, {
              where: shown(url),
              next: 'check the URL and the proxy settings',
            }),
          );
      },
    });
    return { response, stop };
  } catch (cause) {
    if (body instanceof Readable) close(body);
    signal.throwIfAborted();
    throw stop.signal.aborted ? stop.signal.reason : failureOf(cause, url);
  } finally {
    isAnswered = true;
    clearTimeout(timer);
  }
}

/** Sends a request, follows its redirects, and passes the response to `read`; always closes it. */
export async function exchange<T>(first: string, attempt: Attempt, read: (exchange: HttpExchange) => Promise<T>): Promise<T> {
  const { options, signal } = attempt;
  const { method = 'GET' } = options;
  const most = method === 'GET' || method === 'HEAD' ? (options.redirects ?? REDIRECTS) : 0;
  let url = new URL(first);
  for (let count = 0; ; count += 1) {
    const { response, stop } = await sendOnce(url, attempt);
    const { statusCode: status, headers } = response;
    const body: Readable = response.body;
    const location = headerOf(headers, 'location');
    if (most > 0 && [301, 302, 303, 307, 308].includes(status) && location !== undefined) {
      close(body);
      url = nextHop(url, first, location, count, most);
      continue;
    }
    const length = headerOf(headers, 'content-length');
    try {
      return await read({
        status,
        headers,
        url: shown(url),
        length: length === undefined ? undefined : Number(length),
        body: receiving(body, url, attempt, stop),
      });
    } catch (error) {
      signal.throwIfAborted();
      throw error;
    } finally {
      close(body);
    }
  }
}
