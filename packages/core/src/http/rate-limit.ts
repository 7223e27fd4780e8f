/** Headers of a response, by lower-case name. */
export type ResponseHeaders = Readonly<Record<string, string | string[] | undefined>>;

/** The value of a header; the first one where a server sent several. */
export function headerOf(headers: ResponseHeaders, name: string): string | undefined {
  const value = headers[name];
  return Array.isArray(value) ? value[0] : value;
}

/** Retry-After in milliseconds from now (RFC 9110 10.2.3: seconds or a date; a past date is now); undefined for what is neither. */
export function retryAfter(value: string | undefined): number | undefined {
  if (value === undefined) return undefined;
  const seconds = /^\d+$/.test(value) ? Number(value) : (Date.parse(value) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.max(seconds, 0) * 1000 : undefined;
}

/** Statuses by which a server asks for a pause: 403 by GitHub's rate limit only, which its headers tell. */
const LIMITING = new Set([403, 429, 503]);

/**
 * When a limited server may be asked again, in milliseconds from now: Retry-After, or the headers `x-ratelimit-*` (GitHub) and
 * `ratelimit-*` (GitLab). Undefined where the server names no time.
 */
export function waitOf(status: number, headers: ResponseHeaders): number | undefined {
  if (!LIMITING.has(status)) return undefined;
  const after = retryAfter(headerOf(headers, 'retry-after'));
  if (after !== undefined) return after;
  const left = headerOf(headers, 'x-ratelimit-remaining') ?? headerOf(headers, 'ratelimit-remaining');
  const until = Number(headerOf(headers, 'x-ratelimit-reset') ?? headerOf(headers, 'ratelimit-reset')) * 1000;
  return left === '0' && Number.isFinite(until) ? Math.max(until - Date.now(), 0) : undefined;
}
