import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  imageVersion,
  lineOfPath,
  loadExtension,
  packagingDigest,
  UserError,
  UserErrors,
  writeAtomic,
  type LoadedExtension,
  type PinnedVersion,
  type Pins,
} from '@flatcar/core/engine';
import { baseLock } from './base-commit.ts';

/** A pinned version that would be published with other bytes than those that its lock stands for. */
export interface PackagingProblem {
  readonly extension: string;
  readonly version: string;
  readonly what: string;
  /** File and line of the lock's entry. */
  readonly where: string;
  readonly next: string;
  /** True when pins.json may be given the digest of today in place, since the revision is not published. */
  readonly refresh: boolean;
}

/** True when an entry of a lock is published, or on its way there, under the revision that it has now. */
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
        what: `revision ${pin.revision} of ${version} is lower than ${before.revision}, which it had before`,
        next: raise,
        refresh: false,
      };
    if (before.packaging !== undefined && before.packaging !== actual)
      return { what: `files or definition changed since ${image} was pinned`, next: raise, refresh: false };
  }
  if (pin.packaging === actual) return undefined;
  if (pin.packaging === undefined)
    return { what: `pins.json has no digest of what ${image} is made of`, next: `flatcar-ext lint ${name} --fix`, refresh: true };
  const next =
    base === undefined ? `${raise}; while ${image} is not published, flatcar-ext lint ${name} --fix` : `flatcar-ext lint ${name} --fix`;
  return { what: `files or definition changed since ${image} was pinned`, next, refresh: true };
}

/**
 * The pinned versions that were changed since they were pinned, or since `base`: the lock of the branch that images are published from unless
 * specified. A lock whose digest is current, but that has another digest than the same revision in the base, needs a higher revision too.
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
        // An input that is missing, or that is not the pinned one.
        if (!(error instanceof UserError)) throw error;
        return [{ ...at, what: error.message, where: error.where ?? at.where, next: error.next ?? 'flatcar-ext pin', refresh: false }];
      }
    }),
  );
  return found.flat();
}

/** The problems as one error, for commands that cannot go on; undefined where there are none. */
export function packagingError(problems: readonly PackagingProblem[]): UserError | undefined {
  const errors = problems.map(({ extension, what, where, next }) => new UserError(`${extension}: ${what}`, { where, next }));
  const [first] = errors;
  return first === undefined || errors.length === 1
    ? first
    : new UserErrors(`${errors.length} versions were changed since they were pinned`, errors);
}

/** Throws where a version that is to be published was changed since it was pinned: its name may be published with other bytes. */
export async function assertPackaged(chosen: readonly { readonly loaded: LoadedExtension; readonly version: string }[]): Promise<void> {
  const found = await Promise.all(
    chosen.map(async ({ loaded, version }) => (await packagingProblems(loaded)).filter((one) => one.version === version)),
  );
  const error = packagingError(found.flat());
  if (error !== undefined) throw error;
}

/** Writes the digest of what the checkout has into one version of the lock; everything else stays as it is. */
export async function refreshPackaging(dir: string, version: string): Promise<void> {
  const packaging = await packagingDigest(await loadExtension(dir), version);
  const file = join(dir, 'pins.json');
  const json = JSON.parse(await readFile(file, 'utf8')) as Record<string, Record<string, unknown>>;
  const { revision = 0, packaging: _, ...others } = json[version] ?? {};
  json[version] = { revision, packaging, ...others };
  await writeAtomic(file, `${JSON.stringify(json, undefined, 2)}\n`);
}
