import { Readable } from 'node:stream';
import { EnvHttpProxyAgent, errors as undiciErrors, Pool, request, type Dispatcher } from 'undici';
import { UserError } from '../util/errors.ts';
import { interruption } from '../util/interrupt.ts';
import { HttpError, HttpStatusError, RetryableError, UnreachableError } from './errors.ts';
import { mirrored } from './mirror.ts';
import { checkProxies, connectionAdvice, withoutPassword } from './proxy.ts';
import { headerOf, waitOf, type ResponseHeaders } from './rate-limit.ts';
import { retrying } from './retry.ts';

/** How long a server may take. */
export interface HttpLimits {
  /** From the end of the request until its headers, in milliseconds: one time for all interim responses (1xx). 30 s by default. */
  readonly headers: number;
  /** A body that brings fewer bytes a second over `window` milliseconds has stalled. 1024 over 30 s by default. */
  readonly slowest: { readonly bytesPerSecond: number; readonly window: number };
  /** Sum of the pauses between attempts, those that the server asks for included, in milliseconds. One minute by default. */
  readonly waits: number;
  /** Everything together, all attempts and pauses, in milliseconds. Five minutes by default. */
  readonly total: number;
}

export const DEFAULT_LIMITS: HttpLimits = {
  headers: 30_000,
  slowest: { bytesPerSecond: 1024, window: 30_000 },
  waits: 60_000,
  total: 300_000,
};

/** Until there is a connection, TLS and a proxy's tunnel included, in milliseconds. */
const CONNECT_MS = 10_000;
/** A response's headers in bytes, as most servers limit those of requests. */
const MOST_HEADERS = 16 << 10;
/** Interim responses (1xx) before the response itself: a server sends one or two. */
const MOST_INTERIM = 10;
const REDIRECTS = 10;
const ATTEMPTS = 4;
const PAUSE_MS = 500;
/** What is left of the time for a body of known size beside the time that its bytes may take, in milliseconds. */
const EXTRA_MS = 900_000;
/** A body up to so many bytes is sent in one write. */
const SENT_AT_ONCE = 1 << 20;
/** The average of a whole body, in bytes a second: a modem with 64 kbit/s. */
const SLOWEST_AVERAGE = 8 << 10;

export type HttpMethod = 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
export type HttpBody = Buffer | string | Readable;

/** A request, and how much patience there is for its response. */
export interface HttpOptions {
  /** GET by default. */
  readonly method?: HttpMethod;
  /**
   * Sent with each attempt; a function is called for each. Credentials among them go to the URL's own origin only: after a redirect to
   * another origin, or through a mirror, only headers that describe what is accepted are sent.
   */
  readonly headers?: Readonly<Record<string, string>> | (() => Promise<Readonly<Record<string, string>>>);
  /** Called for each attempt. */
  readonly body?: () => HttpBody;
  /** `https://host/path` is requested as `<mirror>/host/path`. */
  readonly mirror?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Redirects to follow, 10 by default; 0 gives the caller the response that redirects. Only GET and HEAD follow any. */
  readonly redirects?: number;
  /** Attempts in all, 4 by default. */
  readonly attempts?: number;
  /** First pause between attempts in milliseconds, 500 by default, doubled each time. */
  readonly pause?: number;
  /** False for a request that must not reach the server twice: it is repeated only where it surely did not. Default: all methods but POST and PATCH. */
  readonly idempotent?: boolean;
  readonly limits?: Partial<HttpLimits>;
  /** What to do about a rate limit, such as which variable has a token. */
  readonly whenLimited?: string;
}

/** A response whose body has not been read: it may be read once, and is closed by the client. */
export interface HttpExchange {
  readonly status: number;
  readonly headers: ResponseHeaders;
  /** Where it came from after redirects, without credentials. */
  readonly url: string;
  /** Content-Length in bytes. */
  readonly length: number | undefined;
  readonly body: AsyncIterable<Buffer>;
}

