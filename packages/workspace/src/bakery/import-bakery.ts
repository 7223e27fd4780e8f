import { chmod, lstat, mkdir, readdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import {
  defineExtension,
  DefinitionError,
  markdownText,
  throwIfInterrupted,
  UsageError,
  UserError,
  type Component,
} from '@flatcar/core/engine';
import { code } from '../new/definition-text.ts';
import { formatFile } from '../new/make.ts';
import { packageText } from '../new/package-files.ts';
import { NOT_TRIED } from '../source-lint.ts';
import { readOwnFiles, type ImportedFiles } from './own-files.ts';
import { readRecipe, type ImportedComponent, type Recipe } from './recipe.ts';
import type { Decision } from './trace.ts';

/** What came of one recipe. */
export interface ImportedRecipe {
  readonly name: string;
  /** `written`: a package was written; `exists`: an extension of this name was left as it is; `undecided`: too little could be told. */
  readonly status: 'written' | 'exists' | 'undecided';
  /** The folder of the package. */
  readonly folder?: string;
  /** What a person must decide, each with the file and line. */
  readonly decisions: readonly { readonly where: string; readonly what: string }[];
}

/** Where to read recipes, and where to write packages. */
export interface ImportOptions {
  /** The folder that contains `NAME.sysext/`. */
  readonly bakery: string;
  /** Only these recipes. */
  readonly names: readonly string[];
  /** The folder of extensions. */
  readonly out: string;
}

const RECIPE = /^([a-z0-9][\w.-]*)\.sysext$/;
/** Bytes of a file of the bakery that is read as a whole. */
const MAX_TEXT = 256 << 10;

/** The text of a small file, without following a link; undefined if there is none. */
async function textOf(file: string): Promise<string | undefined> {
  const stat = await lstat(file).catch(() => undefined);
  if (stat === undefined) return undefined;
  if (!stat.isFile() || stat.size > MAX_TEXT)
    throw new UserError('not a small file', { where: file, next: 'recipes are texts; links are not followed' });
  return readFile(file, 'utf8');
}

/** The versions of `release_build_versions.txt` by the name of the extension, without `latest`. */
function builtVersions(text: string): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const line of text.split('\n')) {
    const [name = '', version = ''] = line.replace(/#.*/, '').trim().split(/\s+/);
    if (version !== '' && version !== 'latest') found.set(name, [...(found.get(name) ?? []), version]);
  }
  return found;
}

/** An origin's text, and the builder that it uses. */
function originText({ origin }: ImportedComponent, repo: string | undefined, prefix: string): string {
  const { url, arch, checksum } = origin;
  const base = `https://github.com/${repo ?? ''}/releases/download/${prefix}{version}/`;
  const isAsset = repo !== undefined && url.startsWith(base);
  const options = { arch, checksum: isAsset && checksum === 'github' ? undefined : checksum };
  const rest = Object.values(options).every((one) => one === undefined) ? '' : `, ${code(options)}`;
  return isAsset ? `releases.asset(${code(url.slice(base.length))}${rest})` : `upstream(${code(url)}${rest})`;
}

/** A component's text, by the shortest builder. */
function componentText(component: ImportedComponent, origin: string): string {
  const { name, install } = component;
  const isPrograms = install.every(({ from, to }) => to === 'usr/bin/' && !from.includes('*'));
  const [only] = install;
  if (isPrograms && install.length === 1 && only?.from === name) return `binary(${code(name)}, version, ${origin})`;
  if (isPrograms) return `programs(${code(name)}, version, ${code(install.map(({ from }) => from))}, ${origin})`;
  return `{ name: ${code(name)}, version, origins: [${origin}], install: ${code(install)} }`;
}

const summaryOf = (name: string): string => `${name}, imported from a sysext-bakery`;

