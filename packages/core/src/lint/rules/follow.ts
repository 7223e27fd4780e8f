import type { ImageEntry } from '../../model/image.ts';

/** Links that every host has in its root, whether an image has anything to do with them or not (systemd asks for a merged /usr). */
const HOST_LINKS: Readonly<Record<string, string>> = {
  bin: 'usr/bin',
  sbin: 'usr/bin',
  lib: 'usr/lib',
  lib64: 'usr/lib64',
  'usr/sbin': 'bin',
};
/** As many links as the kernel follows (path_resolution(7)). */
const MOST_LINKS = 40;

const parts = (path: string): string[] => path.split('/').filter((part) => part !== '' && part !== '.');

/**
 * Where a path leads when the links of an image and of its host are followed, as the kernel does: without a leading slash, whether something is
 * there or not. Undefined for links that lead in a circle.
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
