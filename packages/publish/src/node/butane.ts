import { FILE_MODE, type NodeConfig, type NodeFile } from './config.ts';

function contentsOf({ contents }: NodeFile): object {
  if ('text' in contents) return { inline: contents.text };
  if ('base64' in contents) return { source: `data:;base64,${contents.base64}` };
  return { source: contents.source, verification: { hash: `sha512-${contents.sha512}` } };
}

/** What a node config is for and where it comes from: the comment at the top of its Butane. */
export const nodeComment = (words: readonly string[], release: string, { serial, baseUrl }: { serial: number; baseUrl: string }): string =>
  `${words.join(', ')} for Flatcar ${release}, by flatcar-ext butane from index ${serial} of ${baseUrl}`;

/** A config in Butane's variant flatcar 1.1.0 (Ignition 3.4.0, which every release of the catalogue reads), with a comment at its top. */
export async function butaneText({ files, links, units }: NodeConfig, comment: string): Promise<string> {
  const { Document, Scalar } = await import('yaml');
  const mode = new Scalar(FILE_MODE);
  mode.format = 'OCT';
  const config = {
    variant: 'flatcar',
    version: '1.1.0',
    storage: {
      files: files.map((file) => ({ path: file.path, mode, contents: contentsOf(file) })),
      links: links.map(({ path, target }) => ({ path, target, overwrite: true, hard: false })),
    },
    systemd: units.length === 0 ? undefined : { units },
  };
  // Butane reads YAML 1.1, in which 0644 is octal. Aliases would hide the modes.
  const document = new Document(config, { schema: 'yaml-1.1', aliasDuplicateObjects: false });
  document.commentBefore = ` ${comment}`;
  return document.toString({ lineWidth: 0 });
}
