import { setTimeout as sleep } from 'node:timers/promises';
import { dispatcher, messageOf, UserError } from '@flatcar/core';
import { request, type Dispatcher } from 'undici';
import { urlPath } from './layout.ts';
import type { Source } from './state.ts';

/** No index or key is longer; a server that sends more is not read to its end. */
export const READ_LIMIT = 256 * 2 ** 20;
const REDIRECTS = 5;
const ATTEMPTS = 4;
const DEADLINE_MS = 60_000;

/** Options of undici by which its dispatcher follows no redirect: they are looked at here, or not wanted at all. */
export const WITHOUT_REDIRECTS: object = { maxRedirections: 0 };

/** The body of an answer, up to a limit in bytes. */
export async function readBody(body: AsyncIterable<Uint8Array>, where: string, limit = READ_LIMIT): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of body) {
    size += chunk.length;
    // Leaving the loop destroys the body.
    if (size > limit) throw new UserError(`the server sends more than ${limit} bytes, which is too long for what it should be`, { where });
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** Follows redirects, never from https to http: on the way back anybody could answer. */
async function get(first: string, signal: AbortSignal): Promise<{ url: string; response: Dispatcher.ResponseData }> {
  let url = first;
  for (let count = 0; ; count += 1) {
    const response = await request(url, { ...WITHOUT_REDIRECTS, dispatcher: dispatcher(), signal });
    const location = response.headers['location']?.toString();
    if (![301, 302, 303, 307, 308].includes(response.statusCode) || location === undefined) return { url, response };
    response.body.on('error', () => undefined).destroy();
    const next = URL.canParse(location, url) ? new URL(location, url) : undefined;
    if (next === undefined || !/^https?:$/.test(next.protocol))
      throw new UserError(`the server redirects to '${location.slice(0, 200)}', which is not a valid http(s) URL`, { where: first });
    if (url.startsWith('https:') && next.protocol === 'http:')
      throw new UserError(`the server redirects from https to ${next.origin}, where anybody on the way could answer`, {
        where: first,
        next: 'let it redirect to https, or give the URL that it redirects to',
      });
    if (count === REDIRECTS)
      throw new UserError(`the server redirects more than ${REDIRECTS} times, the last time to ${next.href}`, {
        where: first,
        next: 'check the URL and the redirects of the server',
      });
    url = next.href;
  }
}

/** A page for a person where a file was asked for: a captive portal, a login or an error page of a proxy. */
const isPage = (bytes: Buffer): boolean => /^\s*<(?:!doctype\s+html|html|head|body)\b/i.test(bytes.toString('latin1', 0, 512));

/** A published tree on a web server, given by the URL of its root. */
export function httpSource(baseUrl: string): Source {
  const where = baseUrl.replace(/\/+$/, '');
  if (!URL.canParse(where) || !/^https?:$/.test(new URL(where).protocol))
    throw new UserError(`'${baseUrl}' is not a valid http(s) URL`, { next: 'give the URL of the published tree' });
  /** What the server said of paths that it has not. */
  const absent = new Map<string, string>();

  async function attempt(path: string): Promise<Buffer | undefined> {
    const asked = `${where}/${urlPath(path)}`;
    const { url, response } = await get(asked, AbortSignal.timeout(DEADLINE_MS));
    const { statusCode, body } = response;
    if (statusCode === 200) {
      const bytes = await readBody(body, asked);
      if (isPage(bytes))
        throw new UserError('the server answers with a web page instead of the file', {
          where: url === asked ? asked : `${asked}, redirected to ${url}`,
          next: 'check the URL; on a network that asks for a login first, log in there',
        });
      return bytes;
    }
    body.on('error', () => undefined).destroy();
    if ([403, 404, 410].includes(statusCode)) {
      absent.set(path, `the server answered ${statusCode}`);
      return undefined; // buckets that may not be listed say 403 for what is not there
    }
    if (statusCode === 429 || statusCode >= 500) throw new Error(`the server answered ${statusCode}`);
    throw new UserError(`the server answered ${statusCode}`, { where: url, next: 'check the URL' });
  }

  return {
    where,
    absence: (path) => absent.get(path),
    async read(path) {
      for (let count = 1; ; count += 1) {
        try {
          return await attempt(path);
        } catch (cause) {
          if (cause instanceof UserError) throw cause;
          const isFinal =
            count === ATTEMPTS ||
            /ENOTFOUND|ECONNREFUSED|CERT|TLS|SSL|abort/i.test(`${messageOf(cause)} ${String((cause as NodeJS.ErrnoException).code)}`);
          if (isFinal)
            throw new UserError(`the published tree cannot be read: ${messageOf(cause)}`, {
              where: `${where}/${urlPath(path)}`,
              next: 'check the URL and the network',
              cause,
            });
          await sleep(250 * 2 ** count);
        }
      }
    },
  };
}
