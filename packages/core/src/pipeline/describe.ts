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

/** Raised when the same inputs must give other bytes: it is part of every payload's key. */
const PAYLOAD_FORMAT = 4;
/** Raised when the record of a payload with the same bytes must change. */
const RECORD_FORMAT = 2;

/**
 * The fields of a payload's record about its inputs. The definition, the pins and the tools decide them: whoever has the checkout can compute them
 * without a build, and need not trust the record of another machine.
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
  | 'essential'
  | 'follow'
  | 'packaging'
>;

/** Which payload to describe or build. */
export interface PayloadRequest {
  /** Upstream version, as pins.json has it. */
  readonly version: string;
  readonly arch: Arch;
  readonly format: Format;
  readonly profile: Profile;
}

/** A component's record. Its licence is in its pins; files of this repository have the repository's licence. */
function built({ component, dir, pin, origin, description }: DescribedComponent): BuiltComponent {
  const license = origin.kind === 'files' ? 'Apache-2.0' : pin.licenses[component.name];
  if (license === undefined) {
    throw new UserError(`pins.json has no licence for component '${component.name}'`, {
      where: dir,
      next: `add it under "licenses" of ${component.version} as an SPDX expression`,
    });
  }
  const { name, version } = component;
  const { materials, parameters, format } = description;
  return { name, version, license, origin: origin.kind, materials, parameters: { format, ...parameters } };
}

/**
 * The part of the definition and the pins that decides the files of an image. All other fields (summary, waivers, conflicts, licenses, proofs)
 * change no byte of it.
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

/** The store's key of a packed payload. It includes the fields that lint reads, so that a payload is linted again when they change. */
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

// bind makes disk images by systemd-repart, whose version decides bytes like that of mkfs.erofs.
const PACK_TOOLS: Readonly<Record<Format, readonly string[]>> = { squashfs: ['mksquashfs'], ddi: ['mkfs.erofs', 'systemd-repart'] };

/** Why a payload of these components must not be published, most serious first. */
function blockersOf(made: {
  readonly localOnly: string;
  readonly isFixture: boolean;
  readonly isIncomplete: boolean;
  readonly isUnprotected: boolean;
  readonly tools: readonly ToolRecord[];
  readonly components: readonly DescribedComponent[];
}): PublishBlocker[] {
  const fallen = made.components.filter(({ preferred }) => !preferred);
  const found: (PublishBlocker | false)[] = [
    made.localOnly !== '' && { code: 'local-only', what: `it is for local use only: ${made.localOnly}` },
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

/** Computes the claims of a payload, and its key from them; for a build, and for the check of its record. */
export async function claimsOf(
  loaded: LoadedExtension,
  { version: upstream, arch, format, profile }: PayloadRequest,
  components: readonly DescribedComponent[],
  { records, revision, only, noSandbox = false }: { records: ToolRecords; revision: number; only: boolean; noSandbox?: boolean },
): Promise<PayloadClaims> {
  const { name, summary, kind, waive, replaces, conflicts, requires, essential, follow, localOnly } = loaded.extension;
  const version = imageVersion(upstream, revision);
  const all = [
    ...components.flatMap(({ description }) => description.tools),
    ...(await Promise.all(PACK_TOOLS[format].map((tool) => records.tool(tool)))).flat(),
  ];
  const tools = [...new Map(all.map((record) => [`${record.name} ${record.sha256}`, record])).values()];
  const isUnprotected = noSandbox && components.some(({ origin }) => COMPILING_ORIGINS.has(origin.kind));
  const publishBlockers = blockersOf({ localOnly, isFixture: loaded.fixture, isIncomplete: only, isUnprotected, tools, components });
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
    essential,
    follow,
    packaging: loaded.pins[upstream]?.packaging,
  };
}

/**
 * Computes the claims of a payload that is built with the pinned tools on a machine with the architecture `host`. Fetches and builds nothing. `kinds`
 * has the kind of each component's origin; by default each takes the first of its definition.
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
 * Compares the claims of a payload's record with those that this checkout computes for the same request, for either architecture of the machine that
 * built it. Returns the differences. Fields that need the bytes (`tree`, `needs`, `modules`, `reload`) are not compared.
 */
export async function checkClaims(payload: Payload, loaded: LoadedExtension, request: PayloadRequest): Promise<readonly ClaimDifference[]> {
  const kinds = payload.components.map(({ origin }) => origin);
  const found = await Promise.all(
    ARCHES.map(async (host) => {
      const computed = await describePayload(loaded, request, host, kinds);
      const claimed = Object.fromEntries(Object.keys(computed).map((key) => [key, payload[key as keyof Payload]]));
      // The key is last: a difference of the key has its cause in another field.
      return differences(claimed, computed, '').toSorted((a, b) => Number(a.field === 'key') - Number(b.field === 'key'));
    }),
  );
  return found.toSorted((a, b) => a.length - b.length)[0] ?? [];
}
