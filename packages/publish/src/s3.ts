import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { dispatcher, messageOf, openStore, UserError, type Store } from '@flatcar/core';
import { AwsClient } from 'aws4fetch';
import { request, type Dispatcher } from 'undici';
import { ConflictError, TakenError, type Destination, type FileAbout } from './destination.ts';
import { sha256Of } from './state.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** What browsers and caches are told: what may change is asked for again each time. */
function headersFor(path: string): Record<string, string> {
  const name = path.split('/').at(-1) ?? '';
  const isFixed = /\.(?:raw|gz)$|^(?:index|packages)-|\.(?:manifest|spdx|provenance)\.json$/.test(name);
  const type = name.endsWith('.json')
    ? 'application/json'
    : /^SHA256SUMS$|\.(?:conf|transfer|pem|crt)$/.test(name)
      ? 'text/plain'
      : 'application/octet-stream';
  return { 'content-type': type, 'cache-control': isFixed ? 'public, max-age=31536000, immutable' : 'no-cache' };
}

/** A failure of the server that another attempt may mend. */
const isPassing = (status: number): boolean => status === 429 || status >= 500;
const ATTEMPTS = 4;

/**
 * A bucket of S3 or of anything that speaks like it (AWS_ENDPOINT_URL). It cannot lock: what is replaced is replaced only if it is still as
 * it was read (If-Match), and names are taken only where there is none (If-None-Match), so that two publishers cannot undo each other.
 * Sums and signature are two objects: a client caught between them sees a signature that does not fit, fails closed, and tries again.
 */