/** A response that was read. */
export interface HttpResponse {
  readonly status: number;
  readonly headers: ResponseHeaders;
  readonly url: string;
  readonly bytes: Buffer;
}

let agent: Dispatcher | undefined;
/** One dispatcher for the process: proxies from the environment, no redirects, HTTP/1.1 only. Time is limited by the client, except for connections. */
function dispatcher(): Dispatcher {
  checkProxies();
  return (agent ??= new EnvHttpProxyAgent({
    connectTimeout: CONNECT_MS,
    maxHeaderSize: MOST_HEADERS,
    allowH2: false,
    headersTimeout: 0,
    bodyTimeout: 0,
    // The request for a tunnel is the proxy agent's own, and has no signal.
    clientFactory: (origin, options) => new Pool(origin, { ...options, headersTimeout: CONNECT_MS }),
  }));
}

/** The total time for a body of so many bytes, in milliseconds. */
export const timeFor = (bytes: number): number => EXTRA_MS + (bytes / SLOWEST_AVERAGE) * 1000;

const errorsOf = (error: unknown): NodeJS.ErrnoException[] => {
  const found: NodeJS.ErrnoException[] = [];
  for (let at = error, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth += 1) {
    found.push(at);
    if (at instanceof AggregateError) found.push(...(at.errors as NodeJS.ErrnoException[]));
  }
  return found;
};
/** Its code, where that is a text: DOMExceptions have numbers. */
const codeOf = ({ code }: NodeJS.ErrnoException): string => (typeof code === 'string' ? code : '');

/** Codes of TLS: OpenSSL's and Node's, and those of certificates (X509_V_ERR_* as Node spells them). */
const TLS =
  /^(?:ERR_TLS_|ERR_SSL_|CERT_|UNABLE_TO_|DEPTH_ZERO_|SELF_SIGNED_|CRL_|INVALID_CA$|INVALID_PURPOSE$|HOSTNAME_MISMATCH$|EPROTO$|UND_ERR_PRX_TLS$)/;
/** A proxy that opens no tunnel, and a connection that does not come about in time. Nothing else of ours aborts a request with that code. */
const NOT_CONNECTED = new Set(['UND_ERR_CONNECT_TIMEOUT', 'UND_ERR_ABORTED', 'UND_ERR_PRX_CONN']);

/** What an exception of undici or of a socket means: a RetryableError where another attempt may help. */
function failureOf(cause: unknown, url: URL): unknown {
  const errors = errorsOf(cause);
  const has = (test: (error: NodeJS.ErrnoException) => boolean): boolean => errors.some(test);
  const where = shown(url);
  const [first] = errors;
  const said = (errors.find(({ message }) => message !== '') ?? first)?.message ?? String(cause);
  const next = connectionAdvice(url.href, cause);
  if (has((error) => TLS.test(codeOf(error))))
    return new HttpError('tls', `no trusted connection to ${url.host}: ${said}`, { where, next, cause });
  if (has((error) => NOT_CONNECTED.has(codeOf(error)) || /^(?:connect$|getaddrinfo|query)/.test(error.syscall ?? '')))
    return new RetryableError(new UnreachableError(`${url.host} cannot be reached: ${said}`, { where, next, cause }));
  if (has((error) => error instanceof undiciErrors.HTTPParserError || codeOf(error) === 'UND_ERR_HEADERS_OVERFLOW'))
    return new HttpError('protocol', `the response of ${url.host} is not valid HTTP: ${said}`, {
      where,
      next: 'check the URL and the proxy settings',
      cause,
    });
  if (has((error) => ['UND_ERR_INVALID_ARG', 'UND_ERR_NOT_SUPPORTED', 'ERR_INVALID_URL'].includes(codeOf(error))))
    return new HttpError('request', `the request cannot be sent: ${said}`, {
      where,
      next: 'check the URL, and tokens for line ends',
      cause,
    });
  if (has((error) => /^(?:UND_ERR_|E(?:CONNRESET|PIPE|CONNABORTED|TIMEDOUT|NETRESET|NOTCONN)$)/.test(codeOf(error))))
    return new RetryableError(new HttpError('broken', `the connection to ${url.host} broke: ${said}`, { where, next, cause }));
  return cause;
}

