import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { join } from 'node:path';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import {
  headerOf,
  httpSend,
  isNetworkFailure,
  openStore,
  readBody,
  timeFor,
  UserError,
  type Environment,
  type HttpBody,
  type HttpExchange,
  type ResponseHeaders,
  type Store,
} from '@flatcar/core/engine';
import { AwsClient } from 'aws4fetch';
import type { FileAbout } from '../tree/tree.ts';
import { ConflictError, TakenError, type Destination } from './destination.ts';
import { READ_LIMIT } from '../tree/http-source.ts';
import { urlPath } from '../tree/layout.ts';
import { credentialsOf, endpointOf, regionOf } from './s3-credentials.ts';
import { sha256Of } from '../tree/state.ts';

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

/** What a bucket says of an error, in bytes. */
const MOST_ERROR = 1 << 20;
/** A bucket compares the digest of what it received before it answers. */
const HEADERS_MS = 120_000;
/** What nothing lists is of a publish at work until it is older than this: images of one extension are uploaded in less. */
const ABANDONED_MS = 15 * 60_000;

/**
 * The second name of an image whose name has a `+`: S3 reads a `+` in a path as a blank, and systemd-sysupdate asks for names as they are in
 * the sums. Undefined for all else. (aptly and deb-s3 do the same.)
 */
const blankName = (path: string): string | undefined =>
  path.includes('+') && /\.(?:raw|gz)$/.test(path) ? path.replaceAll('+', ' ') : undefined;

/** A request to a bucket. */
interface BucketRequest {
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: () => HttpBody;
  /** Of the body; that of an empty one by default. */
  readonly sha256?: string;
  /** Bytes of the larger of body and answer: how long it may take. */
  readonly size?: number;
}

/** Sends a signed request, and hands the answer to `read`: of any status but those that are tried again. */
type Send = <T>(
  method: 'GET' | 'HEAD' | 'PUT' | 'DELETE',
  path: string,
  request: BucketRequest,
  read: (exchange: HttpExchange) => Promise<T>,
) => Promise<T>;

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
  const credentials = credentialsOf(where, env, signal);
  const keyOf = (path: string): string => `/${urlPath([bucket, ...(prefix === '' ? [] : [prefix]), path].join('/'))}`;
  const urlOf = (path: string): string => `${endpoint}${keyOf(path)}`;
  return {
    urlOf,
    keyOf,
    async send(method, path, { headers = {}, body, sha256 = sha256Of(Buffer.alloc(0)), size = READ_LIMIT }, read) {
      const url = urlOf(path);
      const sign = async (): Promise<Record<string, string>> => {
        const aws = new AwsClient({ ...(await credentials()), service: 's3', region });
        // The digest of the body is signed: the server refuses other bytes.
        const signed = await aws.sign(url, { method, headers: { ...headers, 'x-amz-content-sha256': sha256 } });
        return Object.fromEntries(signed.headers);
      };
      const limits = { headers: HEADERS_MS, total: timeFor(size) };
      return httpSend(url, { method, headers: sign, body, signal, redirects: 0, limits }, read).catch((cause: unknown) => {
        if (!isNetworkFailure(cause)) throw cause;
        throw new UserError(`the bucket cannot be reached: ${cause.message}`, {
          where: url,
          next: 'check the network, AWS_REGION and AWS_ENDPOINT_URL',
          cause,
        });
      });
    },
  };
}

