import { access, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join, relative } from 'node:path';
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
import { scaffold, untried, type Plan, type Probe } from './scaffold.ts';
import { REPOSITORY } from '../select.ts';
import { packageLock, updatePackageLock } from '../package-lock.ts';
import { refreshPackaging } from '../packaging-check.ts';
import { writeReadme, writeRootReadme } from '../readme.ts';
import type { Flags } from './request.ts';
import { probe, type Tried } from './probe.ts';

/** Asks for a component's licence; `hint` is what upstream says of it. */
type AskLicense = (component: string, hint?: string) => Promise<string>;

/** What was made. */
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

/** Throws where a name cannot be one, or is taken. */
export async function assertFree(name: string): Promise<void> {
  defineExtension({ name, summary: '-', versions: { kind: 'date', track: 'newest' }, components: () => [] });
  const taken = (await findExtensions(REPOSITORY)).find((dir) => dir.endsWith(`/${name}`));
  if (taken !== undefined)
    throw new UserError(`there is an extension '${name}' already`, { where: taken, next: `flatcar-ext bump ${name} brings it up to date` });
  await access(join(REPOSITORY, 'extensions', name)).then(
    () => {
      throw new UserError('the folder is there, but holds no extension', {
        where: join(REPOSITORY, 'extensions', name),
        next: 'remove it first',
      });
    },
    () => undefined,
  );
}

/** Digests that are known from elsewhere, as pins that `pin` compares with what upstream has, where it can be reached. */
async function writeKnown(dir: string, extension: Extension, version: string, flags: Flags): Promise<void> {
  if (flags.sha256 === undefined) return;
  if (flags.proof === undefined)
    throw new UsageError('--sha256 needs --proof', {
      next: 'say where the digests are from, such as --proof "third-party pin: kubespray"',
    });
  if (parseProof(flags.proof)?.kind !== 'third-party')
    throw new UsageError(`'${flags.proof}' does not say whose pins the digests are`, {
      next: 'such as --proof "third-party pin: kubespray"; what upstream publishes itself, new checks itself',
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
          throw new UsageError(`--sha256 ${arch}= needs 64 lowercase hex digits`, { next: 'both architectures are shipped' });
        bytes[locatorOf(origin, component, arch) ?? ''] = { sha256, proof: flags.proof };
      }
    }
  }
  await writeFile(join(dir, 'pins.json'), JSON.stringify({ [version]: { revision: 0, licenses: {}, bytes } }, undefined, 2));
}

async function writePackage(dir: string, plan: Plan, probes: readonly Probe[], flags: Flags): Promise<void> {
  if (typeof flags.files === 'string') {
    await rm(join(dir, 'files'), { recursive: true, force: true }); // of the first time, before its programs were tried
    await copyTree(flags.files, join(dir, 'files'));
  }
  for (const { path, text } of scaffold(plan, probes)) {
    await mkdir(dirname(join(dir, path)), { recursive: true });
    await writeFile(join(dir, path), text);
  }
  const formatter = join(REPOSITORY, 'node_modules/.bin/oxfmt');
  // Ignored folders are not formatted, so the text goes through a pipe.
  for (const name of ['extension.ts', 'test/extension.test.ts'])
    await writeFile(
      join(dir, name),
      `${(await exec(formatter, ['--stdin-filepath', join(REPOSITORY, 'extensions', plan.name, name)], { cwd: REPOSITORY, input: await readFile(join(dir, name)), env: { PATH: process.env['PATH'] ?? '' } })).trimEnd()}\n`,
    );
}

/**
 * Builds the package and tries its programs, for its test; gives the error where it cannot be built, or where a program is another
 * version than the one that is pinned: what was written so far is right all the same, and somebody can go on from there.
 */
async function tryOut(aside: string, plan: Plan, flags: Flags, context: UpstreamContext, report: Report): Promise<UserError | undefined> {
  try {
    const { probes, others, broken, silent } = await probe(aside, plan, context, report);
    await writePackage(aside, plan, probes, flags);
    tellProbes(plan, probes, silent, report);
    const wrong = others.map(
      ({ program, said }) =>
        new UserError(`${program} says that it is version ${said}, and ${plan.version} is pinned`, {
          where: join(aside, 'pins.json'),
          next: `pin the version that it is (--version ${said}), or say why it differs: --other-version 'REASON'`,
        }),
    );
    const [first] = broken;
    if (first !== undefined)
      return new UserError(`${first.program} cannot load modules of its own: ${first.said}`, {
        where: join(aside, 'extension.ts'),
        next: 'add the package and the folder that have them to debian(…) in extension.ts (`data`, `dlopen`)',
      });
    if (plan.own !== undefined || plan.debian?.dated === true) return undefined; // a date is no version of a program
    if (flags.otherVersion !== undefined) {
      for (const { message } of wrong) report({ type: 'notice', text: `${message}: ${flags.otherVersion}` });
      return undefined;
    }
    return wrong.length > 1 ? new UserErrors('programs say other versions', wrong) : wrong[0];
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
        ? `the test only looks whether it is there; write a command into test/extension.test.ts, such as { run: ['${program}', 'ARGUMENT'], says: /WORDS/ }`
        : `the test looks for a line of '${found.run.join(' ')}'`;
    const said = silent.find((one) => one.program === program)?.said ?? '';
    const why = plan.own === undefined ? `does not say ${plan.version} when it is asked for its version` : 'was not run';
    report({ type: 'notice', text: `${program} ${why}${said === '' ? '' : ` ('${said.slice(0, 120)}')`}: ${what}` });
  }
}

