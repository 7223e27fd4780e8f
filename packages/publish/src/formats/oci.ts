import { stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { parseJson, sidecarPaths, UserError, type Environment, type Report } from '@flatcar/core/engine';
import * as v from 'valibot';
import { TakenError } from '../destinations/destination.ts';
import { sha256Of } from '../tree/digest.ts';
import { isSelected, selectedNames, type ImageFilter } from '../tree/image-filter.ts';
import { readListed } from '../tree/read-listed.ts';
import type { PublishedImage, PublishedVersion } from '../tree/schema.ts';
import { NoTreeError, readPublished } from '../tree/state.ts';
import type { Trust } from '../tree/trusted.ts';
import type { Tree } from '../tree/tree.ts';
import { blobOf, INDEX, MANIFEST, Registry } from './oci-registry.ts';

// OCI image-spec 1.1: artifacts and referrers.
const EMPTY_CONFIG = {
  mediaType: 'application/vnd.oci.empty.v1+json',
  digest: `sha256:${sha256Of(Buffer.from('{}'))}`,
  size: 2,
  data: 'e30=',
};
/** Type of our artifacts. */
export const ARTIFACT = 'application/vnd.flatcar.extension.v1';
const SBOM = 'application/spdx+json';
const PROVENANCE = 'application/vnd.in-toto+json';
const TITLE = 'org.opencontainers.image.title';

const DescriptorSchema = v.looseObject({ mediaType: v.string(), digest: v.string(), size: v.number() });
type Descriptor = v.InferOutput<typeof DescriptorSchema>;
const IndexSchema = v.looseObject({ manifests: v.array(DescriptorSchema) });

/** An image's tag, such as `1.37.0-4593.2.5-x86-64`. A tag cannot have a `+`. */
export const tagOf = (version: string, { target, architecture }: Pick<PublishedImage, 'target' | 'architecture'>): string =>
  `${version}-${target}-${architecture}`.replaceAll('+', '_');

export interface OciOptions extends ImageFilter {
  readonly tree: Tree;
  /** `host[:port]/repository`: images go to `<repository>/<extension>`. */
  readonly to: string;
  /** Keys, one of which must have signed the tree. */
  readonly trust: Trust;
  /** OCI_USERNAME, OCI_PASSWORD. */
  readonly env?: Environment;
  readonly report?: Report;
  readonly signal?: AbortSignal;
}

export interface OciResult {
  readonly where: string;
  readonly serial: number;
  /** References by tag, including images that were pushed before. */
  readonly images: readonly string[];
  readonly bytes: number;
}

/** The manifest of an image as an artifact. */
function imageManifest(name: string, { version }: PublishedVersion, image: PublishedImage): Buffer {
  const { path, format, size, sha256, target, architecture } = image;
  const layer = {
    mediaType: `application/vnd.flatcar.extension.${format}`,
    digest: `sha256:${sha256}`,
    size,
    annotations: { [TITLE]: basename(path) },
  };
  return Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MANIFEST,
      artifactType: ARTIFACT,
      config: EMPTY_CONFIG,
      layers: [layer],
      annotations: {
        [TITLE]: name,
        'org.opencontainers.image.version': version,
        'org.flatcar.extension.target': target,
        'org.flatcar.extension.architecture': architecture,
      },
    }),
  );
}

/** The manifest of a sidecar, which refers to the image's manifest. */
function referrerManifest(
  subject: Descriptor,
  artifactType: string,
  name: string,
  { digest, size }: { digest: string; size: number },
): Buffer {
  const layer = { mediaType: artifactType, digest, size, annotations: { [TITLE]: name } };
  return Buffer.from(
    JSON.stringify({ schemaVersion: 2, mediaType: MANIFEST, artifactType, config: EMPTY_CONFIG, layers: [layer], subject }),
  );
}

/** Copies images of a tree into the repositories of a registry. */
class OciCopy {
  readonly #tree: Tree;
  readonly #registry: Registry;
  readonly #host: string;

  constructor(tree: Tree, registry: Registry, host: string) {
    this.#tree = tree;
    this.#registry = registry;
    this.#host = host;
  }