/** What to do about an answer that is an error. */
function remedy({ status, headers }: HttpExchange): string {
  const region = headerOf(headers, 'x-amz-bucket-region');
  if (status >= 300 && status < 400)
    return `the bucket is elsewhere: set AWS_REGION${region === undefined ? '' : `=${region}`} or AWS_ENDPOINT_URL`;
  if (status === 403)
    return 'check the credentials, and that they may s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject: without s3:ListBucket a missing object is answered with 403';
  if (status === 501) return 'the service must support conditional writes (If-None-Match, If-Match)';
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

  async function fail(path: string, response: HttpExchange): Promise<never> {
    const said = /<Code>([^<]+)<\/Code>/.exec((await readBody(response, MOST_ERROR)).toString())?.[1];
    throw new UserError(`the bucket answered ${response.status}${said === undefined ? '' : ` ${said}`}`, {
      where: urlOf(path),
      next: remedy(response),
    });
  }
  const tagOf = (headers: ResponseHeaders): string | undefined => headerOf(headers, 'etag');

  const read = (path: string): Promise<Buffer | undefined> =>
    send('GET', path, {}, async (response) => {
      if (response.status === 404) {
        if ((await readBody(response, MOST_ERROR)).includes('<Code>NoSuchBucket</Code>'))
          throw new UserError('there is no such bucket', { where: urlOf(path), next: 'check its name, AWS_REGION and AWS_ENDPOINT_URL' });
        tags.set(path, undefined);
        return undefined;
      }
      if (response.status !== 200) return fail(path, response);
      const bytes = await readBody(response, READ_LIMIT);
      tags.set(path, tagOf(response.headers));
      return bytes;
    });

  const sha256At = (path: string, size: number): Promise<string> =>
    send('GET', path, { size }, async (response) => {
      if (response.status !== 200) return fail(path, response);
      const hash = createHash('sha256');
      for await (const chunk of response.body) hash.update(chunk);
      return hash.digest('hex');
    });

  /** Sends a request whose answer has no content: its status and headers, where it is one of `wanted`. */
  const expectStatus = (
    method: 'HEAD' | 'PUT' | 'DELETE',
    path: string,
    request: BucketRequest,
    wanted: readonly number[],
  ): Promise<{ status: number; headers: ResponseHeaders }> =>
    send(method, path, request, async (response) => {
      const { status, headers } = response;
      return wanted.includes(status) ? { status, headers } : fail(path, response);
    });

  /** Uploads a file; false when the condition does not hold. */
  async function upload(path: string, file: string, { size, sha256 }: FileAbout, condition: Record<string, string>): Promise<boolean> {
    const headers = { ...headersFor(path), 'content-length': String(size), 'x-amz-meta-sha256': sha256, ...condition };
    const body = (): HttpBody => createReadStream(file, { highWaterMark: 1 << 20 });
    const { status } = await expectStatus('PUT', path, { headers, body, sha256, size }, [200, 412, 409]);
    if (status === 200) await copyToBlank(path);
    return status === 200;
  }

  /** The second name of an image whose name has a `+`, copied by the server. */
  async function copyToBlank(path: string): Promise<void> {
    const other = blankName(path);
    if (other !== undefined) await expectStatus('PUT', other, { headers: { 'x-amz-copy-source': keyOf(path) } }, [200]);
  }

  /** What is under a name: undefined, or its version, size and age in milliseconds by the server's own clock. */
  async function look(path: string): Promise<{ tag: string | undefined; size: number; age: number } | undefined> {
    const { status, headers } = await expectStatus('HEAD', path, {}, [200, 404]);
    if (status === 404) return undefined;
    const date = (name: string): number => Date.parse(headerOf(headers, name) ?? '');
    return {
      tag: tagOf(headers),
      size: Number(headerOf(headers, 'content-length')),
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
    if (there.size !== about.size || (await sha256At(path, about.size)) !== about.sha256) return other(there);
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
        const wanted = tag === undefined ? [200, 412, 409] : [200, 412, 409, 404];
        const put = await expectStatus('PUT', path, { headers, body: () => bytes, sha256: sha256Of(bytes), size: bytes.length }, wanted);
        if (put.status !== 200) throw new ConflictError(urlOf(path));
        tags.set(path, tagOf(put.headers));
      }
    },
    tree: (cache) => ({
      where,
      read,
      async file(path, { size, sha256 }) {
        const there = await cache.blob(sha256);
        if (there !== undefined) return there;
        return cache.withTemp(async (temp) => {
          const file = join(temp, sha256);
          await send('GET', path, { size }, async (response) => {
            if (response.status !== 200) return fail(path, response);
            await pipeline(response.body, atMost(size, urlOf(path)), createWriteStream(file), { signal });
          });
          return (await cache.keep(file, sha256)).path;
        });
      },
    }),
    async remove(paths) {
      for (const path of paths.flatMap((one) => [one, blankName(one) ?? one])) await expectStatus('DELETE', path, {}, [200, 204, 404]);
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
