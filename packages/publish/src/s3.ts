import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { join } from 'node:path';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { dispatcher, messageOf, openStore, UserError, type Environment, type Store } from '@flatcar/core';
import { AwsClient } from 'aws4fetch';
import { request, type Dispatcher } from 'undici';
import { ConflictError, TakenError, type Destination, type FileAbout } from './destination.ts';
import { readBody, WITHOUT_REDIRECTS } from './http.ts';
import { urlPath } from './layout.ts';
import { credentialsOf, endpointOf, regionOf } from './s3-credentials.ts';
import { sha256Of } from './state.ts';

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
/** What nothing lists is of a publish at work until it is older than this: images of one extension are uploaded in less. */
const ABANDONED_MS = 15 * 60_000;

/**
 * The second name of an image whose name has a `+`: S3 reads a `+` in a path as a blank, and systemd-sysupdate asks for names as they are in
 * the sums. Undefined for all else. (aptly and deb-s3 do the same.)
 */
const blankName = (path: string): string | undefined =>
  path.includes('+') && /\.(?:raw|gz)$/.test(path) ? path.replaceAll('+', ' ') : undefined;

type Method = 'GET' | 'HEAD' | 'PUT' | 'DELETE';
type Body = () => Exclude<Dispatcher.DispatchOptions['body'], undefined>;
type Send = (
  method: Method,
  path: string,
  headers?: Record<string, string>,
  body?: Body,
  sha256?: string,
) => Promise<Dispatcher.ResponseData>;

/** Signed requests to a bucket; paths are relative to the prefix. Redirects are not followed: signatures are for one host. */
function openBucket(
  where: string,
  env: Environment,
  signal: AbortSignal | undefined,
): { send: Send; urlOf: (path: string) => string; keyOf: (path: string) => string } {
  const { host: bucket, pathname } = new URL(where);
  const prefix = pathname.replaceAll(/^\/+|\/+$/g, '');
  const region = regionOf(env);
  const endpoint = endpointOf('s3', env);
  const credentials = credentialsOf(where, env);
  const keyOf = (path: string): string => `/${urlPath([bucket, ...(prefix === '' ? [] : [prefix]), path].join('/'))}`;
  const urlOf = (path: string): string => `${endpoint}${keyOf(path)}`;
  return {
    urlOf,
    keyOf,
    async send(method, path, headers = {}, body, sha256 = sha256Of(Buffer.alloc(0))) {
      const url = urlOf(path);
      for (let attempt = 1; ; attempt += 1) {
        const aws = new AwsClient({ ...(await credentials()), service: 's3', region });
        // The digest of the body is signed: the server refuses other bytes.
        const signed = await aws.sign(url, { method, headers: { ...headers, 'x-amz-content-sha256': sha256 } });
        try {
          const response = await request(url, {
            ...WITHOUT_REDIRECTS,
            method,
            headers: Object.fromEntries(signed.headers),
            ...(body === undefined ? {} : { body: body() }),
            ...(signal === undefined ? {} : { signal }),
            dispatcher: dispatcher(),
            headersTimeout: 120_000,
            bodyTimeout: 120_000,
          });
          if (!isPassing(response.statusCode) || attempt === ATTEMPTS) return response;
          await response.body.dump();
        } catch (cause) {
          signal?.throwIfAborted();
          if (attempt === ATTEMPTS)
            throw new UserError(`the bucket cannot be reached: ${messageOf(cause)}`, {
              where: url,
              next: 'check the network, AWS_REGION and AWS_ENDPOINT_URL',
              cause,
            });
        }
        await sleep(250 * 2 ** attempt * (0.5 + Math.random()), undefined, signal === undefined ? {} : { signal });
      }
    },
  };
}

/** What to do about an answer that is an error. */
function remedy({ statusCode, headers }: Dispatcher.ResponseData): string {
  const region = headers['x-amz-bucket-region']?.toString();
  if (statusCode >= 300 && statusCode < 400)
    return `the bucket is elsewhere: set AWS_REGION${region === undefined ? '' : `=${region}`} or AWS_ENDPOINT_URL`;
  if (statusCode === 403)
    return 'check the credentials, and that they may s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject: without s3:ListBucket a missing object is answered with 403';
  if (statusCode === 501) return 'the service must support conditional writes (If-None-Match, If-Match)';
  return 'check the bucket, the credentials and what they may do';
}

/**
 * A bucket of S3 or of anything that speaks like it (AWS_ENDPOINT_URL). It cannot lock: what is replaced is replaced only if it is still as
 * it was read (If-Match), and names are taken only where there is none (If-None-Match), so that two publishers cannot undo each other.
 * Sums and signature are two objects: a client caught between them sees a signature that does not fit, fails closed, and tries again.
 */