  /** Pushes an image with its SBOM and provenance; the tag comes last. Returns the reference. */
  async push(repository: string, version: PublishedVersion, image: PublishedImage): Promise<string> {
    const tag = tagOf(version.version, image);
    const reference = `${this.#host}/${repository}:${tag}`;
    const manifest = blobOf(imageManifest(basename(repository), version, image));
    const tagged = await this.#registry.manifest(repository, tag);
    if (tagged !== undefined && !tagged.equals(manifest.bytes)) throw new TakenError(reference, tag);

    const file = await this.#tree.file(image.path, image);
    await this.#registry.pushBlob(repository, { digest: `sha256:${image.sha256}`, size: (await stat(file)).size, file });
    await this.#registry.pushBlob(repository, blobOf(Buffer.from('{}')));
    await this.#registry.pushManifest(repository, manifest.digest, MANIFEST, manifest.bytes);
    await this.#pushReferrers(repository, { mediaType: MANIFEST, digest: manifest.digest, size: manifest.size }, image);
    if (tagged === undefined) await this.#registry.pushManifest(repository, tag, MANIFEST, manifest.bytes);
    return reference;
  }

  /** Pushes SBOM and provenance as referrers of an image's manifest. */
  async #pushReferrers(repository: string, subject: Descriptor, { path, sbom, provenance }: PublishedImage): Promise<void> {
    const paths = sidecarPaths(path);
    const sidecars = [
      { path: paths.sbom, sha256: sbom, artifactType: SBOM },
      { path: paths.provenance, sha256: provenance, artifactType: PROVENANCE },
    ];
    const referrers: Descriptor[] = [];
    let areListed = true;
    for (const sidecar of sidecars) {
      const { artifactType } = sidecar;
      const blob = blobOf(await readListed(this.#tree, sidecar.path, sidecar.sha256));
      await this.#registry.pushBlob(repository, blob);
      const { digest, size, bytes } = blobOf(referrerManifest(subject, artifactType, basename(sidecar.path), blob));
      areListed = (await this.#registry.pushManifest(repository, digest, MANIFEST, bytes)) && areListed;
      referrers.push({ mediaType: MANIFEST, digest, size, artifactType });
    }
    if (!areListed) await this.#pushReferrersTag(repository, subject, referrers);
  }

  /** Lists referrers under a tag made from the subject's digest, where clients look if a registry is older than version 1.1. */
  async #pushReferrersTag(repository: string, subject: Descriptor, referrers: readonly Descriptor[]): Promise<void> {
    const tag = subject.digest.replace(':', '-');
    const where = `${this.#host}/${repository}:${tag}`;
    const before = await this.#registry.manifest(repository, tag);
    const others = before === undefined ? [] : parseJson(IndexSchema, before.toString(), { what: 'list of referrers', where }).manifests;
    const manifests = [...new Map([...others, ...referrers].map((one) => [one.digest, one])).values()];
    const index = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: INDEX, manifests }));
    await this.#registry.pushManifest(repository, tag, INDEX, index);
  }
}

/**
 * Copies published images into an OCI registry, each as an artifact with its SBOM and its provenance as referrers. All files come from the
 * signed tree and are checked. An image's tag is set last and never moved to other bytes.
 */
export async function pushOci(options: OciOptions): Promise<OciResult> {
  const { tree, to, trust, env = process.env, report = () => undefined, signal } = options;
  const [, host = '', root = ''] = /^([^/]+)\/(.+?)\/*$/.exec(to) ?? [];
  if (host === '' || !/^[a-z0-9]+(?:[._/-]+[a-z0-9]+)*$/.test(root))
    throw new UserError(`'${to}' is not a valid repository`, { next: 'write it as oci://registry.example.org/flatcar/extensions' });
  const copy = new OciCopy(tree, new Registry(host, env, signal), host);
  const published = await readPublished(tree, trust);
  const { index } = published;
  if (index === undefined) throw new NoTreeError(tree);
  const images: string[] = [];
  let bytes = 0;
  for (const name of selectedNames(options, index, tree.where)) {
    const extension = await published.extension(name);
    for (const version of extension?.versions ?? []) {
      if (version.withdrawn !== undefined) continue;
      for (const image of version.images.filter((one) => isSelected(options, one))) {
        signal?.throwIfAborted();
        report({ type: 'step', text: `pushing ${image.path}` });
        images.push(await copy.push(`${root}/${name}`, version, image));
        bytes += image.size;
      }
    }
  }
  return { where: to, serial: index.serial, images, bytes };
}
