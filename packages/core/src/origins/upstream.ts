import { join } from 'node:path';
import { type Arch, archWords } from '../model/arch.ts';
import { UserError } from '../util/errors.ts';
import type { Component, ReleaseOrigin } from '../definition/types.ts';
import { fetchBlob } from '../store/fetch.ts';
import { digestOf } from '../util/digest.ts';
import { archiveKind, unpack } from '../store/unpack.ts';
import { pinnedBytes, type DescribeContext, type OriginContext, type OriginDescription, type OriginResult } from './origin.ts';

/** Raised when the same archive is to give other files. */
const UNPACK_FORMAT = 1;

/** The words of a release URL: version, arch (amd64 and arm64 unless the origin has others), goarch (always those), machine. */
export function releaseWords(origin: ReleaseOrigin, component: Component, arch: Arch): Record<string, string> {
  return {
    version: component.version,
    arch: origin.arch?.[arch] ?? archWords(arch).go,
    goarch: archWords(arch).go,
    machine: archWords(arch).machine,
  };
}

/** Fills `{word}`s in. Throws on one that is not known. */
export function fillWords(text: string, words: Readonly<Record<string, string>>): string {
  return text.replaceAll(/\{(\w+)\}/g, (whole, word: string) => {
    const value = words[word];
    if (value === undefined)
      throw new UserError(`unknown word ${whole}`, {
        where: text,
        next: `use ${Object.keys(words)
          .map((known) => `{${known}}`)
          .join(', ')}`,
      });
    return value;
  });
}

/** The URL of upstream's file for an architecture; also the key of its pin. */
export function releaseLocator(origin: ReleaseOrigin, component: Component, arch: Arch): string {
  return fillWords(origin.url, releaseWords(origin, component, arch));
}

/** What upstream's own file is made of: itself. */
export async function describeRelease(origin: ReleaseOrigin, context: DescribeContext): Promise<OriginDescription> {
  const locator = releaseLocator(origin, context.component, context.arch);
  const { sha256, proof, size } = pinnedBytes(context, locator);
  return {
    materials: [{ locator, sha256, proof, ...(size === undefined ? {} : { size }) }],
    parameters: {},
    tools: [],
    format: `unpack ${UNPACK_FORMAT}`,
  };
}

/** Upstream's own file: fetched by its pin, unpacked once. A single program, compressed or not, is called as its component. */
export async function buildRelease(origin: ReleaseOrigin, context: OriginContext): Promise<OriginResult> {
  const { component, arch, store, tools, report, mirror, signal } = context;
  const description = await describeRelease(origin, context);
  const url = releaseLocator(origin, component, arch);
  const bytes = pinnedBytes(context, url);
  const blob = await fetchBlob(
    store,
    { url, sha256: bytes.sha256, ...(bytes.size === undefined ? {} : { size: bytes.size }) },
    { report, ...(mirror === undefined ? {} : { mirror }), ...(signal === undefined ? {} : { signal }) },
  );
  const file = decodeURIComponent(new URL(url).pathname.split('/').at(-1) ?? '');
  const { archive, packed } = archiveKind(file);
  const single = archive === 'raw' ? component.name : undefined;
  // A single file is in the key by the name that it is given, and one that is compressed by that, too.
  const key = { number: UNPACK_FORMAT, sha256: bytes.sha256, name: single ?? file, packed: single === undefined ? undefined : packed };
  const { dir } = await store.result('unpacked', digestOf(key), async (fresh) => {
    await unpack(blob, file, join(fresh, 'files'), { decompressor: (kind) => tools.command(kind), single });
  });
  return { dir: join(dir, 'files'), ...description };
}
