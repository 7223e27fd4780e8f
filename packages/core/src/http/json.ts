import * as v from 'valibot';
import { UserError } from '../util/errors.ts';
import { httpGet } from './client.ts';
import { HttpError } from './errors.ts';
import { shown } from './failures.ts';
import type { HttpOptions, HttpResponse } from './options.ts';
import { headerOf, type ResponseHeaders } from './rate-limit.ts';

/** Parses the JSON of a response; the caller checks its shape. */
export function jsonOf(bytes: Buffer, url: string): unknown {
  try {
    return JSON.parse(bytes.toString('utf8')) as unknown;
  } catch (cause) {
    throw new UserError('the response is not JSON', {
      where: shown(url),
      next: 'check the URL, and any proxy or login page in between',
      cause,
    });
  }
}

/** Fetches JSON of at most `max` bytes; the caller checks its shape. Throws as httpGet does. */
export async function getJson(
  url: string,
  options: HttpOptions & { readonly max: number },
): Promise<{ json: unknown; headers: ResponseHeaders }> {
  const { bytes, headers } = await httpGet(url, options);
  return { json: jsonOf(bytes, url), headers };
}

/** Checks the shape of the JSON of a response. */
export function checkShape<T extends v.GenericSchema>(schema: T, json: unknown, url: string): v.InferOutput<T> {
  const parsed = v.safeParse(schema, json);
  if (parsed.success) return parsed.output;
  const [issue] = parsed.issues;
  throw new UserError(`invalid response: ${v.getDotPath(issue) ?? 'body'}: ${issue.message}`, {
    where: url,
    next: 'check the URL, and any proxy or mirror in between',
  });
}

/** The next page that a response links (RFC 8288, `Link: <…>; rel="next"`). */
export function nextPage(headers: ResponseHeaders): string | undefined {
  return /<([^>]+)>\s*;[^,]*\brel="?next"?/.exec(headerOf(headers, 'link') ?? '')?.[1];
}

/** No list that this program reads has more pages. */
const MOST_PAGES = 100;

/**
 * All pages of a list in JSON, as the responses link them (RFC 8288). `get` fetches a page with the credentials that it needs; throws an HttpError
 * for a page on another origin.
 */
export async function getPages<T extends v.GenericSchema>(
  first: string,
  item: T,
  get: (url: string) => Promise<HttpResponse>,
): Promise<v.InferOutput<T>[]> {
  const found: v.InferOutput<T>[] = [];
  const { origin } = new URL(first);
  let url: string | undefined = first;
  for (let page = 1; url !== undefined; page += 1) {
    if (page > MOST_PAGES)
      throw new HttpError('too-large', `the list has more than ${MOST_PAGES} pages`, { where: first, next: 'request a shorter list' });
    const response: HttpResponse = await get(url);
    found.push(...checkShape(v.array(item), jsonOf(response.bytes, url), url));
    const next = nextPage(response.headers);
    // A link may name the host behind a mirror, but credentials must not follow it to another origin.
    const following: URL | undefined = next !== undefined && URL.canParse(next, url) ? new URL(next, url) : undefined;
    if (next !== undefined && following?.origin !== origin)
      throw new HttpError('redirect', 'the list continues on another host', {
        where: next.slice(0, 200),
        next: 'check the URL, and any proxy or mirror in between',
      });
    url = following?.href;
  }
  return found;
}
