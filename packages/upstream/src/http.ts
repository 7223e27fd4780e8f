import { setTimeout as sleep } from 'node:timers/promises';
import { AnswerError, dispatcher, messageOf, mirrored, retryAfter, UnreachableError, UserError } from '@flatcar/core';
import { request, type Dispatcher } from 'undici';

/** How upstream is asked. */
export interface Asking {
  /** `https://host/path` is asked of `<mirror>/host/path`. */
  readonly mirror?: string;
  readonly signal?: AbortSignal;
  /** First pause between attempts in milliseconds, doubled each time; 500 unless said. */
  readonly pause?: number;
}

/** One question. */
interface Question extends Asking {
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent by POST as JSON. */
  readonly body?: unknown;
}

export interface Answer {
  readonly bytes: Buffer;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
}

/** Lists, checksums and signatures are small: what is longer is something else. */
const LONGEST = 64 << 20;
const ATTEMPTS = 4;
/** Longer than this nobody waits for a rate limit to end. */
const LONGEST_WAIT = 60_000;

const header = (headers: Answer['headers'], name: string): string | undefined => {
  const value = headers[name];
  return Array.isArray(value) ? value[0] : value;
};

/** When a limited server may be asked again, as it says (RFC 9110 Retry-After, or GitHub's and GitLab's own headers); ms from now. */
function waitOf(headers: Answer['headers']): number | undefined {
  const after = retryAfter(headers['retry-after']);
  if (after !== undefined) return after;
  const left = header(headers, 'x-ratelimit-remaining') ?? header(headers, 'ratelimit-remaining');
  const reset = header(headers, 'x-ratelimit-reset') ?? header(headers, 'ratelimit-reset');
  const until = Number(reset) * 1000;
  return left === '0' && Number.isFinite(until) ? Math.max(until - Date.now(), 0) : undefined;
}

function limited(url: string, wait: number): UserError {
  const { host } = new URL(url);
  const token = host.includes('gitlab') ? 'GITLAB_TOKEN' : host.includes('github') ? 'GITHUB_TOKEN' : undefined;
  return new UserError(`${host} allows no more requests until ${new Date(Date.now() + wait).toISOString()}`, {
    where: url,
    next: token === undefined ? 'try again then' : `set ${token}, or try again then`,
  });
}

async function bodyOf(response: Dispatcher.ResponseData, url: string): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of response.body as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > LONGEST) throw new UserError('the answer is too long to be a list, a checksum or a signature', { where: url });
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/**
 * Asks upstream for something small: retried with backoff, rate limits waited for when that is soon.
 * Throws UnreachableError when no answer comes, AnswerError for every status but 200: an error is never an empty answer.
 */
export async function ask(url: string, question: Question = {}): Promise<Answer> {
  const { signal } = question;
  const at = mirrored(url, question.mirror);
  let pause = question.pause ?? 500;
  for (let attempt = 1; ; attempt += 1) {
    const last = attempt >= ATTEMPTS;
    let wait = pause;
    try {
      const response = await request(at, {
        dispatcher: dispatcher(),
        headersTimeout: 30_000,
        bodyTimeout: 60_000,
        headers: {
          'user-agent': 'flatcar-ext',
          ...question.headers,
          ...(question.body === undefined ? {} : { 'content-type': 'application/json' }),
        },
        ...(question.body === undefined ? {} : { method: 'POST' as const, body: JSON.stringify(question.body) }),
        ...(signal === undefined ? {} : { signal }),
      });
      const { statusCode, headers } = response;
      const bytes = await bodyOf(response, at);
      if (statusCode === 200) return { bytes, headers };
      const asked = [403, 429, 503].includes(statusCode) ? waitOf(headers) : undefined;
      if (asked !== undefined && (asked > LONGEST_WAIT || last)) throw limited(url, asked);
      if (last || (asked === undefined && statusCode !== 429 && statusCode < 500)) {
        throw new AnswerError(statusCode, {
          where: url,
          next:
            statusCode === 404 ? 'check the URL in the definition' : 'check the URL, credentials and proxy settings, or try again later',
        });
      }
      wait = asked ?? pause;
    } catch (cause) {
      signal?.throwIfAborted();
      if (cause instanceof UserError) throw cause;
      // A name that does not resolve or a closed port will not change within seconds.
      const code = String((cause as NodeJS.ErrnoException).code);
      if (last || ['ENOTFOUND', 'ECONNREFUSED', 'EAI_AGAIN', 'ENETUNREACH'].includes(code)) {
        throw new UnreachableError(`${new URL(at).host} cannot be reached: ${messageOf(cause)}`, {
          where: url,
          next: 'check the network and the proxy settings, or name a mirror (--mirror URL)',
          cause,
        });
      }
    }
    await sleep(wait, undefined, signal === undefined ? {} : { signal });
    pause = Math.min(pause * 2, 30_000);
  }
}

/** The answer as text. */
export async function askText(url: string, question?: Question): Promise<string> {
  return (await ask(url, question)).bytes.toString('utf8');
}

/** The answer as JSON; the caller checks its shape. */
export async function askJson(url: string, question?: Question): Promise<{ json: unknown; headers: Answer['headers'] }> {
  const { bytes, headers } = await ask(url, question);
  try {
    return { json: JSON.parse(bytes.toString('utf8')) as unknown, headers };
  } catch (cause) {
    throw new UserError('the answer is not JSON', {
      where: url,
      next: 'check the URL, or what stands between (a proxy, a login page)',
      cause,
    });
  }
}

/** The next page that an answer names (RFC 8288, `Link: <…>; rel="next"`). */
export function nextPage(headers: Answer['headers']): string | undefined {
  return /<([^>]+)>\s*;[^,]*\brel="?next"?/.exec(header(headers, 'link') ?? '')?.[1];
}
