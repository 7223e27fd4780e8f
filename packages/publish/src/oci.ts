import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { dispatcher, envOf, messageOf, sidecarPaths, UserError, type Arch, type Environment, type Report } from '@flatcar/core';
import type { PublicKey } from 'openpgp';
import { request, type Dispatcher } from 'undici';
import { TakenError } from './destination.ts';
import { readBody, WITHOUT_REDIRECTS } from './http.ts';
import type { PublishedImage, PublishedVersion } from './schema.ts';
import { NoTreeError, readPublished, sha256Of } from './state.ts';
import type { Tree } from './tree.ts';

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

interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly artifactType?: string;
  readonly annotations?: Readonly<Record<string, string>>;
}

/** Something that goes into a registry: bytes that are there, or a file. */
type Blob = { readonly digest: string; readonly size: number } & ({ readonly bytes: Buffer } | { readonly file: string });

type Body = Exclude<Dispatcher.DispatchOptions['body'], undefined>;

const described = (bytes: Buffer): { digest: string; size: number; bytes: Buffer } => ({
  digest: `sha256:${sha256Of(bytes)}`,
  size: bytes.length,
  bytes,
});

/** The calls of the distribution spec that publishing takes. */
function registry(host: string, env: Environment) {
  const base = `${/^(?:localhost|127\.0\.0\.1|\[::1\])(?::|$)/.test(host) ? 'http' : 'https'}://${host}`;
  const [username, password] = [envOf('OCI_USERNAME', env), envOf('OCI_PASSWORD', env)];
  const basic =
    username === undefined || password === undefined ? undefined : `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
  const tokens = new Map<string, string>();

  /**
   * Where the registry says that tokens are given out: user and password go there. Only over https (or the same connection), and only to the
   * registry's own host or one of the same domain (auth.docker.io for registry-1.docker.io), unless OCI_TOKEN_HOST names it.
   */
  function realmOf(realm: string): URL {
    const url = URL.canParse(realm) ? new URL(realm) : undefined;
    const domain = (name: string): string => name.split('.').slice(-2).join('.');
    const isOwn =
      url?.host === host || (url !== undefined && domain(host).includes('.') && domain(url.hostname) === domain(new URL(base).hostname));
    const isSafe = url?.protocol === 'https:' || url?.origin === base;
    if (url === undefined || !isSafe || !(isOwn || url.host === envOf('OCI_TOKEN_HOST', env)))
      throw new UserError(`the registry asks for credentials to be sent to '${realm.slice(0, 200)}', which is not its own https host`, {
        where: host,
        next: `if that is right, set OCI_TOKEN_HOST=${url?.host ?? 'HOST'}; credentials never go over plain http`,
      });
    return url;
  }

  /** A token for a repository, as the registry's challenge says where to get one. */
  async function tokenFor(repository: string, challenge: string): Promise<string | undefined> {
    if (/^basic/i.test(challenge)) return basic;
    const parameters = Object.fromEntries([...challenge.matchAll(/(\w+)="([^"]*)"/g)].map((match) => [match[1], match[2]])) as Record<
      string,
      string
    >;
    if (parameters['realm'] === undefined) return undefined;
    const url = realmOf(parameters['realm']);
    if (parameters['service'] !== undefined) url.searchParams.set('service', parameters['service']);
    url.searchParams.set('scope', `repository:${repository}:pull,push`);
    const { statusCode, body } = await request(url, {
      ...WITHOUT_REDIRECTS,
      dispatcher: dispatcher(),
      headers: basic === undefined ? {} : { authorization: basic },
    });
    const text = (await readBody(body, url.href, ANSWER_LIMIT)).toString();
    if (statusCode !== 200) return undefined;
    const { token, access_token: other } = JSON.parse(text) as { token?: string; access_token?: string };
    return `Bearer ${token ?? other ?? ''}`;
  }

  async function send(
    method: Dispatcher.HttpMethod,
    repository: string,
    path: string,
    headers: Record<string, string> = {},
    body?: () => Body,
  ): Promise<Dispatcher.ResponseData> {
    const url = /^https?:/.test(path) ? path : `${base}/v2/${repository}/${path}`;
    const isOwn = new URL(url).origin === base;
    const attempt = async (): Promise<Dispatcher.ResponseData> => {
      // Uploads may be sent to another host, which gets no token.
      const authorization = isOwn ? tokens.get(repository) : undefined;
      try {
        return await request(url, {
          ...WITHOUT_REDIRECTS,
          method,
          headers: { ...headers, ...(authorization === undefined ? {} : { authorization }) },
          ...(body === undefined ? {} : { body: body() }),
          dispatcher: dispatcher(),
          headersTimeout: 120_000,
        });
      } catch (cause) {
        throw new UserError(`the registry cannot be reached: ${messageOf(cause)}`, { where: url, cause });
      }
    };
    const first = await attempt();
    // Nor does it have a say in where tokens come from.
    if (first.statusCode !== 401 || !isOwn) return first;
    await first.body.dump();
    const token = await tokenFor(repository, first.headers['www-authenticate']?.toString() ?? '');
    if (token === undefined)
      throw new UserError('the registry wants credentials', { where: url, next: 'set OCI_USERNAME and OCI_PASSWORD' });
    tokens.set(repository, token);
    return attempt();
  }

  async function expectStatus(response: Dispatcher.ResponseData, wanted: readonly number[], where: string): Promise<void> {
    if (wanted.includes(response.statusCode)) return response.body.dump();
    const said = /"message":"([^"]*)"/.exec((await readBody(response.body, where, ANSWER_LIMIT)).toString())?.[1];
    throw new UserError(`the registry answered ${response.statusCode}${said === undefined ? '' : `: ${said}`}`, {
      where: `${host}/${where}`,
    });
  }

  return {
    async pushBlob(repository: string, blob: Blob): Promise<void> {
      const head = await send('HEAD', repository, `blobs/${blob.digest}`);
      await head.body.dump();
      // Registries send whoever reads a blob that is there to where it is stored.
      if (head.statusCode === 200 || (head.statusCode >= 300 && head.statusCode < 400)) return;
      const start = await send('POST', repository, 'blobs/uploads/', { 'content-length': '0' });
      await expectStatus(start, [202], repository);
      const at = new URL(start.headers['location']?.toString() ?? '', base);
      at.searchParams.set('digest', blob.digest);
      const headers = { 'content-type': 'application/octet-stream', 'content-length': String(blob.size) };
      // The registry compares the digest with what it received.
      const body = (): Body => ('bytes' in blob ? blob.bytes : createReadStream(blob.file, { highWaterMark: 1 << 20 }));
      await expectStatus(await send('PUT', repository, at.href, headers, body), [201], `${repository}@${blob.digest}`);
    },
    /** Pushes a manifest; tells whether the registry has entered it among its subject's referrers. */
    async pushManifest(repository: string, reference: string, mediaType: string, bytes: Buffer): Promise<boolean> {
      const headers = { 'content-type': mediaType, 'content-length': String(bytes.length) };
      const response = await send('PUT', repository, `manifests/${reference}`, headers, () => bytes);
      await expectStatus(response, [201], `${repository}:${reference}`);
      return response.headers['oci-subject'] !== undefined;
    },
    async manifest(repository: string, reference: string): Promise<Buffer | undefined> {
      const response = await send('GET', repository, `manifests/${reference}`, { accept: `${MANIFEST}, ${INDEX}` });
      if (response.statusCode !== 404) {
        if (response.statusCode === 200) return readBody(response.body, `${repository}:${reference}`, ANSWER_LIMIT);
        await expectStatus(response, [200], `${repository}:${reference}`);
      }
      await response.body.dump();
      return undefined;
    },
  };
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
  const remote = registry(host, env);
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
