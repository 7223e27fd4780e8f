import { FILE_MODE, type NodeConfig, type NodeFile } from './config.ts';

function contentsOf({ contents }: NodeFile): object {
  if ('text' in contents) return { source: `data:,${encodeURIComponent(contents.text)}` };
  if ('base64' in contents) return { source: `data:;base64,${contents.base64}` };
  return { source: contents.source, verification: { hash: `sha512-${contents.sha512}` } };
}

/** A config in Ignition 3.4.0: what Butane compiles `butaneText` to. */
export function ignitionConfig({ files, links, units }: NodeConfig): object {
  return {
    ignition: { version: '3.4.0' },
    storage: {
      files: files.map((file) => ({ path: file.path, mode: FILE_MODE, contents: contentsOf(file) })),
      links: links.map(({ path, target }) => ({ path, target, overwrite: true, hard: false })),
    },
    systemd: units.length === 0 ? undefined : { units },
  };
}