/** extension.ts, before oxfmt. */
function definitionText(name: string, { versions, components, packages }: Recipe, start: readonly string[]): string {
  const isGitHub = versions?.kind === 'github';
  const repo = isGitHub ? versions.repo : undefined;
  const prefix = versions?.tagPrefix ?? 'v';
  const list =
    packages === undefined
      ? components.map((one) => componentText(one, originText(one, repo, prefix)))
      : [`packaged(${code(name)}, version, debian(${code(packages.packages)}, { programs: ${code(packages.programs)} }))`];
  const body = list.join(', ');
  const uses = ['binary', 'debian', 'packaged', 'programs', 'upstream'].filter((one) => body.includes(`${one}(`));
  const source =
    packages === undefined
      ? code(versions)
      : code({ kind: 'debian', package: `trixie/main/${packages.packages[0] ?? ''}`, track: 'newest' });
  return [
    `import { ${[...uses, 'defineExtension', ...(isGitHub ? ['github'] : [])].toSorted().join(', ')} } from '@flatcar/core';`,
    '',
    ...(isGitHub
      ? [`const releases = github(${code(versions.repo)}${prefix === 'v' ? '' : `, 'newest', ${code({ tagPrefix: prefix })}`});`, '']
      : []),
    'export default defineExtension({',
    `  name: ${code(name)},`,
    `  summary: ${code(summaryOf(name))},`,
    `  versions: ${isGitHub ? 'releases' : source},`,
    `  components: ({ version }) => [${body}],`,
    ...(start.length === 0 ? [] : [`  start: ${code(start)},`]),
    '});',
    '',
  ].join('\n');
}

/** Programs in usr/bin that the definition names. */
const programsOf = ({ components, packages }: Recipe): string[] =>
  packages === undefined
    ? components.flatMap(({ install }) =>
        install.flatMap(({ from, to }) =>
          from.includes('*')
            ? []
            : (/^usr\/bin\/(.*)$/
                .exec(to)
                ?.slice(1)
                .map((one) => one || from) ?? []),
        ),
      )
    : [...packages.programs];

function testText(recipe: Recipe, start: readonly string[]): string {
  return [
    "import { testExtension } from '@flatcar/testing';",
    '',
    'testExtension(import.meta.dirname, {',
    `  commands: [${programsOf(recipe)
      .map((program) => `{ run: [${code(program)}, '--version'], says: /${NOT_TRIED}/ }`)
      .join(', ')}],`,
    ...(start.length === 0 ? [] : [`  units: ${code(start)},`, `  machine: { active: ${code(start)} },`]),
    '});',
    '',
  ].join('\n');
}

/** What is wrong with the definition that a recipe leads to: the schema of definitions decides, and nothing that was read is run. */
function definitionProblems(name: string, { versions, components, packages }: Recipe, start: readonly string[]): string[] {
  const made = components.map(({ name: component, install, origin }): Component => ({
    name: component,
    version: '1.2.3',
    origins: [origin],
    install,
  }));
  try {
    const extension = defineExtension({
      name,
      summary: summaryOf(name),
      versions: packages === undefined && versions !== undefined ? versions : { kind: 'date', track: 'newest' },
      components: () => made,
      start,
    });
    extension.components({ version: '1.2.3' });
    return [];
  } catch (error) {
    if (!(error instanceof DefinitionError)) throw error;
    return error.message.split('\n');
  }
}

/** Writes a package as a whole or not at all. */
async function writePackage(
  dir: string,
  name: string,
  recipe: Recipe,
  own: ImportedFiles,
  decisions: ImportedRecipe['decisions'],
): Promise<void> {
  const aside = `${dir}.import-${process.pid}`;
  const put = async (path: string, content: string | Buffer, mode = 0o666): Promise<void> => {
    await mkdir(dirname(join(aside, path)), { recursive: true });
    await writeFile(join(aside, path), content, { mode });
  };
  try {
    await put('extension.ts', definitionText(name, recipe, own.start));
    await put('test/extension.test.ts', testText(recipe, own.start));
    await put('package.json', packageText(name));
    const list = decisions.map(({ where, what }) => `- ${markdownText(`${where}: ${what}`)}`);
    await put('README.md', [`# ${name}`, '', `${markdownText(summaryOf(name))}.`, '', '## Left to decide', '', ...list, ''].join('\n'));
    const isRemoved = (path: string): boolean => recipe.removed.some((one) => path === one || path.startsWith(`${one}/`));
    for (const { path, content, isExecutable } of own.files.filter((one) => !isRemoved(one.path))) {
      if (Buffer.isBuffer(content)) await put(`files/${path}`, content, isExecutable ? 0o777 : 0o666);
      else {
        await mkdir(dirname(join(aside, 'files', path)), { recursive: true });
        await symlink(content.link, join(aside, 'files', path));
      }
    }
    for (const { path, target } of recipe.links) {
      await mkdir(dirname(join(aside, 'files', path)), { recursive: true });
      await symlink(target, join(aside, 'files', path));
    }
    for (const file of ['extension.ts', 'test/extension.test.ts']) await formatFile(join(aside, file), join('extensions', name, file));
    await chmod(aside, 0o755);
    await rename(aside, dir);
  } finally {
    await rm(aside, { recursive: true, force: true });
  }
}

