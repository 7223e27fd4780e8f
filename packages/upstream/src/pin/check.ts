import { mkdtemp, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  copyPublic,
  ARCHES,
  goSumDigest,
  IndexUnavailableError,
  isPackageLocator,
  isUnanswered,
  openArchive,
  openGo,
  mapParallel,
  parseJson,
  parseProof,
  snapshotArchive,
  UnreachableError,
  UserError,
  lockModuleDir,
  type DebianOrigin,
  type Extension,
  type GoCommand,
  type Pins,
} from '@flatcar/core/engine';
import * as v from 'valibot';
import { archiveOf, memoize, type UpstreamContext } from '../context.ts';
import { proofRank } from '../verify/proof.ts';
import { pinOne } from './bytes.ts';
import { locksOf, openLock, type Lock } from './lock.ts';
import type { Bytes } from './request.ts';
import { wantedOf, type Wanted } from './wanted.ts';

/** A pinned entry, compared with what upstream has. */
export interface CheckedPin {
  /** The lock file. */
  readonly file: string;
  readonly version: string;
  readonly component: string;
  readonly locator: string;
  readonly sha256: string;
  readonly proof: string;
  /**
   * `same`; `stronger`: the same bytes, and upstream proves more than the lock records; `different`: other bytes, or a proof that upstream does
   * not give; `unreached`: its host did not answer, or no longer has it.
   */
  readonly state: 'same' | 'stronger' | 'different' | 'unreached';
  /** What upstream has, or why it could not be compared. */
  readonly found: string;
}

type Verdict = Pick<CheckedPin, 'state' | 'found'>;

/** What is checked. */
export interface CheckRequest {
  readonly dir: string;
  readonly extension: Extension;
  readonly version: string;
  /** Lock files as they were before a change, by their paths: entries that they have are not checked. */
  readonly before?: ReadonlyMap<string, Pins>;
  /** Entries of shared locks that were checked for another extension; those that are checked now are added. */
  readonly seen?: Set<string>;
}

const PACKAGE_PROOF = 'Debian archive index, signed by the archive key';

function compare(pinned: Bytes, found: Bytes): Verdict {
  if (pinned.sha256 !== found.sha256) return { state: 'different', found: `sha256 ${found.sha256}` };
  if (pinned.size !== undefined && found.size !== undefined && pinned.size !== found.size)
    return { state: 'different', found: `${found.size} bytes, and not ${pinned.size}` };
  if (pinned.proof === found.proof) return { state: 'same', found: found.proof };
  const [recorded, given] = [proofRank(pinned.proof), proofRank(found.proof)];
  // What a third party pinned cannot be asked again.
  if (recorded < given) return { state: 'stronger', found: found.proof };
  return { state: parseProof(pinned.proof)?.kind === 'third-party' ? 'same' : 'different', found: found.proof };
}

/** Hosts that do not answer, old indexes and files that are gone are no contradiction; everything else is. */
function failure(error: unknown): Verdict {
  if (isUnanswered(error) || error instanceof IndexUnavailableError) return { state: 'unreached', found: error.message };
  if (error instanceof UserError) return { state: 'different', found: error.message };
  throw error;
}

/** What `go mod download -json` prints of a module. */
const Download = v.object({ Path: v.string(), Version: v.string(), Sum: v.string(), GoModSum: v.string() });

/** The sums of modules as the proxy and the checksum database have them, by `path version` and `path version/go.mod`. */
async function downloadSums(go: GoCommand, cwd: string, modules: readonly string[]): Promise<Map<string, string>> {
  const env = { GOFLAGS: '-mod=mod -modcacherw' };
  const output = await go.online(['mod', 'download', '-json', ...modules], { cwd, env });
  const sums = new Map<string, string>();
  const list = `[${output.replaceAll(/^\}\n\{$/gm, '},{')}]`;
  for (const one of parseJson(v.array(Download), list, { what: 'output of go mod download', where: cwd })) {
    sums.set(`${one.Path} ${one.Version}`, one.Sum);
    sums.set(`${one.Path} ${one.Version}/go.mod`, one.GoModSum);
  }
  return sums;
}

/** The sums of a go.sum, by `path version` and `path version/go.mod`. */
export const readSums = (text: string): [key: string, sum: string][] =>
  text.split('\n').flatMap((line): [string, string][] => {
    const [path, version, sum] = line.split(' ');
    return path === undefined || version === undefined || sum === undefined ? [] : [[`${path} ${version}`, sum]];
  });

