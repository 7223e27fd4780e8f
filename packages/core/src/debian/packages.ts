import { basename, dirname } from 'node:path';
import { readControlFiles } from '../archives/deb.ts';
import { paragraphs, words } from './deb822.ts';
import { parseDependencies, parseProvides, type Provided, type Relation } from './relations.ts';

/** A binary package, as tools and toolchains pin it. */
export interface DebianPackage {
  readonly name: string;
  readonly version: string;
  /** Path below the mirror: `pool/main/s/…deb`. */
  readonly path: string;
  readonly sha256: string;
  /** In bytes. */
  readonly size: number;
}

/** A binary package, as an index of the archive lists it. */
export interface IndexedPackage extends DebianPackage {
  /** Source package. */
  readonly source: string;
  /** Pre-Depends and Depends: one of each list is needed. */
  readonly depends: readonly (readonly Relation[])[];
  /** Other names that it satisfies. */
  readonly provides: readonly Provided[];
}

/** A binary package, as an extension pins it. */
export interface PinnedPackage {
  /** Path below the mirror; security updates are below `pool/updates/`, on a mirror of their own. */
  readonly path: string;
  readonly sha256: string;
  /** In bytes. */
  readonly size?: number;
}

/** Reads a Packages index. */
export function parsePackages(text: string): IndexedPackage[] {
  return paragraphs(text).flatMap((fields) => {
    const [name, version, path, sha256] = ['Package', 'Version', 'Filename', 'SHA256'].map((key) => fields.get(key));
    if (name === undefined || version === undefined || path === undefined || sha256 === undefined) return [];
    const depends = ['Pre-Depends', 'Depends'].flatMap((key) => parseDependencies(fields.get(key)));
    const [source = name] = words(fields.get('Source'));
    const provides = parseProvides(fields.get('Provides'));
    return [{ name, version, path, sha256, size: Number(fields.get('Size')), source, depends, provides }];
  });
}

/** Digest and size of a file in a Sources index (Directory, Checksums-Sha256). */
export function sourceFileIn(text: string, path: string): { sha256: string; size: number } | undefined {
  const [folder, name] = [dirname(path), basename(path)];
  // The index has tens of thousands of entries: only those of this folder are parsed.
  for (const entry of text.split('\n\n').filter((one) => `${one}\n`.includes(`\nDirectory: ${folder}\n`))) {
    const sums = paragraphs(`${entry}\n`)[0]?.get('Checksums-Sha256') ?? '';
    const [, sha256, size] = [...sums.matchAll(/^ ([0-9a-f]{64}) (\d+) (\S+)$/gm)].find((sum) => sum[3] === name) ?? [];
    if (sha256 !== undefined) return { sha256, size: Number(size) };
  }
  return undefined;
}

/** Fields of a package's control file (deb-control(5)), without those that it does not have. Throws a UserError for a file that is not a package. */
export async function packageFields(file: string, fields: readonly string[]): Promise<Record<string, string>> {
  const control = (await readControlFiles(file)).get('control') ?? '';
  const wanted = new Set(fields);
  return Object.fromEntries([...(paragraphs(control)[0] ?? [])].filter(([name]) => wanted.has(name)));
}
