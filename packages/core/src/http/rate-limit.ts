/** Headers of a response, by lower-case name. */
export type ResponseHeaders = Readonly<Record<string, string | string[] | undefined>>;

/** The value of a header; the first one if the server sent several. */
export function headerOf(headers: ResponseHeaders, name: string): string | undefined {
  const value = headers[name];
  return Array.isArray(value) ? value[0] : value;
}

/** The beginning of the three forms of a date (RFC 9110 5.6.7): Date.parse alone would take `1.5` for a day in January. */
const HTTP_DATE = /^(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)/;
/** A year in milliseconds: a longer pause is no different, and its end may be no date. */
const LONGEST = 365 * 86_400_000;

/** A pause in milliseconds, not negative and at most a year; undefined for one that is not a number. */
const plausible = (pause: number): number | undefined => (Number.isNaN(pause) ? undefined : Math.min(Math.max(pause, 0), LONGEST));

/** Retry-After in milliseconds from now (RFC 9110 10.2.3: seconds or a date; a past date is now); undefined for anything else. */
export function retryAfter(value: string | undefined): number | undefined {
  if (value === undefined) return undefined;
  if (/^\d+$/.test(value)) return plausible(Number(value) * 1000);
  return HTTP_DATE.test(value) ? plausible(Date.parse(value.replace(/(?: GMT)?$/, ' GMT')) - Date.now()) : undefined;
}

/** Statuses by which a server requests a pause: 403 only for GitHub's rate limit, which has headers of its own. */
const LIMITING = new Set([403, 429, 503]);

/**
 * When a server allows the next request, in milliseconds from now: Retry-After, or the headers `x-ratelimit-*` (GitHub) and
 * `ratelimit-*` (GitLab). Undefined if the server specifies no time.
 */
export function waitOf(status: number, headers: ResponseHeaders): number | undefined {
  if (!LIMITING.has(status)) return undefined;
  const after = retryAfter(headerOf(headers, 'retry-after'));
  if (after !== undefined) return after;
  const left = headerOf(headers, 'x-ratelimit-remaining') ?? headerOf(headers, 'ratelimit-remaining');
  const until = Number(headerOf(headers, 'x-ratelimit-reset') ?? headerOf(headers, 'ratelimit-reset')) * 1000;
  return left === '0' ? plausible(until - Date.now()) : undefined;
}