/**
 * Compares a lock module's go.sum with the checksum database: the sums are made again without it, since Go believes one that is there.
 * Throws when the lock module is not the pinned one, or one of its sums is another.
 */
async function checkGoSums(wanted: Wanted, pinned: Bytes, context: UpstreamContext): Promise<void> {
  const { origin, component, lock } = wanted;
  if (origin.kind !== 'go') throw new Error('not a Go module');
  const lockModule = lockModuleDir(lock.dir, origin.module, origin.version ?? component.version);
  const actual = await goSumDigest(lockModule);
  if (actual !== pinned.sha256) throw new UserError(`go.sum has the sha256 ${actual}`, { where: lockModule });
  const { store, tools, report } = context;
  const go = await memoize(context, 'go', () => openGo(store, tools, report));
  const settings = parseJson(v.record(v.string(), v.string()), await go.online(['env', '-json', 'GOSUMDB', 'GONOSUMDB', 'GOFLAGS']), {
    what: 'output of go env',
    where: lockModule,
  });
  if (settings['GOSUMDB'] === 'off')
    throw new UnreachableError('the checksum database is switched off (GOSUMDB=off)', { where: lockModule, next: 'unset GOSUMDB' });
  report({ type: 'step', text: `comparing the sums of ${origin.module}` });
  await store.withTemp(async (temp) => {
    const dir = await mkdtemp(join(temp, 'module-'));
    await copyPublic(join(lockModule, 'go.mod'), join(dir, 'go.mod'));
    const sums = await downloadSums(go, dir, []);
    await go.online(['list', '-m', 'all'], { cwd: dir, env: { GOFLAGS: '-mod=mod -modcacherw' } });
    for (const [key, sum] of readSums(await readFile(join(dir, 'go.sum'), 'utf8').catch(() => ''))) sums.set(key, sum);
    const pins = readSums(await readFile(join(lockModule, 'go.sum'), 'utf8'));
    // What only tests of modules need is in go.sum, but is not downloaded for a build.
    const missing = [
      ...new Set(
        pins
          .map(([key]) => key)
          .filter((key) => !sums.has(key))
          .map((key) => key.replace(/\/go\.mod$/, '').replace(' ', '@')),
      ),
    ];
    const empty = await mkdtemp(join(temp, 'empty-'));
    for (let index = 0; index < missing.length; index += 100)
      for (const [key, sum] of await downloadSums(go, empty, missing.slice(index, index + 100))) sums.set(key, sum);
    const wrong = pins.find(([key, sum]) => sums.get(key) !== sum);
    if (wrong !== undefined)
      throw new UserError(`go.sum has another sum for ${wrong[0]}`, { where: join(lockModule, 'go.sum'), next: 'do not merge this' });
  });
}

async function checkOne(wanted: Wanted, pinned: Bytes, temp: string, context: UpstreamContext): Promise<Verdict> {
  try {
    if (wanted.origin.kind === 'go') {
      await checkGoSums(wanted, pinned, context);
      return compare(pinned, { ...pinned, proof: 'Go checksum database' });
    }
    return compare(pinned, await pinOne(wanted, temp, false, [], context));
  } catch (error) {
    return failure(error);
  }
}

type Index = ReadonlyMap<string, { sha256: string; size: number }>;

/** The packages that an archive lists, by their paths; all that is signed by its key. */
async function indexOf(archive: ReturnType<typeof openArchive>, suite: string): Promise<Index> {
  const lists = await Promise.all(ARCHES.map((arch) => archive.newest(suite, arch)));
  return new Map(lists.flatMap(({ packages }) => packages.map(({ path, sha256, size }) => [path, { sha256, size }] as const)));
}

