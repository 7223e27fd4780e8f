import type { RuleViolation, Rule } from './rule.ts';
import { UNIT } from './unit-settings.ts';

/** Files beside units: drop-ins and links. */
export const dropins: Readonly<Record<string, Rule>> = {
  'dropin-owner': {
    level: 'error',
    checks: "the names of drop-ins for units of other images and of Flatcar begin with the extension's name, optionally after a number",
    reason: 'of two drop-ins with the same name from two extensions, systemd reads only one',
    fix: 'rename it to 10-<extension>-….conf',
    check: ({ name, entries }) => {
      const paths = new Set(entries.map(({ path }) => path));
      const isOwn = new RegExp(`^(?:\\d+-)?${RegExp.escape(name)}(?:[-.]|$)`);
      return entries.flatMap(({ type, path }): RuleViolation[] => {
        const match = /^((?:usr\/lib|etc)\/systemd\/(?:system|user))\/([^/]+)\.d\/([^/]+)$/.exec(path);
        const [, folder = '', unit = '', file = ''] = match ?? [];
        if (match === null || type === 'dir' || isOwn.test(file)) return [];
        const template = unit.replace(/@[^.]*\./, '@.');
        if (paths.has(`${folder}/${unit}`) || paths.has(`${folder}/${template}`)) return [];
        return [{ what: `another extension may have a drop-in '${file}' for ${unit}, too`, path }];
      });
    },
  },
  'dropin-name': {
    level: 'error',
    checks: 'the name of every drop-in ends in .conf',
    reason: 'systemd ignores drop-ins with other names, without a message',
    fix: 'rename it so that it ends in .conf',
    check: ({ entries }) =>
      entries
        .filter(
          ({ type, path }) =>
            type === 'file' && /^(?:usr\/lib|etc)\/systemd\/(?:system|user)\/[^/]+\.d\//.test(path) && !path.endsWith('.conf'),
        )
        .map(({ path }): RuleViolation => ({ what: 'systemd does not read this drop-in', path })),
  },
  'wants-link': {
    level: 'error',
    checks: 'no link in .wants or .requires starts a unit',
    reason: 'systemd ignores .wants and .requires links when an image is merged on a running system',
    fix: "list the unit under 'start' in extension.ts: the image then gets an Upholds= drop-in",
    check: ({ entries }) =>
      entries
        .filter(({ path }) => /^(?:usr\/lib|etc)\/systemd\/(?:system|user)\/[^/]+\.(?:wants|requires)\/./.test(path))
        .map(({ path }): RuleViolation => ({ what: 'this link starts nothing when the image is merged on a running system', path })),
  },
  'unit-mode': {
    level: 'warning',
    checks: 'no unit file is executable',
    reason: 'systemd logs a warning for executable units',
    fix: 'chmod 644',
    check: ({ entries }) =>
      entries
        .filter(({ type, path, mode }) => type === 'file' && UNIT.test(path) && (mode & 0o111) !== 0)
        .map(({ path, mode }): RuleViolation => ({ what: `a unit with mode ${mode.toString(8)}`, path })),
  },
};
