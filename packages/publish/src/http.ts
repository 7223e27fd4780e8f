import { dispatcher, messageOf, UserError } from '@flatcar/core';
import { interceptors, request, type Dispatcher } from 'undici';
import type { Source } from './state.ts';

/** No index or key is longer; a server that sends more is not read to its end. */
const LIMIT = 256 * 2 ** 20;

/** Buckets and redirectors send clients elsewhere, and servers fail for a moment. */
const again = (): Dispatcher =>
  dispatcher().compose(interceptors.redirect({ maxRedirections: 5 }), interceptors.retry({ maxRetries: 3, throwOnError: false }));

/** A published tree on a web server, given by the URL of its root. */
export function httpSource(baseUrl: string): Source {
  const where = baseUrl.replace(/\/+$/, '');
  if (!URL.canParse(where) || !/^https?:$/.test(new URL(where).protocol))
    throw new UserError(`'${baseUrl}' is no http(s) URL`, { next: 'give the URL of the published tree' });
  return {
    where,
    async read(path) {
      const url = `${where}/${path}`;
      try {
        const { statusCode, body } = await request(url, { dispatcher: again(), signal: AbortSignal.timeout(60_000) });
        if (statusCode === 404 || statusCode === 403 || statusCode === 410) {
          await body.dump();
          return undefined; // buckets that may not be listed say 403 for what is not there
        }
        if (statusCode !== 200) {
          await body.dump();
          throw new UserError(`the server answered ${statusCode}`, { where: url });
        }
        const chunks: Buffer[] = [];
        let size = 0;
        for await (const chunk of body as AsyncIterable<Buffer>) {
          size += chunk.length;
          if (size > LIMIT) throw new UserError('the file is too long for what it should be', { where: url });
          chunks.push(chunk);
        }
        return Buffer.concat(chunks);
      } catch (cause) {
        if (cause instanceof UserError) throw cause;
        throw new UserError(`the published tree cannot be read: ${messageOf(cause)}`, {
          where: url,
          next: 'check the URL and the network',
          cause,
        });
      }
    },
  };
}
