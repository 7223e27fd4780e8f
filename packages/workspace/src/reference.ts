import { glob, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { UserError } from '@flatcar/core/engine';

/** The generated page, relative to the repository. */
export const REFERENCE = 'docs/definition-reference.md';

/** A key of a definition or of a test. */
export interface ReferenceKey {
  readonly name: string;
  readonly isOptional: boolean;
  /** As TypeScript has it, without `readonly`. */
  readonly type: string;
  /** Markdown. */
  readonly text: string;
  /** The value that an absent key stands for; undefined if there is none. */
  readonly default: string | undefined;
  readonly example: string | undefined;
}

/** An interface that the page documents. */
interface Section {
  /** Folder of its source file, relative to the repository. */
  readonly folder: string;
  readonly interface: string;
  readonly title: string;
  /** Text above the table: the function that makes such an object. */
  readonly intro?: string;
}

/** A part of the page. */
interface Chapter {
  /** Heading and text above the sections; the first chapter has none. */
  readonly title?: string;
  readonly intro?: string;
  readonly sections: readonly Section[];
}

const DEFINITION = 'packages/core/src/definition';
const TESTING = 'packages/testing/src';

const section = (folder: string, name: string, title: string, intro?: string): Section => ({ folder, interface: name, title, intro });

const CHAPTERS: readonly Chapter[] = [
  {
    sections: [
      section(DEFINITION, 'ExtensionDefinition', 'defineExtension'),
      section(
        DEFINITION,
        'RepositoryVersions',
        'Versions of a repository',
        "`github('owner/repo', 'newest', { tagPrefix })` returns one, and `asset(name)` of it returns upstream origins.",
      ),
      section(DEFINITION, 'UrlVersions', 'Versions that a document lists'),
      section(DEFINITION, 'ModuleVersions', 'Versions of a Go module'),
      section(DEFINITION, 'CrateVersions', 'Versions of a crate'),
      section(DEFINITION, 'PackageVersions', 'Versions of a Debian package'),
      section(DEFINITION, 'DateVersions', 'Versions by date'),
      section(
        DEFINITION,
        'Component',
        'Components',
        '`binary(name, version, …origins)` returns a component with one program in `usr/bin`, `programs(name, version, names, …origins)` one with several, and `packaged(name, version, debian(…))` one made of Debian packages.',
      ),
      section(DEFINITION, 'InstallRule', 'Install rules'),
    ],
  },
  {
    title: 'Origins',
    intro: 'Where the files of a component come from. Several may be listed; the first is preferred.',
    sections: [
      section(DEFINITION, 'UpstreamOrigin', 'upstream', '`upstream(url, options)`, or `asset(name, options)` of a GitHub source.'),
      section(DEFINITION, 'GoOrigin', 'go', '`go(module, packages, options)`'),
      section(DEFINITION, 'CargoOrigin', 'cargo', '`cargo(crate, programs, options)`'),
      section(DEFINITION, 'DebianOrigin', 'debian', '`debian(packages, options)`'),
      section(DEFINITION, 'Relocation', 'Relocation of Debian programs'),
      section(DEFINITION, 'SourceOrigin', 'source', '`source(path, script)`'),
      section(DEFINITION, 'FilesOrigin', 'files', 'The `files/` folder of every extension is one. Only shared components list it.'),
    ],
  },
  {
    title: 'Signatures',
    intro:
      'The key `signature` of an upstream origin. Its URLs may contain `{url}` (of the file), `{file}` (its name) and `{checksum}` (URL of the checksums) besides the words of the URL of the file.',
    sections: [section(DEFINITION, 'PgpSignature', 'OpenPGP'), section(DEFINITION, 'SigstoreSignature', 'sigstore')],
  },
  {
    title: 'Tests',
    intro: 'The arguments of the functions of `@flatcar/testing` in `test/extension.test.ts`.',
    sections: [
      section(TESTING, 'ExtensionTest', 'testExtension', '`testExtension(import.meta.dirname, { … })`'),
      section(TESTING, 'Command', 'Commands'),
      section(TESTING, 'MachineTest', 'machine'),
      section(TESTING, 'RelocatedTest', 'testRelocated', '`testRelocated(import.meta.dirname, { … })`'),
      section(TESTING, 'RealUses', 'testRealUse', '`testRealUse(import.meta.dirname, { … })`'),
      section(TESTING, 'RealUse', 'Uses'),
      section(TESTING, 'TlsCheck', 'TLS checks'),
    ],
  },
];

/** All sections of the page. */
export const SECTIONS: readonly Section[] = CHAPTERS.flatMap(({ sections }) => sections);

/** Text of a doc comment, without stars. */
const plain = (comment: string): string =>
  comment
    .replaceAll(/^\s*\/\*\*|\*\/\s*$/g, '')
    .split('\n')
    .map((line) => line.replace(/^\s*\* ?/, '').trim())
    .join(' ')
    .trim();

function keyOf(comment: string, name: string, optional: string, type: string): ReferenceKey {
  const [text = '', ...tags] = plain(comment).split(/\s?@(?=(?:default|example)\b)/);
  const tag = (word: string): string | undefined =>
    tags
      .find((one) => one.startsWith(`${word} `))
      ?.slice(word.length + 1)
      .trim();
  return {
    name: name.replaceAll("'", ''),
    isOptional: optional === '?',
    type: type
      .replaceAll(/\breadonly /g, '')
      .replaceAll(/\bReadonly<(Record<[^<>]*>)>/g, '$1')
      .replaceAll(/\s+/g, ' '),
    text,
    default: tag('default'),
    example: tag('example'),
  };
}

/** Parses the interface of that name in a source text: its doc comment, what it extends, and its keys in their order. */
export function readInterface(source: string, name: string): { text: string; parents: string | undefined; keys: ReferenceKey[] } {
  const found = new RegExp(
    String.raw`((?:/\*\*(?:(?!\*/)[^])*\*/\n)?)export interface ${name}\b(?:<[^{]*?>)?(?: extends ([^{]+?))? \{\n([^]*?)\n\}`,
  ).exec(source);
  if (found === null) throw new UserError(`there is no interface '${name}'`, { next: 'correct the sections of reference.ts' });
  const [, comment = '', parents, body = ''] = found;
  const keys = [
    ...body.matchAll(
      /((?:^ {2}\/\*\*(?:(?!\*\/)[^])*\*\/\n)?)^ {2}readonly ([\w$]+|'[^']+')(\??): ([^]*?);(?=\n {2}(?:\/\*\*|readonly )|(?![^]))/gm,
    ),
  ].map(([, doc = '', key = '', optional = '', type = '']) => keyOf(doc, key, optional, type));
  return { text: plain(comment), parents, keys };
}

/** Source text of the file in a folder that exports an interface. */
async function sourceOf(folder: string, name: string, repository: string): Promise<string> {
  const dir = join(repository, folder);
  for (const file of (await Array.fromAsync(glob('**/*.ts', { cwd: dir }))).toSorted()) {
    const text = await readFile(join(dir, file), 'utf8');
    if (new RegExp(`^export interface ${name}\\b`, 'm').test(text)) return text;
  }
  throw new UserError(`no file exports the interface '${name}'`, { where: dir, next: 'correct the sections of reference.ts' });
}

/** Keys that an interface inherits: all of one in the same file, or those that Pick names. */
async function inherited(source: string, parents: string | undefined, { folder, repository }: InstallRule): Promise<ReferenceKey[]> {
  if (parents === undefined) return [];
  const pick = /^Pick<(\w+), ([^>]+)>$/.exec(parents);
  if (pick === null) return readInterface(source, parents).keys;
  const [, parent = '', listed = ''] = pick;
  const names = new Set([...listed.matchAll(/'([^']+)'/g)].map(([, one = '']) => one));
  return readInterface(await sourceOf(folder, parent, repository), parent).keys.filter(({ name }) => names.has(name));
}

interface InstallRule {
  readonly folder: string;
  readonly repository: string;
}

const cell = (text: string): string => text.replaceAll('|', String.raw`\|`);
/** Code in a table, where a bar needs a backslash, too. */
const code = (text: string | undefined): string => (text === undefined || text === '' ? '' : `\`${cell(text)}\``);

/** A default as code if it is a value, as text if it is a description. */
const defaultText = (value: string | undefined): string =>
  value === undefined ? '' : /^(?:'[^']*'|\d+|0o\d+|true|false|\[\]|\{.*\})$/.test(value) ? code(value) : cell(value);

/** The keys of a section, inherited ones included. */
export async function keysOf({ folder, interface: name }: Section, repository: string): Promise<{ text: string; keys: ReferenceKey[] }> {
  const source = await sourceOf(folder, name, repository);
  const { text, parents, keys } = readInterface(source, name);
  return { text, keys: [...keys, ...(await inherited(source, parents, { folder, repository }))] };
}

const rowOf = ({ name, isOptional, type, text, default: value, example }: ReferenceKey): string =>
  `| \`${name}\`${isOptional ? '' : ' (required)'} | ${code(type)} | ${cell(text)} | ${defaultText(value)} | ${code(example)} |`;

async function sectionText(one: Section, level: string, repository: string): Promise<string> {
  const { text, keys } = await keysOf(one, repository);
  const paragraphs = [`${level} ${one.title}`, text, one.intro ?? ''].filter((paragraph) => paragraph !== '');
  const table = ['| key | type | what | default | example |', '|---|---|---|---|---|', ...keys.map(rowOf)].join('\n');
  return [...paragraphs, table].join('\n\n');
}

async function chapterText({ title, intro = '', sections }: Chapter, repository: string): Promise<string> {
  const head = title === undefined ? [] : [`## ${title}`, intro];
  const level = title === undefined ? '##' : '###';
  return [...head, ...(await Promise.all(sections.map((one) => sectionText(one, level, repository))))].join('\n\n');
}

/** The reference of all keys of definitions and tests, from the doc comments of their types. */
export async function referenceText(repository: string): Promise<string> {
  const chapters = await Promise.all(CHAPTERS.map((chapter) => chapterText(chapter, repository)));
  return `${[
    '# Reference of definitions and tests',
    `<!-- generated by flatcar-ext docs from the doc comments of ${DEFINITION} and ${TESTING}: edits are lost -->`,
    'All keys of `extension.ts` and of `test/extension.test.ts`. Loading a definition checks all of it: an unknown key or an invalid value is an error with its file and line. [Adding an extension](adding-an-extension.md) shows how the keys are used.',
    ...chapters,
  ].join('\n\n')}\n`;
}