export function s3Destination(where: string, env: Environment = process.env, store: Store = openStore()): Destination {
  const { host: bucket, pathname } = new URL(where);
  const prefix = pathname.replaceAll(/^\/+|\/+$/g, '');
  const { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey, AWS_SESSION_TOKEN: sessionToken } = env;
  if (!accessKeyId || !secretAccessKey)
    throw new UserError('no credentials for the bucket', { where, next: 'set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY' });
  const region = env['AWS_REGION'] ?? env['AWS_DEFAULT_REGION'] ?? 'us-east-1';
  const endpoint = (env['AWS_ENDPOINT_URL_S3'] ?? env['AWS_ENDPOINT_URL'] ?? `https://s3.${region}.amazonaws.com`).replace(/\/+$/, '');
  const aws = new AwsClient({ accessKeyId, secretAccessKey, service: 's3', region, ...(sessionToken ? { sessionToken } : {}) });
  const urlOf = (path: string): string =>
    `${endpoint}/${[bucket, ...(prefix === '' ? [] : prefix.split('/')), ...path.split('/')].map(encodeURIComponent).join('/')}`;
  /** Versions of what was read, for conditions: undefined where there was nothing. */
  const tags = new Map<string, string | undefined>();

  async function send(
    method: 'GET' | 'HEAD' | 'PUT' | 'DELETE',
    path: string,
    headers: Record<string, string> = {},
    body?: () => Dispatcher.DispatchOptions['body'],
    sha256 = sha256Of(Buffer.alloc(0)),
  ): Promise<Dispatcher.ResponseData> {
    const url = urlOf(path);
    for (let attempt = 1; ; attempt += 1) {
      // The digest of the body is signed: the server refuses other bytes.
      const signed = await aws.sign(url, { method, headers: { ...headers, 'x-amz-content-sha256': sha256 } });
      try {
        const response = await request(url, {
          method,
          headers: Object.fromEntries(signed.headers),
          ...(body === undefined ? {} : { body: body() as Exclude<Dispatcher.DispatchOptions['body'], undefined> }),
          dispatcher: dispatcher(),
          headersTimeout: 120_000,
          bodyTimeout: 120_000,
        });
        if (!isPassing(response.statusCode) || attempt === ATTEMPTS) return response;
        await response.body.dump();
      } catch (cause) {
        if (attempt === ATTEMPTS) throw new UserError(`the bucket cannot be reached: ${messageOf(cause)}`, { where: url, cause });
      }
      await new Promise((resolve) => {
        setTimeout(resolve, 250 * 2 ** attempt);
      });
    }
  }

  async function fail(path: string, { statusCode, body }: Dispatcher.ResponseData): Promise<never> {
    const said = /<Code>([^<]+)<\/Code>/.exec(await body.text())?.[1];
    throw new UserError(`the bucket answered ${statusCode}${said === undefined ? '' : ` ${said}`}`, {
      where: urlOf(path),
      next: 'check the bucket, the credentials and what they may do',
    });
  }
  const tagOf = (response: Dispatcher.ResponseData): string | undefined => response.headers['etag']?.toString();

  async function read(path: string): Promise<Buffer | undefined> {
    const response = await send('GET', path);
    if (response.statusCode === 404) {
      await response.body.dump();
      tags.set(path, undefined);
      return undefined;
    }
    if (response.statusCode !== 200) return fail(path, response);
    tags.set(path, tagOf(response));
    return Buffer.from(await response.body.arrayBuffer());
  }

  async function sha256At(path: string): Promise<string> {
    const response = await send('GET', path);
    if (response.statusCode !== 200) return fail(path, response);
    const hash = createHash('sha256');
    for await (const chunk of response.body) hash.update(chunk as Buffer);
    return hash.digest('hex');
  }

  async function putFile(
    path: string,
    file: string,
    { size, sha256 }: FileAbout,
    condition: Record<string, string>,
  ): Promise<Dispatcher.ResponseData> {
    const headers = { ...headersFor(path), 'content-length': String(size), 'x-amz-meta-sha256': sha256, ...condition };
    return send('PUT', path, headers, () => createReadStream(file, { highWaterMark: 1 << 20 }), sha256);
  }

  return {
    where,
    locks: false,
    publish: (fn) =>
      store.withTemp(async (temp) => {
        tags.clear();
        return fn(temp);
      }),
    read,
    async put(path, file, about) {
      // Most of a large tree is there already: asking costs less than sending.
      const head = await send('HEAD', path);
      await head.body.dump();
      if (head.statusCode === 404) {
        const response = await putFile(path, file, about, { 'if-none-match': '*' });
        if (response.statusCode === 200) {
          await response.body.dump();
          return;
        }
        if (response.statusCode !== 412 && response.statusCode !== 409) return fail(path, response);
        await response.body.dump();
      } else if (head.statusCode !== 200) return fail(path, head);
      if ((await sha256At(path)) !== about.sha256) throw new TakenError(urlOf(path), path);
    },
    async putOver(path, file, about) {
      const response = await putFile(path, file, about, {});
      if (response.statusCode !== 200) return fail(path, response);
      await response.body.dump();
    },
    async replace(folder, files) {
      for (const [name, bytes] of files) {
        const path = folder === '' ? name : `${folder}/${name}`;
        if (!tags.has(path)) await read(path);
        const tag = tags.get(path);
        const headers = {
          ...headersFor(path),
          'content-length': String(bytes.length),
          ...(tag === undefined ? { 'if-none-match': '*' } : { 'if-match': tag }),
        };
        const response = await send('PUT', path, headers, () => bytes, sha256Of(bytes));
        if (response.statusCode === 412 || response.statusCode === 409) {
          await response.body.dump();
          throw new ConflictError(urlOf(path));
        }
        if (response.statusCode !== 200) return fail(path, response);
        tags.set(path, tagOf(response));
        await response.body.dump();
      }
    },
    tree: (cache) => ({
      where,
      read,
      async file(path, { sha256 }) {
        const there = await cache.blob(sha256);
        if (there !== undefined) return there;
        return cache.withTemp(async (temp) => {
          const response = await send('GET', path);
          if (response.statusCode !== 200) return fail(path, response);
          await mkdir(temp, { recursive: true });
          const file = join(temp, sha256);
          await pipeline(response.body, createWriteStream(file));
          return (await cache.keep(file, sha256)).path;
        });
      },
    }),
    async remove(paths) {
      for (const path of paths) {
        const response = await send('DELETE', path);
        if (![200, 204, 404].includes(response.statusCode)) return fail(path, response);
        await response.body.dump();
      }
    },
  };
}