/** A URL for messages: without user and password. */
const shown = (url: URL | string): string => withoutPassword(typeof url === 'string' ? url : url.href);

/** Headers that another origin may see. */
const HARMLESS = new Set(['accept', 'accept-encoding', 'range', 'if-range', 'user-agent']);

/** The headers of one request: all of them at the origin that they are for. User and password of a URL are for its own origin. */
function headersFor(url: URL, own: string, given: Readonly<Record<string, string>>): Record<string, string> {
  const headers: Record<string, string> = { 'user-agent': 'flatcar-ext', 'accept-encoding': 'identity' };
  for (const [name, value] of Object.entries(given))
    if (url.origin === own || HARMLESS.has(name.toLowerCase())) headers[name.toLowerCase()] = value;
  if (url.username !== '' && headers['authorization'] === undefined) {
    const pair = `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`;
    headers['authorization'] = `Basic ${Buffer.from(pair).toString('base64')}`;
  }
  return headers;
}

/** Where a response redirects to. Throws an HttpError where that must not be followed. */
function nextHop(from: URL, first: string, location: string, count: number, most: number): URL {
  const where = shown(first);
  const next = URL.canParse(location, from.href) ? new URL(location, from.href) : undefined;
  if (next === undefined || !/^https?:$/.test(next.protocol))
    throw new HttpError('redirect', `the server redirects to '${location.slice(0, 200)}', which is not a valid http(s) URL`, {
      where,
      next: 'check the URL and the redirects of the server',
    });
  // Whatever a server says of credentials is not ours.
  next.username = '';
  next.password = '';
  if (from.protocol === 'https:' && next.protocol === 'http:')
    throw new HttpError('redirect', `the server redirects from https to ${next.origin}, where anybody on the way could answer`, {
      where,
      next: 'let it redirect to https, or give the URL that it redirects to',
    });
  if (count >= most)
    throw new HttpError('redirect', `the server redirects more than ${most} times, the last time to ${next.origin}${next.pathname}`, {
      where,
      next: 'check the URL and the redirects of the server',
    });
  return next;
}

/** What all requests of an attempt share. */
interface Attempt {
  readonly options: HttpOptions;
  readonly limits: HttpLimits;
  /** The origin that the headers are for. */
  readonly own: string;
  readonly signal: AbortSignal;
}

/** Slices of a body, told of as they are sent. */
async function* sending(body: Buffer | Readable, onChunk: () => void, onEnd: () => void): AsyncGenerator<Buffer> {
  const chunks = Buffer.isBuffer(body) ? [body] : (body as AsyncIterable<Buffer>);
  for await (const chunk of chunks)
    for (let at = 0; at < chunk.length; at += 1 << 16) {
      onChunk();
      yield chunk.subarray(at, at + (1 << 16));
    }
  onEnd();
}