/** Writes, pins and tries the package in a folder aside; gives why it could not be built, where it could not. */
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

/** The same errors, about the folder in which the package is now. */
function moved(error: UserError, from: string, to: string): UserError[] {
  if (error instanceof UserErrors) return error.errors.flatMap((one) => moved(one, from, to));
  const { message, where, next, cause } = error;
  return [new UserError(message.replaceAll(from, to), { where: where?.replaceAll(from, to), next: next?.replaceAll(from, to), cause })];
}

/** What was written, and could not be built: nothing of the work is lost, and the errors name files that are there. */
function unfinished({ name }: Plan, error: UserError, from: string, to: string): UserError {
  const goOn = new UserError(`extensions/${name} was written and pinned, but it is not finished`, {
    where: to,
    next: `correct it and run flatcar-ext build ${name}, or remove it: git checkout package-lock.json README.md; rm -r extensions/${name}`,
  });
  return new UserErrors(`${name} was written, and could not be built or tried`, [...moved(error, from, to), goOn]);
}

/** Where packages are made, each in a folder that ends in the id of the process. */
const ASIDE = join(REPOSITORY, 'dist', 'new');
const ROOT_README = join(REPOSITORY, 'README.md');

/** Brings the files that list all extensions up to date with the folders that are there. */
async function enterLists(report: Report): Promise<void> {
  await writeRootReadme(REPOSITORY);
  report({ type: 'step', text: 'entering it in package-lock.json' });
  await updatePackageLock();
}

/** One process at a time moves packages into this checkout and writes the files that list them. */
const alone = <T>(store: Store, work: () => Promise<T>): Promise<T> => store.lock(`new-${digestOf({ repository: REPOSITORY })}`, work);

/** Puts the package in its place and enters it in the files that list all of them. Interrupted, it takes all of it back. */
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

/** The folder of an extension that is in place, and that the files that list all extensions do not have: `new` was killed in between. */
export async function findUnlisted(name: string): Promise<string | undefined> {
  const dir = (await findExtensions(REPOSITORY)).find((one) => one === join(REPOSITORY, 'extensions', name));
  if (dir === undefined) return undefined;
  const [lock, readme] = await Promise.all([readFile(packageLock, 'utf8'), readFile(ROOT_README, 'utf8')]);
  return lock.includes(`"extensions/${name}"`) && readme.includes(`(extensions/${name}/`) ? undefined : dir;
}

/** Does what was left to do when `new` was killed behind the rename: the package itself was written, pinned and tried before. */
export async function completeEntry(
  dir: string,
  flags: Flags,
  { store, report }: UpstreamContext,
): Promise<Omit<NewExtensionResult, 'seconds'>> {
  report({ type: 'notice', text: `${basename(dir)} is in place, but the files that list all extensions do not have it: completing that` });
  await alone(store, () => enterLists(report));
  await removeLeftovers(ASIDE);
  return madeIn(dir, flags);
}

/** What is in a package that was made. */
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
 * Makes the package of a plan: it comes to extensions/ as a whole or not at all. Interrupted, it leaves the repository as it was; where
 * its build fails, it stays. Killed behind the rename, the next run completes what was left. Throws when it could not be built.
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

/** Removes what killed processes left. */
async function removeLeftovers(parent: string): Promise<void> {
  const names = await readdir(parent).catch(() => []);
  for (const name of names) {
    const pid = Number(/-(\d+)$/.exec(name)?.[1]);
    if (pid === process.pid || !(await isRunning(pid))) await rm(join(parent, name), { recursive: true, force: true });
  }
}

/** Whether a process of this id is there, of whomever. */
const isRunning = (pid: number): Promise<boolean> =>
  access(`/proc/${pid}`).then(
    () => true,
    () => false,
  );
