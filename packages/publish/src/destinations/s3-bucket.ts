import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import {
  headerOf,
  httpSend,
  isNetworkFailure,
  readBody,
  timeFor,
  UserError,
  type Environment,
  type HttpBody,
  type HttpExchange,
  type ResponseHeaders,
} from '@flatcar/core/engine';
import { AwsClient } from 'aws4fetch';
import { sha256Of } from '../tree/digest.ts';
import { READ_LIMIT } from '../tree/http-source.ts';
import { urlPath } from '../tree/layout.ts';
import type { FileAbout } from '../tree/tree.ts';
import { credentialsOf, endpointOf, regionOf, type Credentials } from './s3-credentials.ts';

/** Cache policy and type of an object: an object that can change is revalidated each time. */
function headersFor(path: string): Record<string, string> {
  const name = path.split('/').at(-1) ?? '';
  const isImmutable = /\.(?:raw|gz)$|^(?:index|packages)-|\.(?:manifest|spdx|provenance)\.json$/.test(name);
  const isText = /^SHA256SUMS$|\.(?:conf|transfer|pem|crt|txt)$/.test(name);
  const suffix = /\.[a-z]+$/.exec(name)?.[0] ?? '';
  const type = { '.json': 'application/json', '.html': 'text/html; charset=utf-8', '.atom': 'application/atom+xml' }[suffix];
  return {
    'content-type': type ?? (isText ? 'text/plain' : 'application/octet-stream'),
    'cache-control': isImmutable ? 'public, max-age=31536000, immutable' : 'no-cache',
  };
}

/** Limit of an error document, in bytes. */
const MOST_ERROR = 1 << 20;
/** A bucket compares the digest of what it received before it answers. */
const HEADERS_MS = 120_000;

/**
 * The second name of an image whose name has a `+`: S3 reads a `+` in a path as a space, and systemd-sysupdate requests names as the sums
 * list them. Undefined for all other paths. (aptly and deb-s3 do the same.)
 */
const spaceName = (path: string): string | undefined =>
  path.includes('+') && /\.(?:raw|gz)$/.test(path) ? path.replaceAll('+', ' ') : undefined;

/** Names of an object: its own, and its second one if it has one. */
export function namesOf(path: string): string[] {
  const second = spaceName(path);
  return second === undefined ? [path] : [path, second];
}

type Method = 'GET' | 'HEAD' | 'PUT' | 'DELETE';

interface BucketRequest {
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: () => HttpBody;
  /** Of the body; of an empty body by default. */
  readonly sha256?: string;
  /** Bytes of the larger of body and response, which limit how long the request may take. */
  readonly size?: number;
}

/** An object of a bucket; its age in milliseconds by the server's own clock. */
export interface BucketObject {
  readonly tag: string;
  readonly size: number;
  readonly age: number;
}

/** What to do about an error response. */
function remedy({ status, headers }: HttpExchange): string {
  const region = headerOf(headers, 'x-amz-bucket-region');
  if (status >= 300 && status < 400)
    return `the bucket is elsewhere: set AWS_REGION${region === undefined ? '' : `=${region}`} or AWS_ENDPOINT_URL`;
  if (status === 403)
    return 'check the credentials and their permissions s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject: without s3:ListBucket a missing object is answered with 403';
  if (status === 501) return 'the service must support conditional writes (If-None-Match, If-Match)';
  return 'check the bucket, the credentials and their permissions';
}

/** What an object must still be like when it is replaced: of one tag, or absent. */
type Condition = { readonly 'if-match': string } | { readonly 'if-none-match': '*' };

/** Signed requests to a bucket; paths are relative to the prefix. Redirects are not followed, because a signature is for one host. */
export class Bucket {
  readonly #name: string;
  readonly #prefix: string;
  readonly #region: string;
  readonly #endpoint: string;
  readonly #credentials: () => Promise<Credentials>;
  readonly #signal: AbortSignal | undefined;

  constructor(where: string, env: Environment, signal: AbortSignal | undefined) {
    const { host, pathname } = new URL(where);
    this.#name = host;
    this.#prefix = pathname.replaceAll(/^\/+|\/+$/g, '');
    this.#region = regionOf(env);
    this.#endpoint = endpointOf('s3', env);
    this.#credentials = credentialsOf(where, env, signal);
    this.#signal = signal;
  }