/** Debian's packages: by today's index, else by that of the moment at which they were pinned. */
async function checkPackages(
  lock: Lock,
  origin: DebianOrigin,
  entries: readonly [string, Bytes][],
  context: UpstreamContext,
): Promise<Verdict[]> {
  const snapshot = lock.pins[lock.version]?.snapshot;
  const { store, report } = context;
  const today = async (): Promise<Index> => indexOf(await archiveOf(context), origin.suite);
  const then = async (): Promise<Index> => {
    if (snapshot === undefined) throw new UnreachableError('the lock has no timestamp of a snapshot archive', { where: lock.file });
    return indexOf(openArchive(store, report, { mirror: `${snapshotArchive()}/${snapshot}` }), origin.suite);
  };
  const ask = (key: string, index: () => Promise<Index>): Promise<Index | Verdict> => memoize(context, key, () => index().catch(failure));
  const verdict = (found: Index | Verdict, locator: string, pinned: Bytes): Verdict | undefined => {
    if ('state' in found) return found;
    const entry = found.get(locator.replace(/^debian:/, ''));
    return entry === undefined ? undefined : compare(pinned, { ...entry, proof: PACKAGE_PROOF });
  };
  return Promise.all(
    entries.map(async ([locator, pinned]) => {
      const now = verdict(await ask(`index ${origin.suite}`, today), locator, pinned);
      if (now !== undefined && now.state !== 'unreached') return now;
      const before = verdict(await ask(`index ${origin.suite} ${snapshot ?? ''}`, then), locator, pinned);
      return before ?? { state: 'unreached', found: `neither ${origin.suite} nor its snapshot ${snapshot ?? ''} lists it` };
    }),
  );
}

/** Entries of an extension's own lock that no origin of it has: nobody can say what they must be. Other extensions use the rest of a shared lock. */
function unusedEntries(lock: Lock, hasPackages: boolean): [string, Bytes][] {
  if (lock.shared) return [];
  const used = new Set(wantedOf(lock).map(({ locator }) => locator));
  const { bytes = {} } = lock.pins[lock.version] ?? {};
  return Object.entries(bytes).filter(([locator]) => !used.has(locator) && !(hasPackages && isPackageLocator(locator)));
}

/**
 * Derives the digests and proofs of a version's pins again from upstream, in its own lock and in those that it shares, and compares them
 * with what is pinned. Writes nothing, and takes nothing that is pinned for granted.
 */
export async function checkPins(request: CheckRequest, context: UpstreamContext): Promise<CheckedPin[]> {
  const { extension, version, dir, before, seen = new Set() } = request;
  const own = await openLock(dir, version, false);
  const pins = own.pins[version];
  if (pins === undefined) throw new UserError(`${extension.name} ${version} is not pinned`, { where: own.file });
  const locks = await locksOf({ dir, extension, version }, own, pins.with);
  const isNew = (lock: Lock, locator: string, pinned: Bytes): boolean => {
    const key = `${lock.file} ${lock.version} ${locator}`;
    if (seen.has(key)) return false;
    seen.add(key);
    const entries = Object.values(before?.get(lock.file) ?? {}).flatMap((one) => one.bytes[locator] ?? []);
    return !entries.some(({ sha256, size, proof }) => sha256 === pinned.sha256 && size === pinned.size && proof === pinned.proof);
  };
  const line = (lock: Lock, component: string, locator: string, { sha256, proof }: Bytes, verdict: Verdict): CheckedPin => ({
    file: lock.file,
    version: lock.version,
    component,
    locator,
    sha256,
    proof,
    ...verdict,
  });
  return context.store.withTemp(async (temp) => {
    const checked: CheckedPin[] = [];
    for (const lock of locks) {
      const { bytes = {} } = lock.pins[lock.version] ?? {};
      const wanted = wantedOf(lock).flatMap((one) => {
        const pinned = bytes[one.locator];
        return pinned === undefined || !isNew(lock, one.locator, pinned) ? [] : [{ one, pinned }];
      });
      checked.push(
        ...(await mapParallel(
          wanted,
          async ({ one, pinned }) => line(lock, one.component.name, one.locator, pinned, await checkOne(one, pinned, temp, context)),
          4,
        )),
      );
      const packaged = lock.components.flatMap((component) =>
        component.origins.flatMap((origin) => (origin.kind === 'debian' ? [{ component, origin }] : [])),
      )[0];
      checked.push(
        ...unusedEntries(lock, packaged !== undefined)
          .filter(([locator, pinned]) => isNew(lock, locator, pinned))
          .map(([locator, pinned]) => line(lock, '', locator, pinned, { state: 'different', found: 'nothing in the definition uses it' })),
      );
      if (packaged === undefined) continue;
      const packages = Object.entries(bytes).filter(([locator, pinned]) => isPackageLocator(locator) && isNew(lock, locator, pinned));
      const verdicts = await checkPackages(lock, packaged.origin, packages, context);
      checked.push(
        ...packages.flatMap(([locator, pinned], index) =>
          line(lock, packaged.component.name, locator, pinned, verdicts[index] ?? { state: 'unreached', found: '' }),
        ),
      );
    }
    return checked;
  });
}
