import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { UserError } from '@flatcar/core/engine';

/** The page that is written, and what it is made of. */
export const REFERENCE = 'docs/definition-reference.md';

/** A key of a definition or of a test. */
export interface ReferenceKey {
  readonly name: string;
  readonly isOptional: boolean;
  /** As TypeScript has it, without `readonly`. */
  readonly type: string;
  /** Markdown. */
  readonly text: string;
  /** What holds where the key is absent; undefined where that means nothing. */
  readonly default: string | undefined;
  readonly example: string | undefined;
}

interface Section {
  readonly file: string;
  /** The interface. */
  readonly name: string;
  readonly title: string;
  /** What stands above the table: how the object is usually made. */
  readonly intro?: string;
}

const CORE = 'packages/core/src/definition/types.ts';
const TESTING = 'packages/testing/src';

const DEFINITION: readonly Section[] = [
  { file: CORE, name: 'ExtensionDefinition', title: 'defineExtension' },
  {
    file: CORE,
    name: 'VersionSource',
    title: 'Version sources',
    intro: "`github('owner/repo', 'newest', { tagPrefix })` makes one, and `asset(name)` of it makes release origins.",
  },
  {
    file: CORE,
    name: 'Component',
    title: 'Components',
    intro:
      '`binary(name, version, …origins)` makes a component of one program in `usr/bin`, `programs(name, version, names, …origins)` one of several, and `packaged(name, version, debian(…))` one of Debian packages.',
  },
  { file: CORE, name: 'Place', title: 'Places' },
];
const ORIGINS: readonly Section[] = [
  {
    file: CORE,
    name: 'ReleaseOrigin',
    title: 'release',
    intro: '`release(url, options)` makes it, or `asset(name, options)` of a GitHub source.',
  },
  { file: CORE, name: 'GoOrigin', title: 'go', intro: '`go(module, packages, options)` makes it.' },
  { file: CORE, name: 'CargoOrigin', title: 'cargo', intro: '`cargo(crate, programs, options)` makes it.' },
  { file: CORE, name: 'DebianOrigin', title: 'debian', intro: '`debian(packages, options)` makes it.' },
  { file: CORE, name: 'SourceOrigin', title: 'source', intro: '`source(path, script)` makes it.' },
  {
    file: CORE,
    name: 'FilesOrigin',
    title: 'files',
    intro: "Every extension's own `files/` folder is one; only shared components write it.",
  },
];
const SIGNATURES: readonly Section[] = [
  { file: CORE, name: 'PgpSignature', title: 'OpenPGP' },
  { file: CORE, name: 'SigstoreSignature', title: 'sigstore' },
];
const TESTS: readonly Section[] = [
  { file: `${TESTING}/extension.ts`, name: 'ExtensionTest', title: 'testExtension', intro: '`testExtension(import.meta.dirname, { … })`' },
  { file: `${TESTING}/extension.ts`, name: 'Command', title: 'Commands' },
  { file: `${TESTING}/machine/extensions.ts`, name: 'MachineTest', title: 'machine' },
  {
    file: `${TESTING}/merge/relocated.ts`,
    name: 'RelocatedTest',
    title: 'testRelocated',
    intro: '`testRelocated(import.meta.dirname, { … })`',
  },
  { file: `${TESTING}/merge/real-use.ts`, name: 'RealUses', title: 'testRealUse', intro: '`testRealUse(import.meta.dirname, { … })`' },
  { file: `${TESTING}/merge/real-use.ts`, name: 'RealUse', title: 'Uses' },
  { file: `${TESTING}/server/tls.ts`, name: 'TlsCheck', title: 'TLS checks' },
];

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

/** The interface of that name in a source text: its doc comment, what it extends, and its keys in their order. */
export function readInterface(source: string, name: string): { text: string; parents: string | undefined; keys: ReferenceKey[] } {
  const found = new RegExp(
    String.raw`((?:/\*\*(?:(?!\*/)[^])*\*/\n)?)export interface ${name}\b(?:<[^{]*?>)?(?: extends ([^{]+?))? \{\n([^]*?)\n\}`,
  ).exec(source);
  if (found === null) throw new UserError(`there is no interface '${name}'`, { next: 'correct the list of sections' });
  const [, comment = '', parents, body = ''] = found;
  const keys = [
    ...body.matchAll(
      /((?:^ {2}\/\*\*(?:(?!\*\/)[^])*\*\/\n)?)^ {2}readonly ([\w$]+|'[^']+')(\??): ([^]*?);(?=\n {2}(?:\/\*\*|readonly )|(?![^]))/gm,
    ),
  ].map(([, doc = '', key = '', optional = '', type = '']) => keyOf(doc, key, optional, type));
  return { text: plain(comment), parents, keys };
}

