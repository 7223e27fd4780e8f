// The payloads of a release day: those that the store has, and stand-ins for the others.
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import {
  allComponents,
  ARCHES,
  describePayload,
  hostArch,
  keep,
  SOURCE_ORIGINS,
  storedPayload,
  type Arch,
  type Format,
  type LoadedExtension,
  type OriginKind,
  type PackedPayload,
  type Store,
  type Tools,
} from '@flatcar/core/engine';
import { makeStandIn, sizeOf } from './stand-in.ts';

/** A payload, and whether it stands in for one that the store does not have. */
export interface DayPayload extends PackedPayload {
  readonly isStandIn: boolean;
}

/** The kinds of origins that a build can have taken: those that definitions prefer, and what it compiles if upstream cannot be reached. */
async function originChoices(loaded: LoadedExtension, version: string): Promise<readonly OriginKind[][]> {
  const { components, own } = await allComponents(loaded, version);
  const all = [...components, ...own].map(({ component }) => component.origins.map(({ kind }) => kind));
  const compiled = all.map((kinds) => kinds.find((kind) => SOURCE_ORIGINS.has(kind)) ?? kinds[0] ?? 'files');
  return [[], compiled];
}

/** A payload with the profile `publish`, if the store has it. */
export async function findPayload(
  loaded: LoadedExtension,
  about: { version: string; arch: Arch; format: Format },
  store: Store,
): Promise<PackedPayload | undefined> {
  for (const kinds of await originChoices(loaded, about.version)) {
    const found = await storedPayload(loaded, await describePayload(loaded, { ...about, profile: 'publish' }, hostArch(), kinds), store);
    if (found !== undefined) return found;
  }
  return undefined;
}

async function findOrMake(
  loaded: LoadedExtension,
  about: { version: string; arch: Arch; format: Format },
  { store, tools, dir }: { store: Store; tools: Tools; dir: string },
): Promise<DayPayload> {
  const found = await findPayload(loaded, about, store);
  if (found !== undefined) return { ...found, isStandIn: false };
  await mkdir(dir, { recursive: true });
  const claims = await describePayload(loaded, { ...about, profile: 'publish' }, hostArch());
  return { ...(await makeStandIn(tools, claims, sizeOf(claims.extension), dir)), isStandIn: true };
}

/** The payloads in one format of every version that is kept, for both architectures. Compiles nothing. */
export async function dayPayloads(
  loaded: readonly LoadedExtension[],
  format: Format,
  context: { store: Store; tools: Tools; dir: string },
): Promise<DayPayload[]> {
  const payloads: DayPayload[] = [];
  for (const one of loaded) {
    const { name, versions } = one.extension;
    for (const version of keep(versions.track, Object.keys(one.pins)))
      for (const arch of ARCHES)
        payloads.push(
          await findOrMake(one, { version, arch, format }, { ...context, dir: join(context.dir, `${name}-${version}-${arch}-${format}`) }),
        );
  }
  return payloads;
}
