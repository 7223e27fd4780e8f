import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { basename } from 'node:path';
import {
  envOf,
  headerOf,
  httpRequest,
  isNetworkFailure,
  jsonOf,
  sidecarPaths,
  timeFor,
  UserError,
  type Arch,
  type Environment,
  type HttpBody,
  type HttpMethod,
  type HttpOptions,
  type HttpResponse,
  type Report,
} from '@flatcar/core/engine';
import type { PublicKey } from 'openpgp';
import * as v from 'valibot';
import { TakenError } from '../destinations/destination.ts';
import type { PublishedImage, PublishedVersion } from '../tree/schema.ts';
import { NoTreeError, readPublished, sha256Of } from '../tree/state.ts';
import type { Tree } from '../tree/tree.ts';

// OCI image-spec 1.1 (artifacts, referrers) and distribution-spec 1.1.
const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
const INDEX = 'application/vnd.oci.image.index.v1+json';
const EMPTY = { mediaType: 'application/vnd.oci.empty.v1+json', digest: `sha256:${sha256Of(Buffer.from('{}'))}`, size: 2, data: 'e30=' };
/** What our artifacts are called. */
export const ARTIFACT = 'application/vnd.flatcar.extension.v1';
const SBOM = 'application/spdx+json';
const PROVENANCE = 'application/vnd.in-toto+json';

/** Manifests and tokens are smaller: the distribution spec lets registries refuse manifests above 4 MiB. */
const ANSWER_LIMIT = 4 << 20;
/** A registry compares the digest of what it received before it answers. */
const HEADERS_MS = 120_000;
/**
 * Where registries give out tokens that have another host for it. Every other registry does on its own host, or OCI_TOKEN_HOST names the
 * other one: a rule such as "the same domain" would send passwords to strangers below co.uk or github.io.
 */
const TOKEN_HOSTS: Readonly<Record<string, string>> = {
  'docker.io': 'auth.docker.io',
  'index.docker.io': 'auth.docker.io',
  'registry-1.docker.io': 'auth.docker.io',
  'registry.gitlab.com': 'gitlab.com',
};

interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly artifactType?: string;
  readonly annotations?: Readonly<Record<string, string>>;
}

/** Something that goes into a registry: bytes that are there, or a file. */
type Blob = { readonly digest: string; readonly size: number } & ({ readonly bytes: Buffer } | { readonly file: string });

const described = (bytes: Buffer): { digest: string; size: number; bytes: Buffer } => ({
  digest: `sha256:${sha256Of(bytes)}`,
  size: bytes.length,
  bytes,
});

/** One request to a registry. */
interface RegistryRequest {
  readonly method: HttpMethod;
  readonly repository: string;
  /** Below the repository, or a whole URL that the registry named. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: () => HttpBody;
  /** Bytes of the body, for how long it may take. */
  readonly size?: number;
  /** 1 for an upload whose address is good for once. */
  readonly attempts?: number;
}

const Token = v.object({ token: v.optional(v.string()), access_token: v.optional(v.string()) });

