import { ARCHES } from '../model/arch.ts';
import { UserError } from '../util/errors.ts';
import { COMPILING_ORIGINS } from '../origins/origin.ts';
import type { LoadedExtension } from '../definition/types.ts';
import { allComponents } from '../definition/components.ts';
import { asUpstreamVersion } from '../model/brands.ts';
import { imageVersion } from '../model/names.ts';
import { describeComponents, type DescribedComponent } from '../origins/resolve.ts';
import { digestOf } from '../util/digest.ts';
import { pinnedRecords, type ToolRecords } from '../tools/tool-records.ts';
import type { Arch } from '../model/arch.ts';
import type { BuiltComponent, OriginKind, Payload, Profile, PublishBlocker, ToolRecord } from '../model/payload.ts';
import type { Format } from '../model/target.ts';

/** Raised when the same inputs are to give other bytes: it is part of every payload's key. */
const PAYLOAD_FORMAT = 4;
/** Raised when the record of a payload of the same bytes is to say something else. */
const RECORD_FORMAT = 2;

/**
 * What a payload's record says of its inputs. All of it is decided by the definition, the pins and the tools: whoever has the checkout can
 * compute it without building, and need not believe the record of another machine.
 */
export type PayloadClaims = Pick<
  Payload,
  | 'key'
  | 'extension'
  | 'summary'
  | 'kind'
  | 'version'
  | 'upstream'
  | 'revision'
  | 'arch'
  | 'format'
  | 'profile'
  | 'components'
  | 'tools'
  | 'publishBlockers'
  | 'waived'
  | 'replaces'
  | 'conflicts'
  | 'requires'
  | 'packaging'
>;

/** One payload, as it is asked for. */
export interface PayloadRequest {
  /** Upstream version, as pins.json has it. */
  readonly version: string;
  readonly arch: Arch;
  readonly format: Format;
  readonly profile: Profile;
}

/** A component's record. Its licence is in its pins; our own files are under the repository's. */
function built({ component, dir, pin, origin, description }: DescribedComponent): BuiltComponent {
  const license = origin.kind === 'files' ? 'Apache-2.0' : pin.licenses[component.name];
  if (license === undefined) {
    throw new UserError(`pins.json gives no licence for component '${component.name}'`, {
      where: dir,
      next: `add it under "licenses" of ${component.version} as an SPDX expression`,
    });
  }
  const { name, version } = component;
  const { materials, parameters, format } = description;
  return { name, version, license, origin: origin.kind, materials, parameters: { format, ...parameters } };
}

/**
 * What decides the files of an image: the definition and the pins, without the tools that pack it. Whatever else a definition or a lock says
 * (summary, waivers, conflicts, licenses, proofs) is about an image and changes none of its bytes.
 */
export function contentInputs({ extension }: LoadedExtension, version: string, components: readonly DescribedComponent[]): object {
  const { name, kind, start } = extension;
  return {
    name,
    kind,
    start,
    version,
    components: components.map(({ component, origin, description: { format, materials, parameters } }) => ({
      name: component.name,
      version: component.version,
      install: component.install,
      origin: origin.kind,
      format,
      materials: materials.map(({ locator, sha256 }) => ({ locator, sha256 })),
      parameters,
    })),
  };
}

/** The store's key of a packed payload. What lint reads of the definition is in it too, so that a payload is linted again when that changes. */
export function packedKey({ extension: { requiredPaths, replaces, waive, requires } }: LoadedExtension, key: string): string {
  return digestOf({
    payload: key,
    record: RECORD_FORMAT,
    requiredPaths,
    replaces,
    waive,
    requires: requires.length === 0 ? undefined : requires,
  });
}

// bind makes disk images by systemd-repart, whose version decides bytes as mkfs.erofs does.
const PACK_TOOLS: Readonly<Record<Format, readonly string[]>> = { squashfs: ['mksquashfs'], ddi: ['mkfs.erofs', 'systemd-repart'] };

/** Why a payload of these components must not be published, most serious first. */
function blockersOf(made: {
  readonly isFixture: boolean;
  readonly isIncomplete: boolean;
  readonly isUnprotected: boolean;
  readonly tools: readonly ToolRecord[];
  readonly components: readonly DescribedComponent[];
}): PublishBlocker[] {
  const fallen = made.components.filter(({ preferred }) => !preferred);
  const found: (PublishBlocker | false)[] = [
    made.isFixture && { code: 'fixture', what: 'made with the pins of a fixture' },
    made.isIncomplete && { code: 'incomplete', what: 'made without some of its components (--only)' },
    made.isUnprotected && { code: 'unsandboxed', what: 'compiled without a sandbox (--no-sandbox)' },
    ...made.tools
      .filter(({ status }) => status !== 'pinned')
      .map(({ name, status }): PublishBlocker => ({ code: 'unpinned-tool', what: `made with ${name}, ${status}` })),
    ...fallen.map(({ component, origin }): PublishBlocker => ({
      code: 'fallback',
      what: `component '${component.name}' comes from '${origin.kind}', an origin that its definition does not prefer`,
    })),
  ];
  return found.filter((one) => one !== false);
}

