import { UserError } from '../util/errors.ts';
import { HttpError, RetryableError } from './errors.ts';
import type { HttpExchange } from './options.ts';
import { headerOf } from './rate-limit.ts';

/** Reads a body of at most `max` bytes. Throws an HttpError `too-large`; `what` names the expected content. */
export async function readBody(exchange: HttpExchange, max: number, what = 'the expected response'): Promise<Buffer> {
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

/** The body of an error explains it in a few lines: no more bytes than these are kept. */
const ERROR_BODY = 64 << 10;

/** The beginning of the body of an error; empty if it cannot be read. */
export async function readErrorBody(exchange: HttpExchange): Promise<Buffer> {
  return readBody({ ...exchange, length: undefined, headers: {} }, ERROR_BODY).catch((error: unknown) => {
    if (error instanceof RetryableError || error instanceof UserError) return Buffer.alloc(0);
    throw error;
  });
}

/** Refuses a compressed body: none was requested, and it would be read as something else. */
function assertPlain({ headers, url }: HttpExchange): void {
  const encoding = (headerOf(headers, 'content-encoding') ?? '').trim().toLowerCase();
  if (encoding !== '' && encoding !== 'identity')
    throw new HttpError('encoding', `the server sends a compressed response (${encoding.slice(0, 40)}), which was not requested`, {
      where: url,
      next: 'check the URL, and any proxy or mirror in between',
    });
}