  #keyOf(path: string): string {
    return `/${urlPath([this.#name, this.#prefix, path].filter((part) => part !== '').join('/'))}`;
  }

  urlOf(path: string): string {
    return `${this.#endpoint}${this.#keyOf(path)}`;
  }

  /** Sends a signed request and passes the response to `read`, whatever its status is, after retries. */
  async #send<T>(method: Method, path: string, request: BucketRequest, read: (response: HttpExchange) => Promise<T>): Promise<T> {
    const { headers = {}, body, sha256 = sha256Of(Buffer.alloc(0)), size = READ_LIMIT } = request;
    const url = this.urlOf(path);
    const sign = async (): Promise<Record<string, string>> => {
      const aws = new AwsClient({ ...(await this.#credentials()), service: 's3', region: this.#region });
      // The digest of the body is signed: the server refuses other bytes.
      const signed = await aws.sign(url, { method, headers: { ...headers, 'x-amz-content-sha256': sha256 } });
      return Object.fromEntries(signed.headers);
    };
    const limits = { headers: HEADERS_MS, total: timeFor(size) };
    return httpSend(url, { method, headers: sign, body, signal: this.#signal, redirects: 0, limits }, read).catch((cause: unknown) => {
      if (!isNetworkFailure(cause)) throw cause;
      throw new UserError(`the bucket cannot be reached: ${cause.message}`, {
        where: url,
        next: 'check the network, AWS_REGION and AWS_ENDPOINT_URL',
        cause,
      });
    });
  }

  /** The tag of an object. */
  #tagOf(path: string, headers: ResponseHeaders): string {
    const tag = headerOf(headers, 'etag');
    if (tag !== undefined) return tag;
    throw new UserError('the bucket answered without an ETag', {
      where: this.urlOf(path),
      next: 'the service must support conditional writes (If-None-Match, If-Match)',
    });
  }

  /** Throws for an error response. */
  async #fail(path: string, response: HttpExchange): Promise<never> {
    const code = /<Code>([^<]+)<\/Code>/.exec((await readBody(response, MOST_ERROR)).toString())?.[1];
    throw new UserError(`the bucket answered ${response.status}${code === undefined ? '' : ` ${code}`}`, {
      where: this.urlOf(path),
      next: remedy(response),
    });
  }

  /** Sends a request whose response has no content. Throws unless its status is one of `statuses`. */
  async #sendFor(
    method: Method,
    path: string,
    request: BucketRequest,
    statuses: readonly number[],
  ): Promise<{ status: number; headers: ResponseHeaders }> {
    return this.#send(method, path, request, async (response) => {
      const { status, headers } = response;
      return statuses.includes(status) ? { status, headers } : this.#fail(path, response);
    });
  }

  /** Reads a small object with its tag; undefined if it does not exist. */
  async read(path: string, limit = READ_LIMIT): Promise<{ bytes: Buffer; tag: string } | undefined> {
    return this.#send('GET', path, {}, async (response) => {
      if (response.status === 200) return { bytes: await readBody(response, limit), tag: this.#tagOf(path, response.headers) };
      if (response.status !== 404) return this.#fail(path, response);
      if ((await readBody(response, MOST_ERROR)).includes('<Code>NoSuchBucket</Code>'))
        throw new UserError('there is no such bucket', {
          where: this.urlOf(path),
          next: 'check its name, AWS_REGION and AWS_ENDPOINT_URL',
        });
      return undefined;
    });
  }

  /** Downloads an object into a file; fails at the first byte beyond `size`. */
  async download(path: string, size: number, file: string): Promise<void> {
    await this.#send('GET', path, { size }, async (response) => {
      if (response.status !== 200) return this.#fail(path, response);
      await pipeline(response.body, atMost(size, this.urlOf(path)), createWriteStream(file), { signal: this.#signal });
      return undefined;
    });
  }

  /** The digest of an object, which is downloaded for it: the bucket's metadata can be written by anybody who can write the bucket. */
  async sha256(path: string, size: number): Promise<string> {
    return this.#send('GET', path, { size }, async (response) => {
      if (response.status !== 200) return this.#fail(path, response);
      const hash = createHash('sha256');
      for await (const chunk of response.body) hash.update(chunk);
      return hash.digest('hex');
    });
  }

  /** Tag, size and age of an object; undefined if it does not exist. */
  async stat(path: string): Promise<BucketObject | undefined> {
    const { status, headers } = await this.#sendFor('HEAD', path, {}, [200, 404]);
    if (status === 404) return undefined;
    const date = (name: string): number => Date.parse(headerOf(headers, name) ?? '');
    return {
      tag: this.#tagOf(path, headers),
      size: Number(headerOf(headers, 'content-length')),
      age: Math.max(0, (date('date') || Date.now()) - (date('last-modified') || 0)),
    };
  }

  /** Uploads a file, also under its second name. Returns false if the condition does not hold. */
  async upload(path: string, file: string, { size, sha256 }: FileAbout, condition: Condition): Promise<boolean> {
    const headers = { ...headersFor(path), 'content-length': String(size), 'x-amz-meta-sha256': sha256, ...condition };
    const body = (): HttpBody => createReadStream(file, { highWaterMark: 1 << 20 });
    const { status } = await this.#sendFor('PUT', path, { headers, body, sha256, size }, [200, 412, 409]);
    if (status === 200) await this.#copyToSecondName(path);
    return status === 200;
  }

  async #copyToSecondName(path: string): Promise<void> {
    const other = spaceName(path);
    if (other !== undefined) await this.#sendFor('PUT', other, { headers: { 'x-amz-copy-source': this.#keyOf(path) } }, [200]);
  }

  /** Makes the second name of an object if a killed upload left it out. */
  async completeNames(path: string): Promise<void> {
    const other = spaceName(path);
    if (other !== undefined && (await this.stat(other)) === undefined) await this.#copyToSecondName(path);
  }

  /**
   * Writes a small object if it still has the given tag, or does not exist if the tag is undefined. Returns the new tag; `changed` if the
   * condition does not hold.
   */
  async replace(path: string, bytes: Buffer, tag: string | undefined): Promise<{ tag: string } | 'changed'> {
    const condition: Condition = tag === undefined ? { 'if-none-match': '*' } : { 'if-match': tag };
    const headers = { ...headersFor(path), 'content-length': String(bytes.length), ...condition };
    const request = { headers, body: () => bytes, sha256: sha256Of(bytes), size: bytes.length };
    const response = await this.#sendFor('PUT', path, request, tag === undefined ? [200, 412, 409] : [200, 412, 409, 404]);
    return response.status === 200 ? { tag: this.#tagOf(path, response.headers) } : 'changed';
  }

  async remove(path: string): Promise<void> {
    await this.#sendFor('DELETE', path, {}, [200, 204, 404]);
  }
}

/** Passes on as many bytes as the index lists, and fails at the next byte. */
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
