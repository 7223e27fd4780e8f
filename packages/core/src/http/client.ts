import { interruption } from '../util/interrupt.ts';
import { readBody, readErrorBody } from './body.ts';
import { HttpError, HttpStatusError, RetryableError } from './errors.ts';
import { exchange } from './exchange.ts';
import { shown } from './failures.ts';
import { mirrored } from './mirror.ts';
import { DEFAULT_LIMITS, type HttpExchange, type HttpOptions, type HttpResponse } from './options.ts';
import { connectionAdvice } from './proxy.ts';
import { waitOf } from './rate-limit.ts';
import { retrying } from './retry.ts';

const ATTEMPTS = 4;
const PAUSE_MS = 500;

/** Statuses after which the same request may succeed. */
const isPassing = (status: number): boolean => status === 408 || status === 425 || status === 429 || status >= 500;

/** Whether a request that must not arrive twice may be sent again: it was not sent, or the server refused it for now. */
const isSafe = ({ failure, after }: RetryableError): boolean => failure.code === 'unreachable' || after !== undefined;

/**
 * Sends a request and reads its response with `read`; repeats both if the connection breaks, or if the server is busy or specifies a time
 * (Retry-After and rate limits). `read` receives every response that is not retried; it may throw a RetryableError, and must not
 * keep the data of a failed attempt. Throws an HttpError; an UnreachableError if there was no connection.
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
          // The caller receives the last response, about which it may know more; a time to come back at becomes a RateLimitError.
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

/**
 * Sends a request and reads its response, whatever its status: up to `max` bytes of a success (2xx), and the beginning of an error.
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

/** Fetches a small file of at most `max` bytes. Throws an HttpStatusError for every status but 200. */
export async function httpGet(url: string, options: HttpOptions & { readonly max: number }): Promise<HttpResponse> {
  const response = await httpRequest(url, options);
  if (response.status !== 200) throw new HttpStatusError(response.status, { where: shown(url), next: adviceFor(response.status) });
  return response;
}

/** Fetches a text of at most `max` bytes. Throws as httpGet does. */
export async function getText(url: string, options: HttpOptions & { readonly max: number }): Promise<string> {
  return (await httpGet(url, options)).bytes.toString('utf8');
}