export function s3Destination(
  where: string,
  env: Environment = process.env,
  store: Store = openStore(),
  signal?: AbortSignal,
): Destination {
  const { send, urlOf, keyOf } = openBucket(where, env, signal);
  /** Versions of what was read, for conditions: undefined where there was nothing. */
  const tags = new Map<string, string | undefined>();

  async function fail(path: string, response: Dispatcher.ResponseData): Promise<never> {
    const said = /<Code>([^<]+)<\/Code>/.exec((await readBody(response.body, urlOf(path), 1 << 20)).toString())?.[1];
    throw new UserError(`the bucket answered ${response.statusCode}${said === undefined ? '' : ` ${said}`}`, {
      where: urlOf(path),
      next: remedy(response),
    });
  }
  const tagOf = (response: Dispatcher.ResponseData): string | undefined => response.headers['etag']?.toString();

  async function read(path: string): Promise<Buffer | undefined> {
    const response = await send('GET', path);
    if (response.statusCode === 404) {
      const text = (await readBody(response.body, urlOf(path), 1 << 20)).toString();
      if (text.includes('<Code>NoSuchBucket</Code>'))
        throw new UserError('there is no such bucket', { where: urlOf(path), next: 'check its name, AWS_REGION and AWS_ENDPOINT_URL' });
      tags.set(path, undefined);
      return undefined;
    }
    if (response.statusCode !== 200) return fail(path, response);
    tags.set(path, tagOf(response));
    return readBody(response.body, urlOf(path));
  }

  async function sha256At(path: string): Promise<string> {
    const response = await send('GET', path);
    if (response.statusCode !== 200) return fail(path, response);
    const hash = createHash('sha256');
    for await (const chunk of response.body) hash.update(chunk as Buffer);
    return hash.digest('hex');
  }

  /** Uploads a file; false when the condition does not hold. */
  async function upload(path: string, file: string, { size, sha256 }: FileAbout, condition: Record<string, string>): Promise<boolean> {
    const headers = { ...headersFor(path), 'content-length': String(size), 'x-amz-meta-sha256': sha256, ...condition };
    const response = await send('PUT', path, headers, () => createReadStream(file, { highWaterMark: 1 << 20 }), sha256);
    if (response.statusCode !== 200 && response.statusCode !== 412 && response.statusCode !== 409) return fail(path, response);
    await response.body.dump();
    if (response.statusCode === 200) await copyToBlank(path);
    return response.statusCode === 200;
  }

  /** The second name of an image whose name has a `+`, copied by the server. */
  async function copyToBlank(path: string): Promise<void> {
    const other = blankName(path);
    if (other === undefined) return;
    const copied = await send('PUT', other, { 'x-amz-copy-source': keyOf(path) });
    if (copied.statusCode !== 200) return fail(other, copied);
    await copied.body.dump();
  }

  /** What is under a name: undefined, or its version, size and age in milliseconds by the server's own clock. */
  async function look(path: string): Promise<{ tag: string | undefined; size: number; age: number } | undefined> {
    const head = await send('HEAD', path);
    await head.body.dump();
    if (head.statusCode === 404) return undefined;
    if (head.statusCode !== 200) return fail(path, head);
    const date = (name: string): number => Date.parse(head.headers[name]?.toString() ?? '');
    return {
      tag: tagOf(head),
      size: Number(head.headers['content-length']),
      age: Math.max(0, (date('date') || Date.now()) - (date('last-modified') || 0)),
    };
  }

  /** Puts a file under a name that has none; where it has one, `other` decides about other bytes. */
  async function putUnless(
    path: string,
    file: string,
    about: FileAbout,
    other: (there: { tag: string | undefined; age: number }) => Promise<void>,
  ): Promise<void> {
    // Most of a large tree is there already: asking costs less than sending.
    let there = await look(path);
    if (there === undefined) {
      if (await upload(path, file, about, { 'if-none-match': '*' })) return;
      there = await look(path);
      if (there === undefined) throw new ConflictError(urlOf(path));
    }
    if (there.size !== about.size || (await sha256At(path)) !== about.sha256) return other(there);
    // A publish that died between the two.
    const second = blankName(path);
    if (second !== undefined && (await look(second)) === undefined) await copyToBlank(path);
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
    put: (path, file, about) =>
      putUnless(path, file, about, async () => {
        throw new TakenError(urlOf(path), path);
      }),
    putOver: (path, file, about) =>
      putUnless(path, file, about, async ({ tag, age }) => {
        if (age < ABANDONED_MS)
          throw new ConflictError(
            urlOf(path),
            `of a publish that is at work or died ${Math.round(age / 1000)} s ago; it is replaced when it is ${ABANDONED_MS / 60_000} minutes old`,
          );
        if (!(await upload(path, file, about, tag === undefined ? {} : { 'if-match': tag }))) throw new ConflictError(urlOf(path));
      }),
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
        if (response.statusCode === 412 || response.statusCode === 409 || (response.statusCode === 404 && tag !== undefined)) {
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
      async file(path, { size, sha256 }) {
        const there = await cache.blob(sha256);
        if (there !== undefined) return there;
        return cache.withTemp(async (temp) => {
          const response = await send('GET', path);
          if (response.statusCode !== 200) return fail(path, response);
          const file = join(temp, sha256);
          await pipeline(response.body, atMost(size, urlOf(path)), createWriteStream(file));
          return (await cache.keep(file, sha256)).path;
        });
      },
    }),
    async remove(paths) {
      for (const path of paths.flatMap((one) => [one, blankName(one) ?? one])) {
        const response = await send('DELETE', path);
        if (![200, 204, 404].includes(response.statusCode)) return fail(path, response);
        await response.body.dump();
      }
    },
  };
}

/** Passes on as many bytes as a file is listed with, and fails at one more. */
function atMost(limit: number, where: string): Transform {
  let seen = 0;
  return new Transform({
    transform(chunk: Buffer, _, next) {
      seen += chunk.length;
      if (seen > limit) next(new UserError(`the bucket sends more than the ${limit} bytes that the index lists`, { where }));
      else next(null, chunk);
    },
  });
}
