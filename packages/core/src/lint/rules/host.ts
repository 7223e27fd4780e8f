import { HOST_FILES } from '../../inspect/flatcar-host.ts';
import type { Rule } from './rule.ts';

/** What an image does to the files of its host; data/flatcar-host.json says where those are known from. */
export const hostFiles: Readonly<Record<string, Rule>> = {
  'shadows-host': {
    level: 'error',
    checks: "no file hides one of Flatcar's, except for those under 'replaces'",
    reason: "a file of an image hides the host's of the same path, for all programs of the host",
    fix: "put it below usr/lib/<extension>/, or list the path under 'replaces' in extension.ts when that is what the extension is for",
    fixed: "list the path under 'replaces' instead",
    check: ({ entries, replaces }) =>
      entries
        .filter(({ type, path }) => type !== 'dir' && HOST_FILES.has(path) && !replaces.includes(path))
        .map(({ path }) => ({ what: "hides a file of Flatcar's", path })),
  },
  'replaces-nothing': {
    level: 'warning',
    sees: 'whole',
    checks: "every path under 'replaces' is in the image",
    reason: "'replaces' that names what the image does not hold hides the next mistake",
    fix: "take the path out of 'replaces' in extension.ts",
    fixed: "take the path out of 'replaces' instead",
    check: ({ entries, replaces }) => {
      const there = new Set(entries.map(({ path }) => path));
      return replaces
        .filter((path) => !there.has(path))
        .map((path) => ({ what: `'replaces' names '${path}', which is not in the image`, path }));
    },
  },
};
