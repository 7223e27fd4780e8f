import { createReadStream } from 'node:fs';
import {
  envOf,
  headerOf,
  httpRequest,
  isNetworkFailure,
  jsonOf,
  timeFor,
  UserError,
  type Environment,
  type HttpBody,
  type HttpMethod,
  type HttpOptions,
  type HttpResponse,
} from '@flatcar/core/engine';
import * as v from 'valibot';
import { sha256Of } from '../tree/digest.ts';

// OCI image-spec 1.1 and distribution-spec 1.1.
export const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
export const INDEX = 'application/vnd.oci.image.index.v1+json';

/** Limit of manifests and tokens: the distribution spec lets registries refuse manifests above 4 MiB. */
const RESPONSE_LIMIT = 4 << 20;
/** A registry compares the digest of what it received before it answers. */
const HEADERS_MS = 120_000;
/**
 * Token hosts of registries whose tokens come from another host. Other registries issue tokens on their own host, or OCI_TOKEN_HOST names the
 * host: a rule such as "the same domain" would send passwords to strangers below co.uk or github.io.
 */
const TOKEN_HOSTS: Readonly<Record<string, string>> = {
  'docker.io': 'auth.docker.io',
  'index.docker.io': 'auth.docker.io',
  'registry-1.docker.io': 'auth.docker.io',
  'registry.gitlab.com': 'gitlab.com',
};

/** Content of a registry: bytes in memory, or a file. */
export type Blob = { readonly digest: string; readonly size: number } & ({ readonly bytes: Buffer } | { readonly file: string });

/** Bytes with their digest. */
export const blobOf = (bytes: Buffer): { digest: string; size: number; bytes: Buffer } => ({
  digest: `sha256:${sha256Of(bytes)}`,
  size: bytes.length,
  bytes,
});

/** One request to a registry. */
interface RegistryRequest {
  readonly method: HttpMethod;
  readonly repository: string;
  /** Below the repository, or a URL that the registry returned. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: () => HttpBody;
  /** Bytes of the body, which limit how long the request may take. */
  readonly size?: number;
  /** 1 for an upload whose address is valid only once. */
  readonly attempts?: number;
}

const TokenSchema = v.object({ token: v.optional(v.string()), access_token: v.optional(v.string()) });

/** The calls of the distribution spec that publishing needs. */
export class Registry {
  readonly #host: string;
  readonly #base: string;
  readonly #env: Environment;
  readonly #signal: AbortSignal | undefined;
  readonly #tokens = new Map<string, string>();

  constructor(host: string, env: Environment, signal: AbortSignal | undefined) {
    this.#host = host;
    this.#base = `${/^(?:localhost|127\.0\.0\.1|\[::1\])(?::|$)/.test(host) ? 'http' : 'https'}://${host}`;
    this.#env = env;
    this.#signal = signal;
  }

  /** User and password for Basic authentication. */
  #basic(): string | undefined {
    const [username, password] = [envOf('OCI_USERNAME', this.#env), envOf('OCI_PASSWORD', this.#env)];
    if (username === undefined || password === undefined) return undefined;
    return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
  }

  /**
   * Checks the URL from which the registry issues tokens: user and password are sent there. Accepts the registry's own origin, and over https
   * the host of TOKEN_HOSTS and of OCI_TOKEN_HOST.
   */
  #tokenUrl(realm: string): URL {
    const url = URL.canParse(realm) ? new URL(realm) : undefined;
    const known = [TOKEN_HOSTS[this.#host], envOf('OCI_TOKEN_HOST', this.#env)];
    const isOwn = url?.origin === new URL(this.#base).origin;
    if (url === undefined || !(isOwn || (url.protocol === 'https:' && known.includes(url.host))))
      throw new UserError(`the registry asks for credentials to be sent to '${realm.slice(0, 200)}', which is not its own https host`, {
        where: this.#host,
        next: `if that host is right, set OCI_TOKEN_HOST=${url?.host ?? 'HOST'}; credentials never go over plain http`,
      });
    return url;
  }

  async #request(url: string, options: HttpOptions): Promise<HttpResponse> {
    return httpRequest(url, { redirects: 0, signal: this.#signal, ...options, max: RESPONSE_LIMIT }).catch((cause: unknown) => {
      if (!isNetworkFailure(cause)) throw cause;
      throw new UserError(`the registry cannot be reached: ${cause.message}`, {
        where: url,
        next: 'check its name and the network',
        cause,
      });
    });
  }

  /** Gets a token for a repository from the URL in the registry's challenge. */
  async #tokenFor(repository: string, challenge: string): Promise<string | undefined> {
    const basic = this.#basic();
    if (/^basic/i.test(challenge)) return basic;
    const parameters = new Map([...challenge.matchAll(/(\w+)="([^"]*)"/g)].map(([, key = '', value = '']) => [key, value]));
    const realm = parameters.get('realm');
    if (realm === undefined) return undefined;
    const url = this.#tokenUrl(realm);
    const service = parameters.get('service');
    if (service !== undefined) url.searchParams.set('service', service);
    url.searchParams.set('scope', `repository:${repository}:pull,push`);
    const { status, bytes } = await this.#request(url.href, { headers: { authorization: basic } });
    if (status !== 200) return undefined;
    const parsed = v.safeParse(TokenSchema, jsonOf(bytes, url.href));
    const token = parsed.success ? (parsed.output.token ?? parsed.output.access_token) : undefined;
    return token === undefined || token === '' ? undefined : `Bearer ${token}`;
  }

  async #send(request: RegistryRequest): Promise<HttpResponse> {
    const { method, repository, path, headers, body, size = 0, attempts } = request;
    const url = /^https?:/.test(path) ? path : `${this.#base}/v2/${repository}/${path}`;
    const isOwn = new URL(url).origin === new URL(this.#base).origin;
    const attempt = (): Promise<HttpResponse> => {
      // Uploads may go to another host, which gets no token.
      const authorization = isOwn ? this.#tokens.get(repository) : undefined;
      return this.#request(url, {
        method,
        headers: { ...headers, authorization },
        body,
        attempts,
        idempotent: true, // an upload that was begun twice leaves one that is never completed
        limits: { headers: HEADERS_MS, total: timeFor(size) },
      });
    };
    const first = await attempt();
    // Another host does not decide where tokens come from.
    if (first.status !== 401 || !isOwn) return first;
    const token = await this.#tokenFor(repository, headerOf(first.headers, 'www-authenticate') ?? '');
    if (token === undefined)
      throw new UserError('the registry requires credentials', { where: url, next: 'set OCI_USERNAME and OCI_PASSWORD' });
    this.#tokens.set(repository, token);
    return attempt();
  }

