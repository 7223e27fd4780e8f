import type { ImageEntry } from '../../model/image.ts';

/** Links in the root of every host (systemd requires a merged /usr). */
const HOST_LINKS: Readonly<Record<string, string>> = {
  bin: 'usr/bin',
  sbin: 'usr/bin',
  lib: 'usr/lib',
  lib64: 'usr/lib64',
  'usr/sbin': 'bin',
};
/** Number of links that the kernel follows (path_resolution(7)). */
const MOST_LINKS = 40;

const parts = (path: string): string[] => path.split('/').filter((part) => part !== '' && part !== '.');

/**
 * Follows the links of an image and of its host in a path, like the kernel. Returns a path without a leading slash, which need not exist; undefined
 * for links in a circle.
 */
export function follower(entries: readonly ImageEntry[]): (path: string) => string | undefined {
  const links = new Map(entries.flatMap(({ type, path, link }) => (type === 'link' && link !== undefined ? [[path, link]] : [])));
  return (path) => {
    const done: string[] = [];
    const rest = parts(path);
    for (let followed = 0; rest.length > 0;) {
      const part = rest.shift() ?? '';
      if (part === '..') {
        done.pop();
        continue;
      }
      const at = [...done, part].join('/');
      const target = links.get(at) ?? HOST_LINKS[at];
      if (target === undefined) {
        done.push(part);
        continue;
      }
      followed += 1;
      if (followed > MOST_LINKS) return undefined;
      if (target.startsWith('/')) done.length = 0;
      rest.unshift(...parts(target));
    }
    return done.join('/');
  };
}
