import { ARCHES } from '../model/arch.ts';
import { contentInputs } from './describe.ts';
import { allComponents } from '../definition/components.ts';
import type { LoadedExtension, PinnedComponent } from '../definition/types.ts';
import { describeOrigin, hasPins, type DescribedComponent } from '../origins/resolve.ts';
import { digestOf } from '../util/digest.ts';
import type { ToolRecords } from '../tools/tool-records.ts';
import type { Arch } from '../model/arch.ts';
import type { ToolRecord } from '../model/payload.ts';

/** Raised when the same inputs must have another digest: every lock must be written again then. */
const PACKAGING_FORMAT = 1;

/** Compilers and packers do not count: a published version is not built again because of a tool. */
const ANY_TOOL: ToolRecord = { name: '', version: '', sha256: '', status: '' };
const NO_TOOLS: ToolRecords = {
  host: 'x86-64',
  tool: async () => [],
  c: async () => [],
  rust: async () => [],
  go: async () => ANY_TOOL,
};

/** Describes a component by each of its origins with pins. An origin without pins cannot be built and decides nothing. */
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
 * sha256 (hex) of everything in this repository that decides the bytes of a pinned version, for both architectures: pinned digests, the extension's
 * own files and their execute bits, build scripts, lock modules, and what the definition builds, installs and starts; not the summary, licences,
 * proofs, tests and the revision. pins.json records it, so that lint finds a change without a higher revision. Throws a UserError if an input is
 * missing or does not match its pin.
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

/** A pinned version whose inputs changed since it was pinned. */
export interface StalePackaging {
  readonly version: string;
  readonly revision: number;
  /** The digest in pins.json; undefined without one. */
  readonly pinned: string | undefined;
  /** The digest of the checkout. */
  readonly actual: string;
}

/** The pinned versions of an extension whose inputs changed since they were pinned. */
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
