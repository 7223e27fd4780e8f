import * as v from 'valibot';
import type { Omission } from '../inspect/omission.ts';
import { UserError } from '../util/errors.ts';
import type { PinnedComponent } from '../definition/types.ts';
import { EmbeddedModuleSchema } from '../model/payload-record.ts';
import type { PinnedVersion } from '../definition/pins.ts';
import type { Sandbox } from '../tools/sandbox.ts';
import type { Store } from '../store/store.ts';
import type { ToolRecords } from '../tools/tool-records.ts';
import type { Tools } from '../tools/tools.ts';
import type { Toolchains } from '../tools/toolchains.ts';
import type { Arch } from '../model/arch.ts';
import type { EmbeddedModule, Material, OriginKind, ToolRecord } from '../model/payload.ts';
import type { Report } from '../util/events.ts';

/** What decides what an origin gives: the pins, the definition and what the tools are made of. Nothing of it is fetched or run. */
export interface DescribeContext extends PinnedComponent {
  readonly arch: Arch;
  readonly records: ToolRecords;
}

/** What an origin is made of, known before it is made: part of the payload's key, and the same in every checkout. */
export interface OriginDescription {
  /** Format numbers of the steps that make it, each raised when the same inputs give other bytes: `go 1, toolchain 1`. */
  readonly format: string;
  readonly materials: readonly Material[];
  /** What else decided the bytes. */
  readonly parameters: Readonly<Record<string, string>>;
  readonly tools: readonly ToolRecord[];
}

/** What every origin is given to be made. */
export interface OriginContext extends DescribeContext {
  readonly store: Store;
  readonly tools: Tools;
  readonly toolchains: Toolchains;
  /** Whatever compiles runs in it; it gets no network, and what it made is taken out by takeFile or takeFolder. */
  readonly sandbox: Sandbox;
  readonly report: Report;
  /** Base URL that stands in for all upstream hosts. */
  readonly mirror?: string;
  readonly signal?: AbortSignal;
}

/** What every origin gives: a folder of files under the names that `Place.from` speaks of. */
export interface OriginResult extends OriginDescription {
  readonly dir: string;
  /** What its files come from or consist of besides the component itself. */
  readonly packages?: readonly OriginPackage[];
  /** What its programs name by compiled-in paths, that those packages have and its files lack. */
  readonly omissions?: readonly Omission[];
}

/** A package that files come from, by path in the origin's folder, or one that is compiled into all of an origin's programs. */
export interface OriginPackage extends Omit<EmbeddedModule, 'paths'> {
  readonly paths: readonly string[] | 'programs';
}

/** The same, as a result of the store has it. */
export const OriginPackageSchema = v.strictObject({
  ...EmbeddedModuleSchema.entries,
  paths: v.union([v.array(v.string()), v.literal('programs')]),
});

/** What to do about a result of the store that cannot be read. */
export const BUILD_AGAIN = 'run flatcar-ext cache verify, and build again';

/** What pins.json says of an origin's bytes; asked before anything is fetched, a compiler included. */
export function pinnedBytes({ component, pin }: PinnedComponent, locator: string): PinnedVersion['bytes'][string] {
  const pinned = pin.bytes[locator];
  if (pinned !== undefined) return pinned;
  throw new UserError(`${component.name} ${component.version} has no pin for this origin`, {
    where: locator,
    next: 'run flatcar-ext pin; nothing is fetched without a digest',
  });
}

/**
 * A result of the store that a compiler makes. It takes all cores and gigabytes: one at a time, whatever else builds on
 * this machine. What the store has waits for nobody. Reports the time that it took, without the wait. `make` is given a temporary folder for
 * the sandbox to work in.
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