/** What the record of a payload says of its inputs, and the key that is computed from them: a build and a check of it come here. */
export async function claimsOf(
  loaded: LoadedExtension,
  { version: upstream, arch, format, profile }: PayloadRequest,
  components: readonly DescribedComponent[],
  { records, revision, only, noSandbox = false }: { records: ToolRecords; revision: number; only: boolean; noSandbox?: boolean },
): Promise<PayloadClaims> {
  const { name, summary, kind, waive, replaces, conflicts, requires } = loaded.extension;
  const version = imageVersion(upstream, revision);
  const all = [
    ...components.flatMap(({ description }) => description.tools),
    ...(await Promise.all(PACK_TOOLS[format].map((tool) => records.tool(tool)))).flat(),
  ];
  const tools = [...new Map(all.map((record) => [`${record.name} ${record.sha256}`, record])).values()];
  const isUnprotected = noSandbox && components.some(({ origin }) => COMPILING_ORIGINS.has(origin.kind));
  const publishBlockers = blockersOf({ isFixture: loaded.fixture, isIncomplete: only, isUnprotected, tools, components });
  const builtComponents = components.map(built);
  const key = digestOf({
    step: 'payload',
    number: PAYLOAD_FORMAT,
    content: contentInputs(loaded, version, components),
    arch,
    format,
    profile,
    tools: tools.map(({ sha256 }) => sha256),
    sandbox: isUnprotected ? 'none' : undefined,
  });
  return {
    key,
    extension: name,
    summary,
    kind,
    version,
    upstream: asUpstreamVersion(upstream),
    revision,
    arch,
    format,
    profile,
    components: builtComponents,
    tools,
    publishBlockers,
    waived: waive,
    replaces,
    conflicts,
    requires,
    packaging: loaded.pins[upstream]?.packaging,
  };
}

/**
 * What a machine of a kind makes of the pins, by the pinned tools; nothing is fetched or built. By the origins that the definition prefers
 * unless `kinds` has others for its components, which make the payload one that a tree must declare to accept.
 */
export async function describePayload(
  loaded: LoadedExtension,
  request: PayloadRequest,
  host: Arch,
  kinds?: readonly OriginKind[],
): Promise<PayloadClaims> {
  const records = pinnedRecords(host);
  const { pin, components, own } = await allComponents(loaded, request.version);
  const described = await describeComponents([...components, ...own], { arch: request.arch, records }, kinds);
  return claimsOf(loaded, request, described, { records, revision: pin.revision, only: false });
}

/** A field in which a record differs from what the checkout computes. */
export interface ClaimDifference {
  /** Such as `components[0].materials[1].sha256`. */
  readonly field: string;
  readonly claimed: string;
  readonly computed: string;
}

const short = (value: unknown): string => {
  const text = value === undefined ? 'nothing' : JSON.stringify(value);
  return text.length > 200 ? `${text.slice(0, 200)}…` : text;
};

function differences(claimed: unknown, computed: unknown, field: string): ClaimDifference[] {
  if (typeof claimed !== 'object' || typeof computed !== 'object' || claimed === null || computed === null)
    return claimed === computed ? [] : [{ field, claimed: short(claimed), computed: short(computed) }];
  const isList = Array.isArray(computed);
  const [one, other] = [claimed, computed] as Record<string, unknown>[];
  return [...new Set([...Object.keys(one ?? {}), ...Object.keys(other ?? {})])].flatMap((key) =>
    differences(one?.[key], other?.[key], isList ? `${field}[${key}]` : field === '' ? key : `${field}.${key}`),
  );
}

/**
 * Compares what the record of a payload says of its inputs with what this checkout computes for the same request, on either kind of machine that
 * may have built it; empty when it is true. What can be read off the bytes only (`tree`, `needs`, `modules`, `reload`) is not compared.
 */
export async function checkClaims(payload: Payload, loaded: LoadedExtension, request: PayloadRequest): Promise<readonly ClaimDifference[]> {
  const kinds = payload.components.map(({ origin }) => origin);
  const found = await Promise.all(
    ARCHES.map(async (host) => {
      const computed = await describePayload(loaded, request, host, kinds);
      const claimed = Object.fromEntries(Object.keys(computed).map((key) => [key, payload[key as keyof Payload]]));
      // The key is last: whatever differs in it differs elsewhere too, and is understood better there.
      return differences(claimed, computed, '').toSorted((a, b) => Number(a.field === 'key') - Number(b.field === 'key'));
    }),
  );
  return found.toSorted((a, b) => a.length - b.length)[0] ?? [];
}
