import { access, readdir, readFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { closest } from '../util/closest.ts';
import { componentSource } from './component-source.ts';
import { DefinitionError, lineOfProblem } from './definition-error.ts';
import type { DefinitionProblem } from './schema-kit.ts';
import { messageOf, UserError } from '../util/errors.ts';
import type { Extension, LoadedExtension } from './types.ts';
import { loadPins, readPins, type Pins } from './pins.ts';
import { newestFirst } from '../model/versions.ts';

/** `file:line` of a file in the first frame of a stack, or of a syntax error. */
function stackPlace(error: unknown, file: string): string {
  const stack = error instanceof Error ? (error.stack ?? '') : '';
  const at = stack.indexOf(file);
  const line = at === -1 ? undefined : /^:(\d+)/.exec(stack.slice(at + file.length).replace(/^\?[^:]*/, ''))?.[1];
  return line === undefined ? file : `${file}:${line}`;
}

/** Names of all extensions of the repository; undefined for a folder elsewhere, as in `new` and tests. */
async function neighbours(dir: string): Promise<string[] | undefined> {
  const folder = dirname(dir);
  if (basename(folder) !== 'extensions') return undefined;
  const names = await readdir(folder);
  const there = await Promise.all(
    names.map((name) =>
      access(join(folder, name, 'extension.ts')).then(
        () => [name],
        () => [],
      ),
    ),
  );
  return there.flat();
}

/** Problems that depend on the folder: a different name, and names of extensions that do not exist. */
async function placementProblems(dir: string, { name, requires, conflicts }: Extension): Promise<DefinitionProblem[]> {
  const all = await neighbours(dir);
  if (all === undefined) return [];
  const problems: DefinitionProblem[] = [];
  if (name !== basename(dir))
    problems.push({
      path: ['name'],
      what: `the name of the extension is '${name}', and that of its folder '${basename(dir)}'`,
      next: 'give both the same name',
      value: name,
    });
  for (const [key, names] of [
    ['requires', requires],
    ['conflicts', conflicts],
  ] as const)
    for (const [index, other] of names.entries())
      if (!all.includes(other)) {
        const [similar] = closest(other, all);
        const next = similar === undefined ? 'flatcar-ext list shows the extensions' : `did you mean '${similar}'?`;
        problems.push({ path: [key, index], what: `there is no extension '${other}'`, next, value: other });
      }
  return problems;
}

/** Versions for which to call `components`: the newest pinned ones, or any. */
async function sampleVersions(dir: string, { coupled, versions }: Extension): Promise<Record<string, string>> {
  const sample = versions.kind === 'date' ? '2026.1.1' : '1.2.3';
  const text = await readFile(join(dir, 'pins.json'), 'utf8').catch(() => '{}');
  let pins: Pins = {};
  try {
    pins = readPins(text, 'pins.json');
  } catch {
    // Problems of the lock are reported when it is read.
  }
  const [newest = sample] = newestFirst(Object.keys(pins));
  return { ...Object.fromEntries(Object.keys(coupled).map((name) => [name, sample])), ...pins[newest]?.coupled, version: newest };
}

/** Calls `components`. Returns the problems of the components. Throws a UserError if the function fails. */
async function componentsProblems(dir: string, file: string, extension: Extension): Promise<DefinitionProblem[]> {
  try {
    extension.components(await sampleVersions(dir, extension));
    return [];
  } catch (error) {
    if (error instanceof DefinitionError) return [...error.problems];
    if (error instanceof UserError) throw error;
    throw new UserError(`components: the function fails: ${messageOf(error)}`, {
      where: stackPlace(error, file),
      next: 'correct it: its argument has the versions by name, such as { version }',
      cause: error,
    });
  }
}

/** Loads `extension.ts` from a folder. Throws a UserError with all its problems, each with its file and line. */
export async function loadDefinition(dir: string): Promise<Extension> {
  const path = resolve(dir);
  const file = join(path, 'extension.ts');
  const located = async (problems: readonly DefinitionProblem[]): Promise<DefinitionError> => {
    const own = { file, text: await readFile(file, 'utf8') };
    const placed = await Promise.all(
      problems.map(async (problem) => {
        const { lock, component = '' } = problem;
        // The definition of a shared component is in its own file.
        const source = (lock === undefined ? undefined : await componentSource(lock, component)) ?? own;
        return { problem, file: source.file, line: lineOfProblem(source.text, problem) };
      }),
    );
    const inOrder = placed.toSorted(
      (a, b) => Number(b.file === file) - Number(a.file === file) || (a.file < b.file ? -1 : a.file > b.file ? 1 : a.line - b.line),
    );
    const places = new Map(inOrder.map((one) => [one.problem, `${one.file}:${one.line}`]));
    return new DefinitionError(
      inOrder.map(({ problem }) => problem),
      (problem) => places.get(problem),
    );
  };
  const loaded = await (import(pathToFileURL(file).href) as Promise<{ default?: Extension }>).catch(async (cause: unknown) => {
    if (cause instanceof DefinitionError) throw await located(cause.problems);
    const where = stackPlace(cause, file);
    if (cause instanceof UserError) throw new UserError(cause.message, { where: cause.where ?? where, next: cause.next, cause });
    throw new UserError(`extension.ts cannot be loaded: ${messageOf(cause)}`, { where, next: 'run tsc -p . for details', cause });
  });
  const extension = loaded.default;
  if (extension === undefined)
    throw new UserError('extension.ts has no default export', { where: file, next: 'write `export default defineExtension({ … })`' });
  const problems = [...(await placementProblems(path, extension)), ...(await componentsProblems(path, file, extension))];
  if (problems.length > 0) throw await located(problems);
  return extension;
}

/** Loads `extension.ts` and `pins.json` (or another pins file) from a folder. */
export async function loadExtension(dir: string, pinsFile?: string): Promise<LoadedExtension> {
  const path = resolve(dir);
  const pins = await loadPins(pinsFile ?? join(path, 'pins.json'));
  return { dir: path, extension: await loadDefinition(path), pins, fixture: pinsFile !== undefined };
}

/** Folders of the extensions in a repository, sorted by name. */
export async function findExtensions(repo: string): Promise<string[]> {
  const root = join(repo, 'extensions');
  const names = await readdir(root).catch((cause: unknown) => {
    throw new UserError('this folder has no extensions', { where: root, cause, next: 'run the command in the repository' });
  });
  const dirs = await Promise.all(
    names.toSorted().map(async (name) => {
      const dir = join(root, name);
      return access(join(dir, 'extension.ts')).then(
        () => [dir],
        () => [],
      );
    }),
  );
  return dirs.flat();
}