/** Keys that an interface takes over from others: whole ones of the same file, and by Pick. */
async function inherited(source: string, parents: string | undefined, repository: string): Promise<ReferenceKey[]> {
  if (parents === undefined) return [];
  const pick = /^Pick<(\w+), ([^>]+)>$/.exec(parents);
  if (pick === null) return readInterface(source, parents).keys;
  const names = new Set([...(pick[2] ?? '').matchAll(/'([^']+)'/g)].map(([, one = '']) => one));
  const text = await readFile(join(repository, TESTING, 'extension.ts'), 'utf8');
  return readInterface(text, pick[1] ?? '').keys.filter(({ name }) => names.has(name));
}

const cell = (text: string): string => text.replaceAll('|', String.raw`\|`);
/** Code in a table: a bar in it needs a backslash there, too. */
const code = (text: string | undefined): string => (text === undefined || text === '' ? '' : `\`${cell(text)}\``);

/** A default that is a value is code; one in words is text. */
const defaultText = (value: string | undefined): string =>
  value === undefined ? '' : /^(?:'[^']*'|\d+|0o\d+|true|false|\[\]|\{.*\})$/.test(value) ? code(value) : cell(value);

/** The keys of a section, those that it takes over included. */
export async function keysOf(
  { file, name }: Pick<Section, 'file' | 'name'>,
  repository: string,
): Promise<{ text: string; keys: ReferenceKey[] }> {
  const source = await readFile(join(repository, file), 'utf8');
  const { text, parents, keys } = readInterface(source, name);
  return { text, keys: [...keys, ...(await inherited(source, parents, repository))] };
}

async function sectionText(section: Section, level: string, repository: string): Promise<string> {
  const { text, keys } = await keysOf(section, repository);
  const rows = keys.map(
    (key) =>
      `| \`${key.name}\`${key.isOptional ? '' : ' (required)'} | ${code(key.type)} | ${cell(key.text)} | ${defaultText(key.default)} | ${code(key.example)} |`,
  );
  return [
    `${level} ${section.title}`,
    '',
    ...(text === '' ? [] : [text, '']),
    ...(section.intro === undefined ? [] : [section.intro, '']),
    '| key | type | what | default | example |',
    '|---|---|---|---|---|',
    ...rows,
    '',
  ].join('\n');
}

const sectionsText = async (sections: readonly Section[], level: string, repository: string): Promise<string> =>
  (await Promise.all(sections.map((one) => sectionText(one, level, repository)))).join('\n');

/** All sections of the page. */
export const SECTIONS: readonly Section[] = [...DEFINITION, ...ORIGINS, ...SIGNATURES, ...TESTS];

/** The reference of all keys of definitions and of tests, made of the doc comments of their types. */
export async function referenceText(repository: string): Promise<string> {
  return `${[
    '# Reference of definitions and tests',
    '',
    '<!-- generated by flatcar-ext docs from the doc comments of packages/core/src/definition/types.ts and packages/testing/src: edits are lost -->',
    '',
    'All keys of `extension.ts` and of `extension.test.ts`. A definition is checked whole when it is loaded: an unknown key or a value that is not valid is an error with its file and line. [Adding an extension](adding-an-extension.md) shows how they are used.',
    '',
    await sectionsText(DEFINITION, '##', repository),
    '## Origins',
    '',
    'Where the files of a component come from. Several may be listed; the first is preferred.',
    '',
    await sectionsText(ORIGINS, '###', repository),
    '## Signatures',
    '',
    'What `signature` of a release origin has. In its URLs, `{url}` (of the file), `{file}` (its name) and `{checksum}` (URL of the checksums) are filled in besides the words of the URL of the file.',
    '',
    await sectionsText(SIGNATURES, '###', repository),
    '## Tests',
    '',
    'What the helpers of `@flatcar/testing` are given in `extension.test.ts`.',
    '',
    await sectionsText(TESTS, '###', repository),
  ]
    .join('\n')
    .trimEnd()}\n`;
}
