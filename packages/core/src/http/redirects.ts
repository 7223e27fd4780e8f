import { HttpError } from './errors.ts';
import type { RequestHeaders } from './options.ts';
import { shown } from './failures.ts';

/** Headers that another origin may see. */
const HARMLESS = new Set(['accept', 'accept-encoding', 'range', 'if-range', 'user-agent']);

/** The headers of one request: all of them at their own origin. User and password of a URL are for its own origin. */
export function headersFor(url: URL, own: string, given: RequestHeaders): Record<string, string> {
  const headers: Record<string, string> = { 'user-agent': 'flatcar-ext', 'accept-encoding': 'identity' };
  for (const [name, value] of Object.entries(given))
    if (value !== undefined && (url.origin === own || HARMLESS.has(name.toLowerCase()))) headers[name.toLowerCase()] = value;
  if (url.username !== '' && headers['authorization'] === undefined) {
    const pair = `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`;
    headers['authorization'] = `Basic ${Buffer.from(pair).toString('base64')}`;
  }
  return headers;
}

/** The target of a redirect. Throws an HttpError for one that must not be followed. */
export function nextHop(from: URL, first: string, location: string, count: number, most: number): URL {
  const where = shown(first);
  const next = URL.canParse(location, from.href) ? new URL(location, from.href) : undefined;
  if (next === undefined || !/^https?:$/.test(next.protocol))
    throw new HttpError('redirect', `the server redirects to '${location.slice(0, 200)}', which is not a valid http(s) URL`, {
      where,
      next: 'check the URL and the redirects of the server',
    });
  // Credentials that a server specifies are not ours.
  next.username = '';
  next.password = '';
  if (from.protocol === 'https:' && next.protocol === 'http:')
    throw new HttpError('redirect', `the server redirects from https to ${next.origin}, which anybody in between could forge`, {
      where,
      next: 'configure the server to redirect to https, or specify the final URL',
    });
  if (count >= most)
    throw new HttpError('redirect', `the server redirects more than ${most} times, the last time to ${next.origin}${next.pathname}`, {
      where,
      next: 'check the URL and the redirects of the server',
    });
  return next;
}