/** The calls of the distribution spec that publishing takes. */
class Registry {
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
   * Where the registry says that tokens are given out: user and password go there. Only to the registry's own origin, or over https to the
   * host that is known for it (TOKEN_HOSTS) or that OCI_TOKEN_HOST names.
   */
  #realm(realm: string): URL {
    const url = URL.canParse(realm) ? new URL(realm) : undefined;
    const known = [TOKEN_HOSTS[this.#host], envOf('OCI_TOKEN_HOST', this.#env)];
    const isOwn = url?.origin === new URL(this.#base).origin;
    if (url === undefined || !(isOwn || (url.protocol === 'https:' && known.includes(url.host))))
      throw new UserError(`the registry asks for credentials to be sent to '${realm.slice(0, 200)}', which is not its own https host`, {
        where: this.#host,
        next: `if that is right, set OCI_TOKEN_HOST=${url?.host ?? 'HOST'}; credentials never go over plain http`,
      });
    return url;
  }

  async #request(url: string, options: HttpOptions): Promise<HttpResponse> {
    return httpRequest(url, { redirects: 0, signal: this.#signal, ...options, max: ANSWER_LIMIT }).catch((cause: unknown) => {
      if (!isNetworkFailure(cause)) throw cause;
      throw new UserError(`the registry cannot be reached: ${cause.message}`, {
        where: url,
        next: 'check its name and the network',
        cause,
      });
    });
  }

  /** A token for a repository, as the registry's challenge says where to get one. */
  async #tokenFor(repository: string, challenge: string): Promise<string | undefined> {
    const basic = this.#basic();
    if (/^basic/i.test(challenge)) return basic;
    const parameters = new Map([...challenge.matchAll(/(\w+)="([^"]*)"/g)].map(([, key = '', value = '']) => [key, value]));
    const realm = parameters.get('realm');
    if (realm === undefined) return undefined;
    const url = this.#realm(realm);
    const service = parameters.get('service');
    if (service !== undefined) url.searchParams.set('service', service);
    url.searchParams.set('scope', `repository:${repository}:pull,push`);
    const { status, bytes } = await this.#request(url.href, { headers: basic === undefined ? {} : { authorization: basic } });
    if (status !== 200) return undefined;
    const parsed = v.safeParse(Token, jsonOf(bytes, url.href));
    const token = parsed.success ? (parsed.output.token ?? parsed.output.access_token) : undefined;
    return token === undefined || token === '' ? undefined : `Bearer ${token}`;
  }

  async #send(one: RegistryRequest): Promise<HttpResponse> {
    const { method, repository, path, headers = {}, body, size = 0, attempts } = one;
    const url = /^https?:/.test(path) ? path : `${this.#base}/v2/${repository}/${path}`;
    const isOwn = new URL(url).origin === new URL(this.#base).origin;
    const attempt = (): Promise<HttpResponse> => {
      // Uploads may be sent to another host, which gets no token.
      const authorization = isOwn ? this.#tokens.get(repository) : undefined;
      return this.#request(url, {
        method,
        headers: authorization === undefined ? headers : { ...headers, authorization },
        body,
        attempts,
        idempotent: true, // an upload that was begun twice is one that nobody ends
        limits: { headers: HEADERS_MS, total: timeFor(size) },
      });
    };
    const first = await attempt();
    // Nor does it have a say in where tokens come from.
    if (first.status !== 401 || !isOwn) return first;
    const token = await this.#tokenFor(repository, headerOf(first.headers, 'www-authenticate') ?? '');
    if (token === undefined)
      throw new UserError('the registry wants credentials', { where: url, next: 'set OCI_USERNAME and OCI_PASSWORD' });
    this.#tokens.set(repository, token);
    return attempt();
  }

  #expectStatus({ status, bytes }: HttpResponse, wanted: number, where: string): void {
    if (status === wanted) return;
    const said = /"message":\s*"([^"]*)"/.exec(bytes.toString())?.[1];
    throw new UserError(`the registry answered ${status}${said === undefined ? '' : `: ${said}`}`, {
      where: `${this.#host}/${where}`,
      next: status === 401 || status === 403 ? 'check the credentials and what they may do' : 'check the name of the repository',
    });
  }

  /** Where an upload goes: as the registry says, but not from https to http. */
  #uploadUrl(start: HttpResponse, digest: string): string {
    const location = headerOf(start.headers, 'location') ?? '';
    const url = location !== '' && URL.canParse(location, start.url) ? new URL(location, start.url) : undefined;
    const isSafe = url?.protocol === 'https:' || (url?.protocol === 'http:' && this.#base.startsWith('http:'));
    if (url === undefined || !isSafe)
      throw new UserError(`the registry wants the upload at '${location.slice(0, 200)}', which is not a valid address for it`, {
        where: this.#host,
        next: 'check the registry, and what is between (a proxy)',
      });
    url.username = '';
    url.password = '';
    url.searchParams.set('digest', digest);
    return url.href;
  }

  async pushBlob(repository: string, blob: Blob): Promise<void> {
    const { digest, size } = blob;
    const head = await this.#send({ method: 'HEAD', repository, path: `blobs/${digest}` });
    // Registries send whoever reads a blob that is there to where it is stored.
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

  /** Pushes a manifest; tells whether the registry has entered it among its subject's referrers. */
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

/** An image's tag: `1.37.0-4593.2.5-x86-64`; tags have no `+`. */
export const tagOf = (version: string, { target, architecture }: Pick<PublishedImage, 'target' | 'architecture'>): string =>
  `${version}-${target}-${architecture}`.replaceAll('+', '_');

export interface OciOptions {
  readonly tree: Tree;
  /** `host[:port]/repository`: images go to `<repository>/<extension>`. */
  readonly to: string;
  /** Whose signature the tree must have. */
  readonly keys: readonly PublicKey[];
  readonly extensions?: readonly string[];
  readonly targets?: readonly string[];
  readonly arches?: readonly Arch[];
  /** OCI_USERNAME, OCI_PASSWORD. */
  readonly env?: Environment;
  readonly report?: Report;
  readonly signal?: AbortSignal;
}

export interface OciResult {
  readonly where: string;
  readonly serial: number;
  /** References by tag, those that were there before among them. */
  readonly images: readonly string[];
  readonly bytes: number;
}

/**
 * Copies published images into an OCI registry, each an artifact with its SBOM and its provenance as referrers. Everything comes out of the
 * signed tree and is checked on the way; the tag is set last, and never moved to other bytes.
 */
export async function pushOci(options: OciOptions): Promise<OciResult> {
  const { tree, to, keys, env = process.env, report = () => undefined, signal } = options;
  const [, host = '', root = ''] = /^([^/]+)\/(.+?)\/*$/.exec(to) ?? [];
  if (host === '' || !/^[a-z0-9]+(?:[._/-]+[a-z0-9]+)*$/.test(root))
    throw new UserError(`'${to}' is no place in a registry`, { next: 'write it as oci://registry.example.org/flatcar/extensions' });
  const remote = new Registry(host, env, signal);
  const published = await readPublished(tree, keys);
  const { index } = published;
  if (index === undefined) throw new NoTreeError(tree);
  const names = options.extensions ?? index.extensions.map(({ name }) => name);

  const sidecar = async (path: string, sha256: string): Promise<Buffer> => {
    const bytes = await tree.read(path);
    if (bytes === undefined || sha256Of(bytes) !== sha256)
      throw new UserError('the file is not the one that the signed index lists', { where: `${tree.where}/${path}` });
    return bytes;
  };

  async function pushImage(repository: string, version: PublishedVersion, image: PublishedImage): Promise<string> {
    const tag = tagOf(version.version, image);
    const manifest = described(
      Buffer.from(
        JSON.stringify({
          schemaVersion: 2,
          mediaType: MANIFEST,
          artifactType: ARTIFACT,
          config: EMPTY,
          layers: [
            {
              mediaType: `application/vnd.flatcar.extension.${image.format}`,
              digest: `sha256:${image.sha256}`,
              size: image.size,
              annotations: { 'org.opencontainers.image.title': basename(image.path) },
            },
          ],
          annotations: {
            'org.opencontainers.image.title': repository.split('/').at(-1),
            'org.opencontainers.image.version': version.version,
            'org.flatcar.extension.target': image.target,
            'org.flatcar.extension.architecture': image.architecture,
          },
        }),
      ),
    );
    const there = await remote.manifest(repository, tag);
    if (there !== undefined && sha256Of(there) !== sha256Of(manifest.bytes)) throw new TakenError(`${host}/${repository}:${tag}`, tag);

    const file = await tree.file(image.path, image);
    await remote.pushBlob(repository, { digest: `sha256:${image.sha256}`, size: (await stat(file)).size, file });
    await remote.pushBlob(repository, described(Buffer.from('{}')));
    await remote.pushManifest(repository, manifest.digest, MANIFEST, manifest.bytes);
    const paths = sidecarPaths(image.path);
    const referrers: Descriptor[] = [];
    let isEntered = true;
    for (const [path, sha256, artifactType] of [
      [paths.sbom, image.sbom, SBOM],
      [paths.provenance, image.provenance, PROVENANCE],
    ] as const) {
      // prettier-ignore
      const blob = described(await sidecar(path, sha256));
      await remote.pushBlob(repository, blob);
      const layer = {
        mediaType: artifactType,
        digest: blob.digest,
        size: blob.size,
        annotations: { 'org.opencontainers.image.title': basename(path) },
      };
      const subject = { mediaType: MANIFEST, digest: manifest.digest, size: manifest.size };
      const evidence = described(
        Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: MANIFEST, artifactType, config: EMPTY, layers: [layer], subject })),
      );
      isEntered = (await remote.pushManifest(repository, evidence.digest, MANIFEST, evidence.bytes)) && isEntered;
      referrers.push({ mediaType: MANIFEST, digest: evidence.digest, size: evidence.size, artifactType });
    }
    // Registries of before 1.1 do not list referrers: clients then look for a tag that is made of the digest.
    if (!isEntered) {
      const fallback = manifest.digest.replace(':', '-');
      const before = await remote.manifest(repository, fallback);
      const others = before === undefined ? [] : (JSON.parse(before.toString()) as { manifests: Descriptor[] }).manifests;
      const all = new Map([...others, ...referrers].map((one) => [one.digest, one]));
      await remote.pushManifest(
        repository,
        fallback,
        INDEX,
        Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: INDEX, manifests: [...all.values()] })),
      );
    }
    if (there === undefined) await remote.pushManifest(repository, tag, MANIFEST, manifest.bytes);
    return `${host}/${repository}:${tag}`;
  }

  const images: string[] = [];
  let bytes = 0;
  for (const name of names) {
    const extension = await published.extension(name);
    if (extension === undefined)
      throw new UserError(`'${name}' is not published here`, {
        where: tree.where,
        next: `there are: ${index.extensions.map((one) => one.name).join(', ')}`,
      });
    for (const version of extension.versions) {
      if (version.withdrawn !== undefined) continue;
      for (const image of version.images) {
        if (options.targets?.includes(image.target) === false || options.arches?.includes(image.architecture) === false) continue;
        signal?.throwIfAborted();
        report({ type: 'step', text: `pushing ${image.path}` });
        images.push(await pushImage(`${root}/${name}`, version, image));
        bytes += image.size;
      }
    }
  }
  return { where: to, serial: index.serial, images, bytes };
}