  #expectStatus({ status, bytes }: HttpResponse, expected: number, where: string): void {
    if (status === expected) return;
    const message = /"message":\s*"([^"]*)"/.exec(bytes.toString())?.[1];
    throw new UserError(`the registry answered ${status}${message === undefined ? '' : `: ${message}`}`, {
      where: `${this.#host}/${where}`,
      next: status === 401 || status === 403 ? 'check the credentials and their permissions' : 'check the name of the repository',
    });
  }

  /** The address of an upload as the registry returns it, but never from https to http. */
  #uploadUrl(start: HttpResponse, digest: string): string {
    const location = headerOf(start.headers, 'location') ?? '';
    const url = location !== '' && URL.canParse(location, start.url) ? new URL(location, start.url) : undefined;
    const isSafe = url?.protocol === 'https:' || (url?.protocol === 'http:' && this.#base.startsWith('http:'));
    if (url === undefined || !isSafe)
      throw new UserError(`the registry returned '${location.slice(0, 200)}', which is not a valid address for an upload`, {
        where: this.#host,
        next: 'check the registry and any proxy in between',
      });
    url.username = '';
    url.password = '';
    url.searchParams.set('digest', digest);
    return url.href;
  }

  async pushBlob(repository: string, blob: Blob): Promise<void> {
    const { digest, size } = blob;
    const head = await this.#send({ method: 'HEAD', repository, path: `blobs/${digest}` });
    // Registries redirect readers of an existing blob to its storage.
    if (head.status === 200 || (head.status >= 300 && head.status < 400)) return;
    const start = await this.#send({ method: 'POST', repository, path: 'blobs/uploads/', headers: { 'content-length': '0' } });
    this.#expectStatus(start, 202, repository);
    const put = await this.#send({
      method: 'PUT',
      repository,
      path: this.#uploadUrl(start, digest),
      headers: { 'content-type': 'application/octet-stream', 'content-length': String(size) },
      // The registry compares the digest with what it received.
      body: () => ('bytes' in blob ? blob.bytes : createReadStream(blob.file, { highWaterMark: 1 << 20 })),
      size,
      attempts: 1,
    });
    this.#expectStatus(put, 201, `${repository}@${digest}`);
  }

  /** Pushes a manifest; true if the registry lists it among its subject's referrers. */
  async pushManifest(repository: string, reference: string, mediaType: string, bytes: Buffer): Promise<boolean> {
    const path = `manifests/${reference}`;
    const response = await this.#send({ method: 'PUT', repository, path, headers: { 'content-type': mediaType }, body: () => bytes });
    this.#expectStatus(response, 201, `${repository}:${reference}`);
    return response.headers['oci-subject'] !== undefined;
  }

  async manifest(repository: string, reference: string): Promise<Buffer | undefined> {
    const headers = { accept: `${MANIFEST}, ${INDEX}` };
    const response = await this.#send({ method: 'GET', repository, path: `manifests/${reference}`, headers });
    if (response.status === 404) return undefined;
    this.#expectStatus(response, 200, `${repository}:${reference}`);
    return response.bytes;
  }
}
