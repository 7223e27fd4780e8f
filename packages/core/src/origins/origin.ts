import * as v from 'valibot';
import type { Omission } from '../inspect/omission.ts';
import { UserError } from '../util/errors.ts';
import type { PinnedComponent } from '../definition/types.ts';
import { EmbeddedModuleSchema } from '../model/payload-record.ts';
import { locatorText } from '../model/locator.ts';
import type { Sandbox } from '../tools/sandbox.ts';
import type { Store } from '../store/store.ts';
import type { ToolRecords } from '../tools/tool-records.ts';
import type { Tools } from '../tools/tools.ts';
import type { Toolchains } from '../tools/toolchains.ts';
import type { Arch } from '../model/arch.ts';
import type { EmbeddedModule, Material, OriginKind, ToolRecord } from '../model/payload.ts';
import type { Report } from '../util/events.ts';

/** What decides the files of an origin: the pins, the definition and the records of tools. Describing fetches and runs nothing. */
export interface DescribeContext extends PinnedComponent {
  readonly arch: Arch;
  readonly records: ToolRecords;
}

/** The inputs of an origin's files, known before they are made: part of the payload's key, and the same in every checkout. */
export interface OriginDescription {
  /** Format numbers of the steps that make the files, each raised when the same inputs give other bytes: `go 1, toolchain 1`. */
  readonly format: string;
  readonly materials: readonly Material[];
  /** Everything else that decides the bytes. */
  readonly parameters: Readonly<Record<string, string>>;
  readonly tools: readonly ToolRecord[];
}

/** What making an origin's files takes. */
export interface OriginContext extends DescribeContext {
  readonly store: Store;
  readonly tools: Tools;
  readonly toolchains: Toolchains;
  /** Runs all compilers, without network; takeFile and takeFolder take the result out. */
  readonly sandbox: Sandbox;
  readonly report: Report;
  /** Base URL through which all upstream URLs are fetched. */
  readonly mirror?: string;
  readonly signal?: AbortSignal;
}

/** The files of an origin, in a folder. */
export interface OriginResult extends OriginDescription {
  readonly dir: string;
  /** Packages that the files come from or contain, besides the component itself. */
  readonly packages?: readonly OriginPackage[];
  /** What its programs name by compiled-in paths, that those packages have and its files lack. */
  readonly omissions?: readonly Omission[];
}

/** A package that files come from, by their paths in the origin's folder, or one that is compiled into all programs of an origin. */
export interface OriginPackage extends Omit<EmbeddedModule, 'paths'> {
  readonly paths: readonly string[] | 'programs';
}

/** An OriginPackage in a result of the store. */
export const OriginPackageSchema = v.strictObject({
  ...EmbeddedModuleSchema.entries,
  paths: v.union([v.array(v.string()), v.literal('programs')]),
});

/** What to do about a result of the store that cannot be read. */
export const BUILD_AGAIN = 'run flatcar-ext cache verify, and build again';

/** Bytes from outside with their pin. Throws a UserError for a locator without a pin, before anything is fetched. */
export function pinnedMaterial({ component, pin }: PinnedComponent, locator: string): Material {
  const pinned = pin.bytes[locator];
  if (pinned !== undefined) return { locator, sha256: pinned.sha256, proof: pinned.proof, size: pinned.size };
  throw new UserError(`${component.name} ${component.version} has no pin for this origin`, {
    where: locator,
    next: 'run flatcar-ext pin; nothing is fetched without a digest',
  });
}

/** A folder of this repository. `sha256` is the digest of its content. */
export function ownMaterial(folder: string, sha256: string): Material {
  return { locator: locatorText({ kind: 'folder', folder }), sha256, proof: 'in this repository' };
}

/** Parameters without those that are undefined. */
export function definedOnly(values: Readonly<Record<string, string | undefined>>): Record<string, string> {
  return Object.fromEntries(Object.entries(values).flatMap(([key, value]) => (value === undefined ? [] : [[key, value]])));
}

/**
 * Compiles into a result of the store, unless the store has it. A compiler takes all cores and gigabytes of memory, so only one runs at a time on
 * this machine. Reports the time that compiling took, without the wait. `make` gets the folder of the result and a temporary folder for the
 * sandbox to work in.
 */
export function compileOnce(
  { component, arch, store, report, signal }: Pick<OriginContext, 'component' | 'arch' | 'store' | 'report' | 'signal'>,
  kind: string,
  key: string,
  make: (fresh: string, work: string) => Promise<void>,
): Promise<{ dir: string; cached: boolean }> {
  const what = `${component.name} for ${arch}`;
  return store.result(kind, key, async (fresh) => {
    const waiting = setTimeout(() => report({ type: 'step', text: `${what} waits: another build on this machine compiles` }), 1000);
    const compile = async (): Promise<void> => {
      clearTimeout(waiting);
      const started = Date.now();
      await store.withTemp((work) => make(fresh, work));
      report({ type: 'step', text: `compiled ${what} in ${Math.round((Date.now() - started) / 1000)} s` });
    };
    await store.lock('compile', compile, signal).finally(() => clearTimeout(waiting));
  });
}

/** Kinds of origins that are not a download of upstream's own file. */
export const SOURCE_ORIGINS: ReadonlySet<OriginKind> = new Set(['go', 'cargo', 'debian', 'source']);
/** Kinds of origins that compile: they run other people's code, and so a sandbox. */
export const COMPILING_ORIGINS: ReadonlySet<OriginKind> = new Set(['go', 'cargo', 'source']);
