import {
  fetchBlob,
  httpSend,
  HttpStatusError,
  isUnanswered,
  readBody,
  UserError,
  type HttpExchange,
  type HttpOptions,
  type Report,
  type Store,
} from '@flatcar/core/engine';
import { urlPath } from './layout.ts';
import type { Source, Tree } from './tree.ts';

/** Limit of an index or key, in bytes. */
export const READ_LIMIT = 256 * 2 ** 20;

/** True for a web page instead of a file: a captive portal, a login page or a proxy's error page. */
const isPage = (bytes: Buffer): boolean => /^\s*<(?:!doctype\s+html|html|head|body)\b/i.test(bytes.toString('latin1', 0, 512));

/** How to reach the server of a published tree. */
export type HttpSourceOptions = Pick<HttpOptions, 'signal' | 'pause' | 'limits'>;

/** A published tree on a web server, given by the URL of its root. */
export function httpSource(baseUrl: string, options: HttpSourceOptions = {}): Source {
  const where = baseUrl.replace(/\/+$/, '');
  if (!URL.canParse(where) || !/^https?:$/.test(new URL(where).protocol))
    throw new UserError(`'${baseUrl}' is not a valid http(s) URL`, { next: 'pass the URL of the published tree' });
  /** Responses for paths that do not exist. */
  const absent = new Map<string, string>();

  async function readResponse(path: string, url: string, exchange: HttpExchange, limit: number): Promise<Buffer | undefined> {
    const { status } = exchange;
    if ([403, 404, 410].includes(status)) {
      absent.set(path, `the server answered ${status}`);
      return undefined; // buckets without list permission answer 403 for missing objects
    }
    if (status !== 200) throw new HttpStatusError(status, { where: exchange.url, next: 'check the URL' });
    const bytes = await readBody(exchange, limit);
    if (isPage(bytes))
      throw new UserError('the server answers with a web page instead of the file', {
        where: exchange.url === url ? url : `${url}, redirected to ${exchange.url}`,
        next: 'check the URL; on a network that requires a login, log in first',
      });
    return bytes;
  }

  return {
    where,
    absence: (path) => absent.get(path),
    async read(path, limit = READ_LIMIT) {
      const url = `${where}/${urlPath(path)}`;
      try {
        return await httpSend(url, options, (exchange) => readResponse(path, url, exchange, limit));
      } catch (cause) {
        if (!isUnanswered(cause)) throw cause;
        throw new UserError(`the published tree cannot be read: ${cause.message}`, {
          where: url,
          next: 'check the URL and the network',
          cause,
        });
      }
    },
  };
}

/** A published tree on a web server. */
export function remoteTree(url: string, store: Store, report: Report | undefined, signal?: AbortSignal): Tree {
  const source = httpSource(url, { signal });
  return {
    ...source,
    file: (path, { size, sha256 }) => fetchBlob(store, { url: `${source.where}/${urlPath(path)}`, sha256, size }, { report, signal }),
  };
}
