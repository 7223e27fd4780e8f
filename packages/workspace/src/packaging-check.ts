import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  imageVersion,
  jsonObject,
  lineOfPath,
  loadExtension,
  packagingDigest,
  parseJson,
  UserError,
  UserErrors,
  writeAtomic,
  type LoadedExtension,
  type PinnedVersion,
  type Pins,
} from '@flatcar/core/engine';
import * as v from 'valibot';
import { baseLock } from './base-commit.ts';

/** A pinned version whose image would have other bytes than its lock describes. */
export interface PackagingProblem {
  readonly extension: string;
  readonly version: string;
  readonly what: string;
  /** File and line of the lock's entry. */
  readonly where: string;
  readonly next: string;
  /** Whether the digest in pins.json may be renewed in place, since the revision is not published. */
  readonly refresh: boolean;
}

/** Whether an entry of a lock is published under its revision, or will be. */
const isReleased = (pin: PinnedVersion, base: PinnedVersion | undefined): base is PinnedVersion =>
  base !== undefined && base.revision >= pin.revision;

function problemOf(
  { extension, pins }: LoadedExtension,
  version: string,
  actual: string,
  base: Pins | undefined,
): Pick<PackagingProblem, 'what' | 'next' | 'refresh'> | undefined {
  const { name } = extension;
  const pin = pins[version];
  if (pin === undefined) return undefined;
  const image = imageVersion(version, pin.revision);
  const isNewest = Object.keys(pins)[0] === version;
  const raise = `flatcar-ext pin ${isNewest ? name : `${name}@${version}`} --revision`;
  const before = base?.[version];
  if (isReleased(pin, before)) {
    if (before.revision > pin.revision)
      return {
        what: `revision ${pin.revision} of ${version} is lower than the former revision ${before.revision}`,
        next: raise,
        refresh: false,
      };
    if (before.packaging !== undefined && before.packaging !== actual)
      return { what: `files or definition changed since ${image} was pinned`, next: raise, refresh: false };
  }
  if (pin.packaging === actual) return undefined;
  if (pin.packaging === undefined)
    return { what: `pins.json has no packaging digest of ${image}`, next: `flatcar-ext lint ${name} --fix`, refresh: true };
  const next =
    base === undefined ? `${raise}; while ${image} is not published, flatcar-ext lint ${name} --fix` : `flatcar-ext lint ${name} --fix`;
  return { what: `files or definition changed since ${image} was pinned`, next, refresh: true };
}

/**
 * The pinned versions that were changed since they were pinned, or since `base` (by default the lock of the branch that images are published
 * from). A lock with a current digest needs a higher revision, too, if the same revision has another digest in the base.
 */
export async function packagingProblems(loaded: LoadedExtension, base?: Pins): Promise<PackagingProblem[]> {
  if (loaded.fixture) return [];
  const { dir, extension, pins } = loaded;
  const file = join(dir, 'pins.json');
  const text = await readFile(file, 'utf8');
  const before = base ?? (await baseLock(dir));
  const found = await Promise.all(
    Object.keys(pins).map(async (version): Promise<PackagingProblem[]> => {
      const at = { extension: extension.name, version, where: `${file}:${lineOfPath(text, [version, 'packaging'])}` };
      try {
        const problem = problemOf(loaded, version, await packagingDigest(loaded, version), before);
        return problem === undefined ? [] : [{ ...at, ...problem }];
      } catch (error) {
        // For example, an input is missing or has another digest.
        if (!(error instanceof UserError)) throw error;
        return [{ ...at, what: error.message, where: error.where ?? at.where, next: error.next ?? 'flatcar-ext pin', refresh: false }];
      }
    }),
  );
  return found.flat();
}

/** The problems as one error; undefined if there are none. */
export function packagingError(problems: readonly PackagingProblem[]): UserError | undefined {
  const errors = problems.map(({ extension, what, where, next }) => new UserError(`${extension}: ${what}`, { where, next }));
  const [first] = errors;
  return first === undefined || errors.length === 1
    ? first
    : new UserErrors(`${errors.length} versions were changed since they were pinned`, errors);
}

/** Throws a UserError if a version was changed since it was pinned: its name may be published with other bytes. */
export async function assertPackaged(chosen: readonly { readonly loaded: LoadedExtension; readonly version: string }[]): Promise<void> {
  const found = await Promise.all(
    chosen.map(async ({ loaded, version }) => (await packagingProblems(loaded)).filter((one) => one.version === version)),
  );
  const error = packagingError(found.flat());
  if (error !== undefined) throw error;
}

/** Renews the packaging digest of one version in the lock, and nothing else. */
export async function refreshPackaging(dir: string, version: string): Promise<void> {
  const packaging = await packagingDigest(await loadExtension(dir), version);
  const file = join(dir, 'pins.json');
  const json = parseJson(v.record(v.string(), jsonObject), await readFile(file, 'utf8'), { what: 'pins.json', where: file });
  const { revision = 0, packaging: _, ...others } = json[version] ?? {};
  json[version] = { revision, packaging, ...others };
  await writeAtomic(file, `${JSON.stringify(json, undefined, 2)}\n`);
}
