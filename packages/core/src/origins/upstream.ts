import { basename, join } from 'node:path';
import type { Component, UpstreamOrigin } from '../definition/types.ts';
import { archWords, type Arch } from '../model/arch.ts';
import { locatorText } from '../model/locator.ts';
import { fetchBlob } from '../store/fetch.ts';
import { digestOf } from '../util/digest.ts';
import { archiveKind, unpack } from '../store/unpack.ts';
import { expandTemplate } from '../util/template.ts';
import { pinnedMaterial, type DescribeContext, type OriginContext, type OriginDescription, type OriginResult } from './origin.ts';

/** Raised when the same archive must give other files. */
const UNPACK_FORMAT = 1;

/** The words of a release URL: version, arch (amd64 and arm64 unless the origin has others), goarch (always those), machine. */
export function upstreamWords(origin: UpstreamOrigin, component: Component, arch: Arch): Record<string, string> {
  return {
    version: component.version,
    arch: origin.arch?.[arch] ?? archWords(arch).go,
    goarch: archWords(arch).go,
    machine: archWords(arch).machine,
  };
}

/** The URL of upstream's file for an architecture; also the key of its pin. */
export function upstreamLocator(origin: UpstreamOrigin, component: Component, arch: Arch): string {
  return locatorText({ kind: 'file', url: expandTemplate(origin.url, upstreamWords(origin, component, arch)) });
}

/** The inputs of upstream's own file: the file itself. */
export async function describeUpstream(origin: UpstreamOrigin, context: DescribeContext): Promise<OriginDescription> {
  const material = pinnedMaterial(context, upstreamLocator(origin, context.component, context.arch));
  return { materials: [material], parameters: {}, tools: [], format: `unpack ${UNPACK_FORMAT}` };
}

/** Upstream's own file: fetched by its pin and unpacked once. A single program, compressed or not, gets the name of its component. */
export async function buildUpstream(origin: UpstreamOrigin, context: OriginContext): Promise<OriginResult> {
  const { component, store, tools, report, mirror, signal } = context;
  const description = await describeUpstream(origin, context);
  const { locator: url, sha256, size } = pinnedMaterial(context, upstreamLocator(origin, component, context.arch));
  const blob = await fetchBlob(store, { url, sha256, size }, { report, mirror, signal });
  const file = decodeURIComponent(basename(new URL(url).pathname));
  const { archive, packed } = archiveKind(file);
  const single = archive === 'raw' ? component.name : undefined;
  // Of a single file the key has the name that it gets, and of a compressed one the compression.
  const key = { number: UNPACK_FORMAT, sha256, name: single ?? file, packed: single === undefined ? undefined : packed };
  const { dir } = await store.result('unpacked', digestOf(key), async (fresh) => {
    await unpack(blob, file, join(fresh, 'files'), { decompressor: (kind) => tools.command(kind), single });
  });
  return { dir: join(dir, 'files'), ...description };
}
