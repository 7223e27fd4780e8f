import { compareVersions, type Manifest } from '@flatcar/core/engine';
import { TakenError } from '../destinations/destination.ts';
import type { Input } from './inputs.ts';
import { imagePath } from '../tree/layout.ts';
import { SCHEMA, type ExtensionIndex, type PublishedImage, type PublishedVersion } from '../tree/schema.ts';

/** Digests of an image's sidecars, and of its payload's record. */
export interface Evidence {
  readonly manifest: string;
  readonly sbom: string;
  readonly provenance: string;
  readonly record: string;
}

const byImage = (a: PublishedImage, b: PublishedImage): number =>
  a.target === b.target ? (a.architecture < b.architecture ? -1 : 1) : compareVersions(a.target, b.target);

export function imageOf({ manifest }: Input, evidence: Evidence): PublishedImage {
  const { target, architecture, format, size, sha256, sha512, roothash, signed } = manifest;
  return {
    target,
    architecture,
    format,
    path: imagePath(manifest),
    size,
    sha256,
    sha512,
    roothash,
    signed,
    manifest: evidence.manifest,
    sbom: evidence.sbom,
    provenance: evidence.provenance,
  };
}

function emptyVersion(manifest: Manifest, published: string): PublishedVersion {
  const { version, upstream, revision, components, replaces, conflicts, requires, packaging } = manifest;
  return {
    version,
    upstream,
    revision,
    needs: {},
    components,
    replaces,
    conflicts,
    requires,
    packaging,
    payloads: {},
    published,
    images: [],
  };
}

/**
 * Adds an image to its version. Refuses other bytes under a published name, and another payload under a published version: the content of its
 * images would differ from release to release.
 */
function addImage(before: PublishedVersion, input: Input, evidence: Evidence): PublishedVersion {
  const { manifest } = input;
  const { architecture: arch, format, target, payload: key } = manifest;
  const slot = `${arch} ${format}`;
  const published = before.payloads[slot];
  const image = imageOf(input, evidence);
  const what = `${manifest.name} ${manifest.version}`;
  if (before.withdrawn !== undefined) throw new TakenError(input.file, `${what} was withdrawn (${before.withdrawn.reason}); it`);
  const same = before.images.find((one) => one.target === target && one.architecture === arch);
  if (same !== undefined && same.sha256 !== image.sha256) throw new TakenError(input.file, image.path);
  if (before.packaging !== undefined && manifest.packaging !== undefined && before.packaging !== manifest.packaging)
    throw new TakenError(input.file, what);
  if (published !== undefined && published.key !== key) throw new TakenError(input.file, `${what} for ${arch}`);
  // Published entries stay: a sidecar of the same bytes may differ in the commit that it names.
  if (same !== undefined) return before;
  return {
    ...before,
    needs: { ...before.needs, [arch]: manifest.needs },
    payloads: Object.fromEntries(
      Object.entries({ ...before.payloads, [slot]: published ?? { key, record: evidence.record } }).toSorted(([a], [b]) =>
        a < b ? -1 : 1,
      ),
    ),
    images: [...before.images, image].toSorted(byImage),
  };
}

/** An extension's index with more images, published on a day. Pure: the same inputs give the same index. */
export function addImages(
  before: ExtensionIndex | undefined,
  added: readonly { input: Input; evidence: Evidence }[],
  day: string,
): ExtensionIndex {
  const [first] = added;
  if (first === undefined) throw new Error('no image is added');
  const { name, kind, summary, essential, follow } = first.input.manifest;
  const versions = new Map((before?.versions ?? []).map((one) => [one.version, one]));
  for (const { input, evidence } of added) {
    const { version } = input.manifest;
    versions.set(version, addImage(versions.get(version) ?? emptyVersion(input.manifest, day), input, evidence));
  }
  return {
    schema: SCHEMA,
    name,
    kind,
    summary,
    essential,
    follow,
    versions: [...versions.values()].toSorted((a, b) => compareVersions(b.version, a.version)),
  };
}

/** An extension's index with a version marked as withdrawn. */
export function markWithdrawn(
  before: ExtensionIndex,
  version: string,
  withdrawn: { reason: string; by: string; date: string },
): ExtensionIndex {
  return { ...before, versions: before.versions.map((one) => (one.version === version ? { ...one, withdrawn } : one)) };
}
