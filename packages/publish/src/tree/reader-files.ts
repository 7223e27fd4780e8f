import { toJsonSchema } from '@valibot/to-json-schema';
import { Feed } from 'feed';
import { changesOf } from './changes.ts';
import { ExtensionIndexSchema, IndexSchema, type Change, type ExtensionIndex, type Index } from './schema.ts';

// Files for people and their programs. No client of ours reads them: they follow from the index, and nothing signs them.

/** Name of a feed, at the root of the tree and in the folder of an extension. */
export const FEED = 'feed.atom';

/** An Atom feed (RFC 4287) of changes, newest first. */
function feedText(title: string, home: string, feed: string, changes: readonly Change[]): string {
  const [newest] = changes;
  const document = new Feed({
    id: home,
    title,
    link: home,
    feedLinks: { atom: feed },
    updated: new Date(newest?.date ?? 0),
    generator: 'flatcar-ext',
    author: { name: title },
    copyright: '',
  });
  for (const { date, name, version, withdrawn } of changes) {
    const what = withdrawn === undefined ? 'published' : 'withdrawn';
    document.addItem({
      id: `${home}#/${name}/${version}/${what}`,
      title: `${name} ${version} ${what}`,
      description: withdrawn === undefined ? `${name} ${version} was published` : `${name} ${version} was withdrawn: ${withdrawn}`,
      link: `${home}#/${name}`,
      date: new Date(date),
    });
  }
  return document.atom1();
}

/** The feed of one extension. */
export function extensionFeed(extension: ExtensionIndex, baseUrl: string): Buffer {
  const { name } = extension;
  return Buffer.from(feedText(`Flatcar extension ${name}`, `${baseUrl}/`, `${baseUrl}/${name}/${FEED}`, changesOf(extension)));
}

/** llms.txt (llmstxt.org): what is here, and how programs use it. */
function llmsText({ extensions, baseUrl }: Index): string {
  return [
    '# Flatcar extensions',
    '',
    '> System extension images for Flatcar Container Linux: signed, versioned, for x86-64 and arm64.',
    '',
    'Images are listed by digest in the index of each extension, and these indexes by digest in index.json. Verify who signed the tree before',
    'you use an image: `flatcar-ext show`, `fetch`, `butane` and `mirror` do.',
    '',
    '## Data',
    '',
    `- [Index](${baseUrl}/index.json): extensions, versions, targets, latest changes`,
    `- [JSON Schema of the index](${baseUrl}/index.schema.json)`,
    `- [JSON Schema of the index of an extension](${baseUrl}/extension-index.schema.json)`,
    `- [Feed of changes](${baseUrl}/${FEED}); each extension has one, NAME/${FEED}`,
    '',
    '## Extensions',
    '',
    ...extensions.map(
      ({ name, path, summary, newest }) => `- [${name}](${baseUrl}/${path}): ${summary}; newest version ${newest || 'none'}`,
    ),
    '',
  ].join('\n');
}

const schemaText = (schema: Parameters<typeof toJsonSchema>[0], title: string): string =>
  `${JSON.stringify({ title, ...toJsonSchema(schema, { target: 'draft-2020-12', typeMode: 'input' }) }, undefined, 2)}\n`;

/** The files for readers at the root of a tree. */
export function readerFiles(index: Index): Map<string, Buffer> {
  const { baseUrl, changes } = index;
  const texts = {
    [FEED]: feedText('Flatcar extensions', `${baseUrl}/`, `${baseUrl}/${FEED}`, changes),
    'llms.txt': llmsText(index),
    'index.schema.json': schemaText(IndexSchema, 'index.json of a tree of Flatcar extensions'),
    'extension-index.schema.json': schemaText(ExtensionIndexSchema, 'index of an extension in a tree of Flatcar extensions'),
  };
  return new Map(Object.entries(texts).map(([name, text]) => [name, Buffer.from(text)]));
}
