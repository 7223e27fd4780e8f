import { HOST_FILES } from '../../inspect/flatcar-host.ts';
import type { Rule } from './rule.ts';

/** Files of the host that an image hides; data/flatcar-host.json has their source. */
export const hostFiles: Readonly<Record<string, Rule>> = {
  'shadows-host': {
    level: 'error',
    checks: "no file hides a file of Flatcar that is not listed under 'replaces'",
    reason: "a file of an image hides the host's file at the same path from all programs of the host",
    fix: "move it below usr/lib/<extension>/, or list the path under 'replaces' in extension.ts if the extension is meant to replace it",
    fixed: "list the path under 'replaces' instead",
    check: ({ entries, replaces }) =>
      entries
        .filter(({ type, path }) => type !== 'dir' && HOST_FILES.has(path) && !replaces.includes(path))
        .map(({ path }) => ({ what: 'hides a file of Flatcar', path })),
  },
  'replaces-nothing': {
    level: 'warning',
    sees: 'whole',
    checks: "every path under 'replaces' is in the image",
    reason: "an entry of 'replaces' for a path that the image lacks hides the next mistake",
    fix: "remove the path from 'replaces' in extension.ts",
    fixed: "remove the path from 'replaces' instead",
    check: ({ entries, replaces }) => {
      const there = new Set(entries.map(({ path }) => path));
      return replaces
        .filter((path) => !there.has(path))
        .map((path) => ({ what: `'replaces' names '${path}', which is not in the image`, path }));
    },
  },
};
