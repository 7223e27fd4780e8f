import { parseUnit } from '../units.ts';
import { HOST_PROGRAMS, HOST_USERS } from './host.ts';
import type { Hit, LintContext, Rule } from './rule.ts';

// Of confexts too, which have them below etc/.
const UNIT = /^(?:usr\/lib|etc)\/systemd\/(?:system|user)\/(.+\.(?:service|socket|timer|path|mount|target|slice)(?:\.d\/[^/]+)?)$/;

interface Setting {
  readonly path: string;
  readonly section: string;
  readonly key: string;
  readonly value: string;
}

const settings = (context: LintContext): Setting[] =>
  [...context.texts]
    .filter(([path]) => UNIT.test(path))
    .flatMap(([path, text]) => parseUnit(text).map((setting) => ({ path, ...setting })));

/** Units, and what stands around them. */
export const units: Readonly<Record<string, Rule>> = {
  'exec-path': {
    level: 'error',
    sees: 'whole',
    checks: 'every program that a unit runs is in the image, in one that it requires, or on Flatcar',
    reason: 'a unit whose program is elsewhere fails with status 203/EXEC; the predecessor shipped several',
    fix: "correct the path, or list the extension that brings it under 'requires': programs of the image are in /usr/bin; Flatcar's own are listed in packages/core/src/data/flatcar-host.json",
    check: (context) => {
      const there = new Set(context.entries.map(({ path }) => `/${path}`));
      return settings(context).flatMap(({ path, section, key, value }) => {
        if (section !== 'Service' || !/^Exec(?:Start|Stop|Reload|Condition)(?:Pre|Post)?$/.test(key)) return [];
        const program = /^[@\-:+!|]*(\S+)/.exec(value)?.[1];
        if (program === undefined || there.has(program) || HOST_PROGRAMS.has(program) || context.beside.has(program)) return [];
        return [{ what: `${key}= runs '${program}', which is neither in the image, in one that it requires, nor known on Flatcar`, path }];
      });
    },
  },
  'unit-user': {
    level: 'error',
    sees: 'whole',
    checks: 'User= and Group= of every unit exist on Flatcar, or sysusers.d of the image creates them',
    reason: 'a unit whose user does not exist fails at step USER',
    fix: 'use DynamicUser=yes, or create the user: usr/lib/sysusers.d/<extension>.conf and <extension>-user.service, which the unit requires (docs/adding-an-extension.md)',
    check: (context) => {
      const declared = new Set(
        [...context.texts]
          .filter(([path]) => path.startsWith('usr/lib/sysusers.d/'))
          .flatMap(([, text]) => [...text.matchAll(/^[ug]!?\s+(\S+)/gm)].map((match) => match[1])),
      );
      const all = settings(context);
      const dynamic = new Set(
        all.filter(({ key, value }) => key === 'DynamicUser' && /^(?:yes|true|1|on)$/i.test(value)).map(({ path }) => path),
      );
      return all.flatMap(({ path, section, key, value }) =>
        section === 'Service' &&
        (key === 'User' || key === 'Group') &&
        value !== '' &&
        value !== '0' &&
        !HOST_USERS.has(value) &&
        !declared.has(value) &&
        !dynamic.has(path)
          ? [{ what: `${key}=${value} is created nowhere in the image`, path }]
          : [],
      );
    },
  },
  'dropin-name': {
    level: 'error',
    checks: 'the name of every drop-in ends in .conf',
    reason: 'systemd reads drop-ins that end in .conf only, and says nothing about the others',
    fix: 'let its name end in .conf',
    check: ({ entries }) =>
      entries
        .filter(
          ({ type, path }) =>
            type === 'file' && /^(?:usr\/lib|etc)\/systemd\/(?:system|user)\/[^/]+\.d\//.test(path) && !path.endsWith('.conf'),
        )
        .map(({ path }): Hit => ({ what: 'a drop-in that systemd does not read', path })),
  },
  'wants-link': {
    level: 'error',
    checks: 'no unit is started by a link in .wants or .requires',
    reason: 'systemd does not look at .wants and .requires links when an image is merged on a running system',
    fix: "name the unit under 'start' in extension.ts: it gets an Upholds= drop-in",
    check: ({ entries }) =>
      entries
        .filter(({ path }) => /^(?:usr\/lib|etc)\/systemd\/(?:system|user)\/[^/]+\.(?:wants|requires)\/./.test(path))
        .map(({ path }): Hit => ({ what: 'a link that starts nothing on a live merge', path })),
  },
  'unit-mode': {
    level: 'warning',
    checks: 'no unit file is executable',
    reason: 'systemd complains about units that are executable',
    fix: 'chmod 644',
    check: ({ entries }) =>
      entries
        .filter(({ type, path, mode }) => type === 'file' && UNIT.test(path) && (mode & 0o111) !== 0)
        .map(({ path, mode }): Hit => ({ what: `a unit with mode ${mode.toString(8)}`, path })),
  },
  'tmpfiles-line': {
    level: 'error',
    checks: 'every line of tmpfiles.d has a type and an absolute path',
    reason: 'systemd-tmpfiles skips a line that it cannot read',
    fix: 'write type and path as in tmpfiles.d(5)',
    check: ({ texts }) =>
      [...texts]
        .filter(([path]) => path.startsWith('usr/lib/tmpfiles.d/'))
        .flatMap(([path, text]) =>
          text
            .split('\n')
            .flatMap((line): Hit[] =>
              /^\s*(?:#|$)/.test(line) || /^[a-zA-Z][-+!=~^$]*\s+["']?\/\S*/.test(line)
                ? []
                : [{ what: `'${line.slice(0, 80)}' is no line of tmpfiles.d`, path }],
            ),
        ),
  },
  'etc-copy': {
    level: 'error',
    sees: 'whole',
    checks: 'a tmpfiles rule copies or links every file below usr/share/<extension>/etc',
    reason: 'what stands in usr/share/<name>/etc reaches /etc only by a tmpfiles rule',
    fix: "add a 'C' line to usr/lib/tmpfiles.d/<extension>.conf",
    check: ({ name, entries, texts }) => {
      const rules = [...texts]
        .filter(([path]) => path.startsWith('usr/lib/tmpfiles.d/'))
        .flatMap(([, text]) => [...text.matchAll(/^[CL][+!=~^$]*\s+(\S+).*?(\S+)\s*$/gm)].map((match) => match[2] ?? ''));
      const folder = `usr/share/${name}/etc/`;
      return entries
        .filter(({ type, path }) => type === 'file' && path.startsWith(folder))
        .filter(({ path }) => !rules.some((source) => `/${path}` === source || `/${path}`.startsWith(`${source.replace(/\/$/, '')}/`)))
        .map(({ path }): Hit => ({ what: 'is copied to /etc by no rule', path }));
    },
  },
};
