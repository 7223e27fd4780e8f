import { ARCHES } from '../model/arch.ts';
import { contentInputs } from './describe.ts';
import { allComponents } from '../definition/components.ts';
import type { LoadedExtension, PinnedComponent } from '../definition/types.ts';
import { describeOrigin, hasPins, type DescribedComponent } from '../origins/resolve.ts';
import { digestOf } from '../util/digest.ts';
import type { ToolRecords } from '../tools/tool-records.ts';
import type { Arch } from '../model/arch.ts';
import type { ToolRecord } from '../model/payload.ts';

/** Raised when the same inputs are to have another digest: every lock must be written again then. */
const PACKAGING_FORMAT = 1;

/** Compilers and packers are left out: what is published is not built again because of them. */
const ANY_TOOL: ToolRecord = { name: '', version: '', sha256: '', status: '' };
const NO_TOOLS: ToolRecords = {
  host: 'x86-64',
  tool: async () => [],
  c: async () => [],
  rust: async () => [],
  go: async () => ANY_TOOL,
};

/** A component by each of its origins that something is pinned for: an origin that nothing is pinned for cannot be built, and decides nothing. */
async function describeAll(pinned: PinnedComponent, arch: Arch): Promise<DescribedComponent[]> {
  const origins = pinned.component.origins.filter((origin) => hasPins(origin, pinned, arch));
  return Promise.all(
    origins.map(async (origin, index) => ({
      ...pinned,
      origin,
      description: await describeOrigin(origin, { ...pinned, arch, records: NO_TOOLS }),
      preferred: index === 0,
    })),
  );
}

/**
 * sha256 (hex) of all that this repository says about the bytes of a pinned version, on both architectures: pinned digests, the extension's own
 * files and their execute bits, build scripts, lock modules, and what the definition builds, places and starts. The summary, licences, proofs,
 * tests and the revision itself are no part of it. It is recorded in pins.json, so that a change without a higher revision is seen.
 * Throws a UserError where an input is missing or is not the pinned one.
 */
export async function packagingDigest(loaded: LoadedExtension, version: string): Promise<string> {
  const { components, own } = await allComponents(loaded, version);
  // The extension's own files have the version of the image, with its revision.
  const all = [...components, ...own.map((one) => ({ ...one, component: { ...one.component, version } }))];
  const builds = ARCHES.map(async (arch) => {
    const described = await Promise.all(all.map((pinned) => describeAll(pinned, arch)));
    return contentInputs(loaded, version, described.flat());
  });
  return digestOf({ number: PACKAGING_FORMAT, builds: await Promise.all(builds) });
}

/** A pinned version whose inputs are not those that its lock was written for. */
export interface StalePackaging {
  readonly version: string;
  readonly revision: number;
  /** The digest that pins.json has; undefined where it has none. */
  readonly pinned: string | undefined;
  /** The digest of what the checkout has. */
  readonly actual: string;
}

/** The pinned versions of an extension that were changed since they were pinned. */
export async function stalePackaging(loaded: LoadedExtension): Promise<StalePackaging[]> {
  // The pins of a fixture are for a test, which may change anything.
  if (loaded.fixture) return [];
  const found = await Promise.all(
    Object.entries(loaded.pins).map(async ([version, { revision, packaging }]) => {
      const actual = await packagingDigest(loaded, version);
      return { version, revision, pinned: packaging, actual };
    }),
  );
  return found.filter(({ pinned, actual }) => pinned !== actual);
}
