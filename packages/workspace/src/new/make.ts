import { access, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { basename, join, relative } from 'node:path';
import {
  ARCHES,
  copyTree,
  defineExtension,
  digestOf,
  exec,
  findExtensions,
  loadDefinition,
  loadExtension,
  locatorOf,
  newestFirst,
  parseArch,
  parseProof,
  UserError,
  UserErrors,
  type Arch,
  type Extension,
  type Report,
  type Store,
  UsageError,
} from '@flatcar/core/engine';
import { addChangelogEntry, pinVersion, type UpstreamContext } from '@flatcar/upstream';
import { REPOSITORY } from '../select.ts';
import { packageLock, updatePackageLock } from '../package-lock.ts';
import { refreshPackaging } from '../packaging-check.ts';
import { writeReadme, writeRootReadme } from '../readme.ts';
import type { Flags } from './flags.ts';
import { scaffold, writeFiles } from './package-files.ts';
import type { Plan, Probe } from './plan.ts';
import { probe, type Tried } from './probe.ts';
import { untried } from './test-text.ts';

/** Prompts for a component's licence; `hint` is what upstream publishes about it. */
type AskLicense = (component: string, hint?: string) => Promise<string>;

/** The result of `new`. */
export interface NewExtensionResult {
  readonly extension: string;
  readonly version: string;
  readonly files: readonly string[];
  /** Lines of extension.ts. */
  readonly lines: number;
  readonly seconds: number;
  /** True when it was built (and so linted) for this machine's architecture. */
  readonly built: boolean;
}

/** Throws a UserError if a name is not valid, or is already used. */
export async function assertFree(name: string): Promise<void> {
  try {
    defineExtension({ name, summary: '-', versions: { kind: 'date', track: 'newest' }, components: () => [] });
  } catch (error) {
    throw error instanceof UserError ? new UsageError(error.message, { next: error.next, cause: error }) : error;
  }
  const taken = (await findExtensions(REPOSITORY)).find((dir) => dir.endsWith(`/${name}`));
  if (taken !== undefined)
    throw new UsageError(`the extension '${name}' already exists`, { where: taken, next: `run flatcar-ext bump ${name} to update it` });
  await access(join(REPOSITORY, 'extensions', name)).then(
    () => {
      throw new UserError('the folder exists, but contains no extension', {
        where: join(REPOSITORY, 'extensions', name),
        next: 'remove it first',
      });
    },
    () => undefined,
  );
}

/** Writes digests that are known from elsewhere as pins; `pin` compares them with what upstream has, if it answers. */
async function writeKnown(dir: string, extension: Extension, version: string, flags: Flags): Promise<void> {
  if (flags.sha256 === undefined) return;
  if (flags.proof === undefined)
    throw new UsageError('--sha256 needs --proof', {
      next: 'pass where the digests are from, such as --proof "third-party pin: kubespray"',
    });
  if (parseProof(flags.proof)?.kind !== 'third-party')
    throw new UsageError(`'${flags.proof}' does not name the project that pins the digests`, {
      next: 'pass it as --proof "third-party pin: kubespray"; new itself checks what upstream publishes',
    });
  const given = Object.fromEntries(Object.entries(flags.sha256).map(([arch, sha256]) => [parseArch(arch), sha256])) as Partial<
    Record<Arch, string>
  >;
  const bytes: Record<string, { sha256: string; proof: string }> = {};
  for (const component of extension.components({ version })) {
    for (const origin of component.origins.filter(({ kind }) => kind === 'upstream')) {
      for (const arch of ARCHES) {
        const sha256 = given[arch];
        if (sha256 === undefined || !/^[0-9a-f]{64}$/.test(sha256))
          throw new UsageError(`--sha256 ${arch}= needs 64 lowercase hex digits`, { next: 'pass the digests for both architectures' });
        bytes[locatorOf(origin, component, arch) ?? ''] = { sha256, proof: flags.proof };
      }
    }
  }
  await writeFile(join(dir, 'pins.json'), JSON.stringify({ [version]: { revision: 0, licenses: {}, bytes } }, undefined, 2));
}

/** Formats a file with the settings of its later path. It is piped, because oxfmt skips files in ignored folders. */
export async function formatFile(file: string, path: string): Promise<void> {
  const text = await exec(join(REPOSITORY, 'node_modules/.bin/oxfmt'), ['--stdin-filepath', join(REPOSITORY, path)], {
    cwd: REPOSITORY,
    input: await readFile(file),
    env: { PATH: process.env['PATH'] ?? '' },
  });
  await writeFile(file, `${text.trimEnd()}\n`);
}

async function writePackage(dir: string, plan: Plan, probes: readonly Probe[], flags: Flags): Promise<void> {
  if (typeof flags.files === 'string') {
    await rm(join(dir, 'files'), { recursive: true, force: true }); // from before its programs were tried
    await copyTree(flags.files, join(dir, 'files'));
  }
  await writeFiles(dir, scaffold(plan, probes));
  for (const name of ['extension.ts', 'test/extension.test.ts']) await formatFile(join(dir, name), join('extensions', plan.name, name));
}

/**
 * Builds the package and tries its programs, for its test. Returns an error if it cannot be built, or if a program has another version than the
 * pinned one: what was written so far is right, and a person can continue from there.
 */
async function tryOut(aside: string, plan: Plan, flags: Flags, context: UpstreamContext, report: Report): Promise<UserError | undefined> {
  try {
    const { probes, others, broken, silent } = await probe(aside, plan, context, report);
    await writePackage(aside, plan, probes, flags);
    tellProbes(plan, probes, silent, report);
    const wrong = others.map(
      ({ program, reported }) =>
        new UserError(`${program} reports version ${reported}, but ${plan.version} is pinned`, {
          where: join(aside, 'pins.json'),
          next: `pin that version (--version ${reported}), or pass --other-version 'REASON' if it differs for a reason`,
        }),
    );
    const [first] = broken;
    if (first !== undefined)
      return new UserError(`${first.program} cannot load modules of its own: ${first.output}`, {
        where: join(aside, 'extension.ts'),
        next: 'add their package and folder to debian(…) in extension.ts (`relocate`)',
      });
    if (plan.own !== undefined || plan.debian?.dated === true) return undefined; // no program has a date as its version
    if (flags.otherVersion !== undefined) {
      for (const { message } of wrong) report({ type: 'notice', text: `${message}: ${flags.otherVersion}` });
      return undefined;
    }
    return wrong.length > 1 ? new UserErrors('programs report other versions', wrong) : wrong[0];
  } catch (error) {
    if (!(error instanceof UserError) || context.signal?.aborted === true) throw error;
    return error;
  }
}

function tellProbes(plan: Plan, probes: readonly Probe[], silent: Tried['silent'], report: Report): void {
  for (const program of plan.programs) {
    const found = probes.find(({ run }) => run[0] === program);
    if (found?.says === 'version' || found?.numbered === true) continue;
    const what =
      found === undefined
        ? `the test only checks that it exists; add a command to test/extension.test.ts, such as { run: ['${program}', 'ARGUMENT'], says: /WORDS/ }`
        : `the test checks a line of the output of '${found.run.join(' ')}'`;
    // An image of own files has no interpreter for scripts: what the sandbox prints then is of no use.
    const output = plan.own === undefined ? (silent.find((one) => one.program === program)?.output ?? '') : '';
    const why = plan.own === undefined ? `does not print ${plan.version} as its version` : 'was not run';
    report({ type: 'notice', text: `${program} ${why}${output === '' ? '' : ` ('${output.slice(0, 120)}')`}: ${what}` });
  }
}

/** Writes, pins and tries the package in a separate folder. Returns the error if it could not be built. */
async function prepare(
  aside: string,
  plan: Plan,
  flags: Flags,
  askLicense: AskLicense | undefined,
  context: UpstreamContext,
  report: Report,
): Promise<UserError | undefined> {
  await writePackage(aside, plan, untried(plan), flags);
  const extension = await loadDefinition(aside);
  await writeKnown(aside, extension, plan.version, flags);
  const licenses =
    plan.license === '' ? {} : Object.fromEntries(extension.components({ version: plan.version }).map(({ name }) => [name, plan.license]));
  const pinned = await pinVersion({ dir: aside, extension, version: plan.version, licenses, askLicense }, context);
  const failed = flags.build ? await tryOut(aside, plan, flags, context, report) : undefined;
  const entry = { version: plan.version, revision: pinned.revision, lines: ['first version'] };
  await writeFile(join(aside, 'CHANGELOG.md'), addChangelogEntry(plan.name, undefined, entry));
  await refreshPackaging(aside, plan.version);
  await writeReadme(aside);
  return failed;
}

/** The same errors, with the folder in which the package is now. */
function moved(error: UserError, from: string, to: string): UserError[] {
  if (error instanceof UserErrors) return error.errors.flatMap((one) => moved(one, from, to));
  const { message, where, next, cause } = error;
  return [new UserError(message.replaceAll(from, to), { where: where?.replaceAll(from, to), next: next?.replaceAll(from, to), cause })];
}

/** The error for a package that was written, but could not be built: its errors name files that exist. */
function unfinished({ name }: Plan, error: UserError, from: string, to: string): UserError {
  const goOn = new UserError(`extensions/${name} was written and pinned, but it is not finished`, {
    where: to,
    next: `correct it and run flatcar-ext build ${name}, or remove it: git checkout package-lock.json README.md; rm -r extensions/${name}`,
  });
  return new UserErrors(`${name} was written, but could not be built or tried`, [...moved(error, from, to), goOn]);
}

/** Where packages are prepared, each in a folder that ends in the ID of the process. */
const ASIDE = join(REPOSITORY, 'dist', 'new');
const ROOT_README = join(REPOSITORY, 'README.md');

/** Updates the files that list all extensions. */
async function enterLists(report: Report): Promise<void> {
  await writeRootReadme(REPOSITORY);
  report({ type: 'step', text: 'adding it to package-lock.json' });
  await updatePackageLock();
}

/** One process at a time moves packages into this checkout and writes the files that list them. */
const alone = <T>(store: Store, work: () => Promise<T>): Promise<T> => store.lock(`new-${digestOf({ repository: REPOSITORY })}`, work);

/** Moves the package into place and adds it to the files that list all extensions. An interrupt undoes all of that. */
async function enter(aside: string, dir: string, { store, report, signal }: UpstreamContext): Promise<void> {
  await alone(store, async () => {
    signal?.throwIfAborted();
    await assertFree(basename(dir));
    await rename(aside, dir);
    await enterLists(report);
    if (signal?.aborted !== true) return;
    await rm(dir, { recursive: true, force: true });
    await enterLists(() => undefined);
    signal.throwIfAborted();
  });
}

/** The folder of an extension that the files that list all extensions do not have, because `new` was killed; undefined if there is none. */
export async function findUnlisted(name: string): Promise<string | undefined> {
  const dir = (await findExtensions(REPOSITORY)).find((one) => one === join(REPOSITORY, 'extensions', name));
  if (dir === undefined) return undefined;
  const [lock, readme] = await Promise.all([readFile(packageLock, 'utf8'), readFile(ROOT_README, 'utf8')]);
  return lock.includes(`"extensions/${name}"`) && readme.includes(`(extensions/${name}/`) ? undefined : dir;
}

/** Completes a `new` that was killed after it moved the package into place: the package itself is complete. */
export async function completeEntry(
  dir: string,
  flags: Flags,
  { store, report }: UpstreamContext,
): Promise<Omit<NewExtensionResult, 'seconds'>> {
  report({ type: 'notice', text: `${basename(dir)} exists, but the files that list all extensions do not have it: adding it` });
  await alone(store, () => enterLists(report));
  await removeLeftovers(ASIDE);
  return madeIn(dir, flags);
}

/** The result for a package that is in place. */
async function madeIn(dir: string, flags: Flags): Promise<Omit<NewExtensionResult, 'seconds'>> {
  const listed = await readdir(dir, { recursive: true, withFileTypes: true });
  const files = listed.filter((entry) => entry.isFile()).map((entry) => relative(REPOSITORY, join(entry.parentPath, entry.name)));
  const definition = await readFile(join(dir, 'extension.ts'), 'utf8');
  const [version = ''] = newestFirst(Object.keys((await loadExtension(dir)).pins));
  return {
    extension: basename(dir),
    version,
    files: files.toSorted(),
    lines: definition.trimEnd().split('\n').length,
    built: flags.build,
  };
}

/**
 * Writes the package of a plan to extensions/, as a whole or not at all. An interrupt leaves the repository unchanged, and the next run completes
 * what a kill left undone. If the package cannot be built, it stays, and this throws a UserError.
 */
export async function make(
  plan: Plan,
  flags: Flags,
  askLicense: AskLicense | undefined,
  context: UpstreamContext,
  report: Report,
): Promise<Omit<NewExtensionResult, 'seconds'>> {
  const aside = join(ASIDE, `${plan.name}-${process.pid}`);
  const dir = join(REPOSITORY, 'extensions', plan.name);
  await removeLeftovers(ASIDE);
  try {
    const failed = await prepare(aside, plan, flags, askLicense, context, report);
    context.signal?.throwIfAborted();
    await enter(aside, dir, { ...context, report });
    if (failed !== undefined) throw unfinished(plan, failed, aside, dir);
  } finally {
    await rm(aside, { recursive: true, force: true });
  }
  return madeIn(dir, flags);
}

/** Removes the folders of killed processes. */
async function removeLeftovers(parent: string): Promise<void> {
  const names = await readdir(parent).catch(() => []);
  for (const name of names) {
    const pid = Number(/-(\d+)$/.exec(name)?.[1]);
    if (pid === process.pid || !(await isRunning(pid))) await rm(join(parent, name), { recursive: true, force: true });
  }
}

/** True if a process with this ID exists, of any user. */
const isRunning = (pid: number): Promise<boolean> =>
  access(`/proc/${pid}`).then(
    () => true,
    () => false,
  );