/** Decisions that every imported extension leaves. */
const ALWAYS = [
  'write a summary, and pin a version with its license: flatcar-ext pin NAME --license NAME=SPDX',
  'replace the commands of test/extension.test.ts, and boot it: flatcar-ext test NAME',
];

async function importRecipe(folder: string, name: string, built: readonly string[], out: string): Promise<ImportedRecipe> {
  const script = `${name}.sysext/create.sh`;
  const at = ({ line, what }: Decision): { where: string; what: string } => ({
    where: line === 0 ? `${name}.sysext` : `${script}:${line}`,
    what: what.replaceAll(/\s+/g, ' ').slice(0, 400),
  });
  const dir = join(out, name);
  if ((await lstat(dir).catch(() => undefined)) !== undefined) return { name, status: 'exists', folder: dir, decisions: [] };
  let recipe: Recipe;
  let own: ImportedFiles;
  try {
    const text = await textOf(join(folder, 'create.sh'));
    if (text === undefined) throw new UserError('there is no create.sh', { where: script });
    recipe = readRecipe(text, built, script);
    own =
      (await lstat(join(folder, 'files')).catch(() => undefined))?.isDirectory() === true
        ? await readOwnFiles(join(folder, 'files'))
        : { files: [], start: [], decisions: [] };
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    return { name, status: 'undecided', decisions: [{ where: error.where ?? script, what: error.message }] };
  }
  const kept =
    built.length === 0
      ? []
      : [
          {
            line: 0,
            what: `the bakery builds ${built.join(', ')} besides the newest: pin those that are needed, such as flatcar-ext pin ${name}@${built[0]?.replace(/^v/, '') ?? ''}`,
          },
        ];
  const decisions = [...recipe.decisions, ...own.decisions, ...kept].map(at);
  const isEmpty = recipe.packages === undefined && (recipe.components.length === 0 || recipe.versions === undefined);
  const problems = isEmpty ? [] : definitionProblems(name, recipe, own.start);
  if (isEmpty || problems.length > 0)
    return { name, status: 'undecided', decisions: [...decisions, ...problems.map((what) => at({ line: 0, what }))] };
  const all = [...decisions, ...ALWAYS.map((what) => at({ line: 0, what: what.replaceAll('NAME', name) }))];
  await writePackage(dir, name, recipe, own, all);
  return { name, status: 'written', folder: dir, decisions: all };
}

/**
 * Writes extensions from the recipes of a checkout of the sysext-bakery's layout, as far as the recipes can be understood without running them.
 * Throws a UsageError for a folder without recipes, and for names that it does not have.
 */
export async function importBakery({ bakery, names, out }: ImportOptions): Promise<readonly ImportedRecipe[]> {
  const entries = await readdir(bakery, { withFileTypes: true }).catch((cause: unknown) => {
    throw new UsageError('the folder cannot be read', { where: bakery, next: 'pass a checkout with folders NAME.sysext', cause });
  });
  const found = entries.flatMap((entry) => (entry.isDirectory() ? (RECIPE.exec(entry.name)?.[1] ?? []) : [])).toSorted();
  if (found.length === 0)
    throw new UsageError('the folder has no recipe', { where: bakery, next: 'pass a checkout with folders NAME.sysext' });
  const unknown = names.filter((name) => !found.includes(name));
  if (unknown.length > 0)
    throw new UsageError(`there is no recipe '${unknown.join("', '")}'`, { where: bakery, next: `it has ${found.join(', ')}` });
  const built = builtVersions((await textOf(join(bakery, 'release_build_versions.txt'))) ?? '');
  await mkdir(out, { recursive: true });
  const results: ImportedRecipe[] = [];
  for (const name of names.length === 0 ? found : found.filter((one) => names.includes(one))) {
    throwIfInterrupted();
    results.push(await importRecipe(join(bakery, `${basename(name)}.sysext`), name, built.get(name) ?? [], out));
  }
  return results;
}