/** The chunks of a response's body. Fails with a RetryableError where it stalls or breaks; its reader's own pauses do not count. */
async function* receiving(
  body: Readable,
  url: URL,
  { limits: { slowest }, signal }: Attempt,
  stop: AbortController,
): AsyncGenerator<Buffer> {
  const { bytesPerSecond, window } = slowest;
  let received = 0;
  let isWaiting = true;
  /** Milliseconds of this window that the reader took. */
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
    if (isAnswered) return; // the end of a body may be told of after the response to it
    const failure = new HttpError('timeout', what, { where: shown(url), next: connectionAdvice(url.href, undefined) });
    timer = setTimeout(() => stop.abort(new RetryableError(failure)), ms);
  };
  const forHeaders = (): void => within(limits.headers, `${url.host} does not answer within ${limits.headers / 1000} s`);
  let interim = 0;
  const headers = typeof options.headers === 'function' ? await options.headers() : (options.headers ?? {});
  const given = options.body?.();
  const body = typeof given === 'string' ? Buffer.from(given) : given;
  const onChunk = (): void => within(limits.slowest.window, `${url.host} does not take what is sent`);
  // What is small is sent at once with the headers: a server that compares before it has read the body does so a moment before it writes.
  const isMetered = body !== undefined && !(Buffer.isBuffer(body) && body.length <= SENT_AT_ONCE);
  forHeaders();
  try {
    const length: Record<string, string> = Buffer.isBuffer(body) ? { 'content-length': String(body.length) } : {};
    const response = await request(url, {
      dispatcher: dispatcher(),
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

/** Sends a request, follows its redirects, and hands the response to `read`; closes it whatever happens. */
async function exchange<T>(first: string, attempt: Attempt, read: (exchange: HttpExchange) => Promise<T>): Promise<T> {
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

/** Statuses after which the same request may succeed. */
const isPassing = (status: number): boolean => status === 408 || status === 425 || status === 429 || status >= 500;

/** Whether a failed request that must not arrive twice may be sent again: it was not sent, or the server refused it for now. */
const isSafe = ({ failure, after }: RetryableError): boolean => failure.code === 'unreachable' || after !== undefined;

/**
 * Sends a request and reads its response by `read`, both again where the connection breaks, the server is busy or says when to come back
 * (Retry-After and rate limits). `read` gets every response but those that are tried again; it may throw a RetryableError, and must not
 * keep what a failed attempt gave it. Throws an HttpError, and an UnreachableError where there was no connection.
 */
export async function httpSend<T>(url: string, options: HttpOptions, read: (exchange: HttpExchange) => Promise<T>): Promise<T> {
  const limits = { ...DEFAULT_LIMITS, ...options.limits };
  const { method = 'GET', attempts = ATTEMPTS, pause = PAUSE_MS } = options;
  const isIdempotent = options.idempotent ?? !['POST', 'PATCH'].includes(method);
  if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol))
    throw new HttpError('request', `'${shown(url)}' is not a valid http(s) URL`, { next: 'correct the URL' });
  const at = mirrored(url, options.mirror);
  const outer = interruption(options.signal);
  const clock = new AbortController();
  const timer = setTimeout(() => {
    clock.abort(
      new HttpError(
        'timeout',
        `the request to ${new URL(at).host} takes longer than ${Math.round(limits.total / 1000)} s, all attempts together`,
        {
          where: shown(at),
          next: connectionAdvice(at, undefined),
        },
      ),
    );
  }, limits.total);
  const signal = outer === undefined ? clock.signal : AbortSignal.any([outer, clock.signal]);
  const attempt = { options, limits, own: new URL(url).origin, signal };
  try {
    return await retrying(
      (last) =>
        exchange(at, attempt, async (response) => {
          const { status, headers } = response;
          const after = waitOf(status, headers);
          const failure = (): HttpStatusError => new HttpStatusError(status, { where: shown(url), next: 'try again later' });
          // The last one is the caller's, who may know more about it; a time to come back at is said by the error of the rate limit.
          if (after !== undefined || (isPassing(status) && isIdempotent && !last)) throw new RetryableError(failure(), after);
          return read(response);
        }).catch((error: unknown) => {
          throw error instanceof RetryableError && !isIdempotent && !isSafe(error) ? error.failure : error;
        }),
      {
        attempts,
        pause,
        longestWait: limits.waits,
        signal,
        limited: { where: shown(url), next: options.whenLimited ?? 'try again then' },
      },
    );
  } finally {
    clearTimeout(timer);
  }
}

/** Reads a body of at most `max` bytes. Throws an HttpError `too-large`; `what` says what it should have been. */
export async function readBody(exchange: HttpExchange, max: number, what = 'what it should be'): Promise<Buffer> {
  const { body, length, url } = exchange;
  assertPlain(exchange);
  const tooLarge = (): HttpError =>
    new HttpError('too-large', `the server sends more than ${max} bytes, which is too long for ${what}`, {
      where: url,
      next: 'check the URL',
    });
  if (length !== undefined && length > max) throw tooLarge();
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of body) {
    size += chunk.length;
    if (size > max) throw tooLarge();
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** The body of a response that is an error says why in a few lines: no more than this is kept of it. */
const ERROR_BODY = 64 << 10;

/** The beginning of the body of a response that is an error; empty where it cannot be read. */
async function readErrorBody(exchange: HttpExchange): Promise<Buffer> {
  return readBody({ ...exchange, length: undefined, headers: {} }, ERROR_BODY).catch((error: unknown) => {
    if (error instanceof RetryableError || error instanceof UserError) return Buffer.alloc(0);
    throw error;
  });
}

/** A body was asked for as it is: a compressed one would be read as something else. */
function assertPlain({ headers, url }: HttpExchange): void {
  const encoding = (headerOf(headers, 'content-encoding') ?? '').trim().toLowerCase();
  if (encoding !== '' && encoding !== 'identity')
    throw new HttpError('encoding', `the server sends a compressed response (${encoding.slice(0, 40)}), which was not asked for`, {
      where: url,
      next: 'check the URL and what is between (a proxy, a mirror)',
    });
}

/**
 * Sends a request and reads its response, whatever its status: up to `max` bytes of one that is a success (2xx), else the beginning.
 * Throws as httpSend does.
 */
export function httpRequest(url: string, options: HttpOptions & { readonly max: number }): Promise<HttpResponse> {
  return httpSend(url, options, async (exchange) => {
    const { status, headers } = exchange;
    const isSuccess = status >= 200 && status <= 299;
    return { status, headers, url: exchange.url, bytes: isSuccess ? await readBody(exchange, options.max) : await readErrorBody(exchange) };
  });
}

/** What to do about a status that is an error. */
const adviceFor = (status: number): string =>
  status === 404 ? 'check the URL' : 'check the URL, credentials and proxy settings, or try again later';

/** Fetches something small: at most `max` bytes. Throws an HttpStatusError for every status but 200: an error is never an empty answer. */
export async function httpGet(url: string, options: HttpOptions & { readonly max: number }): Promise<HttpResponse> {
  const response = await httpRequest(url, options);
  if (response.status !== 200) throw new HttpStatusError(response.status, { where: shown(url), next: adviceFor(response.status) });
  return response;
}

/** The same as text. */
export async function getText(url: string, options: HttpOptions & { readonly max: number }): Promise<string> {
  return (await httpGet(url, options)).bytes.toString('utf8');
}

/** The same as JSON, whose shape the caller checks. */
export async function getJson(
  url: string,
  options: HttpOptions & { readonly max: number },
): Promise<{ json: unknown; headers: ResponseHeaders }> {
  const { bytes, headers } = await httpGet(url, options);
  return { json: jsonOf(bytes, url), headers };
}

/** Reads the JSON of a response. */
export function jsonOf(bytes: Buffer, url: string): unknown {
  try {
    return JSON.parse(bytes.toString('utf8')) as unknown;
  } catch (cause) {
    throw new UserError('the answer is not JSON', {
      where: shown(url),
      next: 'check the URL, and what is between (a proxy, a login page)',
      cause,
    });
  }
}

/** The next page that a response names (RFC 8288, `Link: <…>; rel="next"`). */
export function nextPage(headers: ResponseHeaders): string | undefined {
  return /<([^>]+)>\s*;[^,]*\brel="?next"?/.exec(headerOf(headers, 'link') ?? '')?.[1];
}
