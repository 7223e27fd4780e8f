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
import type { CompileEvent, Report } from '../util/events.ts';

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

/** Names in a sentence, sorted: `kubeadm, kubectl and kubelet`. */
export function namesOf(names: readonly string[]): string {
  const sorted = names.toSorted();
  return [sorted.slice(0, -1).join(', '), ...sorted.slice(-1)].filter((part) => part !== '').join(' and ');
}

/** A number with its noun: `1 package`, `1203 packages`. */
export const countOf = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? '' : 's'}`;

/**
 * Makes those of several results that the store lacks by one call of `make`, which gets their folders by key. Returns the folder of a key.
 * Locks are taken in the order of keys, so that processes with some keys in common cannot wait for each other.
 */
async function resultsTogether(
  store: Store,
  kind: string,
  keys: readonly string[],
  make: (fresh: ReadonlyMap<string, string>) => Promise<void>,
): Promise<(key: string) => string> {
  const dirs = new Map<string, string>();
  const makeRest = async ([key, ...rest]: readonly string[], fresh: ReadonlyMap<string, string>): Promise<void> => {
    if (key === undefined) return fresh.size === 0 ? undefined : make(fresh);
    const { dir, cached } = await store.result(kind, key, (folder) => makeRest(rest, new Map([...fresh, [key, folder]])));
    dirs.set(key, dir);
    if (cached) await makeRest(rest, fresh);
  };
  await makeRest([...new Set(keys)].toSorted(), new Map());
  return (key) => {
    const dir = dirs.get(key);
    if (dir === undefined) throw new Error(`no result ${key} was asked for`);
    return dir;
  };
}

/** What a compiler needs besides its inputs. */
type CompileContext = Pick<OriginContext, 'arch' | 'store' | 'report' | 'signal'>;

/**
 * Compiles into results of the store those that it lacks, all in one run. A compiler takes all cores and gigabytes of memory, so only one runs at a
 * time on this machine. Reports the time that compiling took, without the wait. `make` gets the folders of the results by key, and a temporary folder
 * for the sandbox to work in.
 */
export function compileTogether(
  { arch, store, report, signal }: CompileContext,
  kind: string,
  wanted: readonly { readonly name: string; readonly key: string }[],
  make: (fresh: ReadonlyMap<string, string>, work: string) => Promise<void>,
): Promise<(key: string) => string> {
  const keys = wanted.map(({ key }) => key);
  return resultsTogether(store, kind, keys, async (fresh) => {
    const what = `${namesOf(wanted.filter(({ key }) => fresh.has(key)).map(({ name }) => name))} for ${arch}`;
    const waits = (): void => report({ type: 'step', text: `${what}: waiting for another build on this machine that compiles` });
    const waiting = setTimeout(waits, 1000);
    const compile = async (): Promise<void> => {
      clearTimeout(waiting);
      const started = Date.now();
      await store.withTemp((work) => make(fresh, work));
      report({ type: 'step', text: `compiled ${what} in ${Math.round((Date.now() - started) / 1000)} s` });
    };
    await store.lock('compile', compile, signal).finally(() => clearTimeout(waiting));
  });
}

/** Compiles one component into a result of the store, unless the store has it; see compileTogether. Returns the folder of the result. */
export async function compileOnce(
  { component, ...context }: CompileContext & Pick<OriginContext, 'component'>,
  kind: string,
  key: string,
  make: (fresh: string, work: string) => Promise<void>,
): Promise<string> {
  const folders = await compileTogether(context, kind, [{ name: component.name, key }], async (fresh, work) => {
    for (const folder of fresh.values()) await make(folder, work);
  });
  return folders(key);
}

/** Turns the lines that a compiler prints at each package into progress. Other lines stay. */
export function countingReport(
  report: Report,
  { what, total, unit }: Pick<CompileEvent, 'what' | 'total' | 'unit'>,
  isCounted: (line: string) => boolean,
): Report {
  let done = 0;
  return (event) => {
    if (event.type !== 'log' || !isCounted(event.line)) return report(event);
    done += 1;
    report({ type: 'compile', what, line: event.line, done, total: Math.max(done, total), unit });
  };
}

/** Kinds of origins that are not a download of upstream's own file. */
export const SOURCE_ORIGINS: ReadonlySet<OriginKind> = new Set(['go', 'cargo', 'debian', 'source']);
/** Kinds of origins that compile: they run other people's code, and so a sandbox. */
export const COMPILING_ORIGINS: ReadonlySet<OriginKind> = new Set(['go', 'cargo', 'source']);
