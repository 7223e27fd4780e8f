import { glob } from 'node:fs/promises';
import { basename, join } from 'node:path';
import {
  findExtensions,
  lintNeighbours,
  lintSources,
  loadExtension,
  openStore,
  UsageError,
  UserError,
  type Neighbour,
} from '@flatcar/core/engine';
import { lintImages, sortByAge, type ReportedFinding } from './image-lint.ts';
import { REPOSITORY, extensionsFolder, similarExtensions } from './select.ts';
import { fixSource, lintRootReadme, lintSource, type SourceFinding } from './source-lint.ts';

interface LintSubjects {
  /** Image files that are named. */
  readonly images: readonly string[];
  /** Image files in the dist/ of the extensions. */
  readonly built: readonly string[];
  /** Folders of extensions. */
  readonly dirs: readonly string[];
}

/** The image files among `names`; of extensions (all by default) the folder, and all images in its dist/. */
async function chooseSubjects(names: readonly string[], repository: string): Promise<LintSubjects> {
  const all = await findExtensions(repository);
  const [images, built, dirs]: [string[], string[], string[]] = [[], [], []];
  for (const name of names.length === 0 ? all.map((dir) => basename(dir)) : names) {
    if (name.endsWith('.raw')) {
      images.push(name);
      continue;
    }
    const dir = all.find((one) => basename(one) === name);
    if (dir === undefined)
      throw new UsageError(`'${name}' is neither an image file nor an extension`, {
        where: extensionsFolder(repository),
        next: similarExtensions(name, all),
      });
    dirs.push(dir);
    built.push(...(await Array.fromAsync(glob('dist/*/*.raw', { cwd: dir }))).toSorted().map((image) => join(dir, image)));
  }
  return { images, built, dirs };
}

const reported = ({ rule, level, what, where, fix }: SourceFinding): ReportedFinding => ({ rule, level, what, where, fix });
const keyOf = ({ rule, what }: SourceFinding): string => `${rule} ${what}`;

/** The findings of a check; with `repair` what it repairs is marked as fixed. */
async function checkAndRepair(
  check: () => Promise<readonly SourceFinding[]>,
  repair: (() => Promise<void>) | undefined,
): Promise<ReportedFinding[]> {
  const before = await check();
  await repair?.();
  const after = repair === undefined ? before : await check();
  const left = new Set(after.map(keyOf));
  return [
    ...before.filter((finding) => !left.has(keyOf(finding))).map((finding) => ({ ...reported(finding), fixed: true })),
    ...after.map(reported),
  ];
}

/** Checks folders of extensions and the list of all extensions; with `fix` a program fixes what it can first. */
async function lintFolders(dirs: readonly string[], repository: string, fix: boolean): Promise<ReportedFinding[]> {
  const findings: ReportedFinding[] = [];
  for (const dir of dirs)
    findings.push(...(await checkAndRepair(async () => lintSource(await loadExtension(dir)), fix ? () => fixSource(dir) : undefined)));
  if (dirs.length === 0) return findings;
  const check = (): Promise<SourceFinding[]> => lintRootReadme(repository);
  const fixReadme = async (): Promise<void> => {
    for (const { repair } of await check()) await repair?.();
  };
  return [...findings, ...(await checkAndRepair(check, fix ? fixReadme : undefined))];
}

/** What is known of the files that extensions ship before anything is built. */
interface ShippedFiles {
  readonly findings: readonly ReportedFinding[];
  /** Rules that need a build. */
  readonly pending: ReadonlySet<string>;
  /** Why the files of an extension could not be checked. */
  readonly failures: readonly UserError[];
}

/** Checks the files of this repository that extensions ship, without a build. */
async function lintShipped(dirs: readonly string[]): Promise<ShippedFiles> {
  const store = openStore();
  const findings: ReportedFinding[] = [];
  const pending = new Set<string>();
  const neighbours: Neighbour[] = [];
  const failures: UserError[] = [];
  for (const dir of dirs) {
    const check = await loadExtension(dir)
      .then((loaded) => lintSources(loaded, store))
      .catch((error: unknown) => {
        if (!(error instanceof UserError)) throw error;
        failures.push(error);
      });
    if (check === undefined) continue;
    findings.push(...check.findings.map(({ rule, level, what, fix, where }) => ({ rule, level, what, fix, where })));
    check.waiting.forEach((rule) => pending.add(rule));
    neighbours.push(check.neighbour);
  }
  findings.push(...lintNeighbours(neighbours).map((finding) => ({ image: 'files/', ...finding })));
  return { findings, pending, failures };
}

/** What `lint` found. */
export interface LintReport {
  readonly findings: readonly ReportedFinding[];
  /** Number of extensions and of images that were checked. */
  readonly extensions: number;
  readonly images: number;
  /** Rules that need a build, sorted; empty if an image was checked. */
  readonly pending: readonly string[];
  /** Why the files of some extensions could not be checked. */
  readonly failures: readonly UserError[];
}

/**
 * Checks image files and extensions (all by default): an extension's sources, the files that it ships, and those images in its dist/ that were
 * built from these sources. With `fix` a program fixes the sources as far as it can.
 */
export async function lint(
  names: readonly string[],
  { fix = false, repository = REPOSITORY }: { fix?: boolean; repository?: string } = {},
): Promise<LintReport> {
  const { images, built, dirs } = await chooseSubjects(names, repository);
  const folders = await lintFolders(dirs, repository, fix);
  const shipped = await lintShipped(dirs);
  const { current, stale } = await sortByAge(built, repository);
  const checked = [...images, ...current];
  return {
    findings: [...folders, ...shipped.findings, ...stale, ...(await lintImages(checked, repository))],
    extensions: dirs.length,
    images: checked.length,
    pending: checked.length > 0 ? [] : [...shipped.pending].toSorted(),
    failures: shipped.failures,
  };
}
