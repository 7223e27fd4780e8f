import * as v from 'valibot';
import { UserError } from '../util/errors.ts';
import { jsonOf, nextPage, type HttpResponse } from './client.ts';
import { HttpError } from './errors.ts';

/** No list that is read has more. */
const MOST_PAGES = 100;

/** Checks the shape of the JSON of a response. */
export function checkShape<T extends v.GenericSchema>(schema: T, json: unknown, url: string): v.InferOutput<T> {
  const parsed = v.safeParse(schema, json);
  if (parsed.success) return parsed.output;
  const [issue] = parsed.issues;
  throw new UserError(`the answer has not the expected shape: ${v.getDotPath(issue) ?? 'body'}: ${issue.message}`, {
    where: url,
    next: 'check the address, and what is between (a proxy, a mirror)',
  });
}

/**
 * All pages of a list of JSON, as the responses link them (RFC 8288). `get` fetches a page with what credentials it needs: a page on
 * another origin is an error.
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
      throw new HttpError('too-large', `the list has more than ${MOST_PAGES} pages`, { where: first, next: 'ask for a shorter list' });
    const response: HttpResponse = await get(url);
    found.push(...checkShape(v.array(item), jsonOf(response.bytes, url), url));
    const next = nextPage(response.headers);
    // A link may name the host behind a mirror, but credentials must not follow it anywhere else.
    const following: URL | undefined = next !== undefined && URL.canParse(next, url) ? new URL(next, url) : undefined;
    if (next !== undefined && following?.origin !== origin)
      throw new HttpError('redirect', 'the list continues on another host', {
        where: next.slice(0, 200),
        next: 'check the address, and what is between (a proxy, a mirror)',
      });
    url = following?.href;
  }
  return found;
}
