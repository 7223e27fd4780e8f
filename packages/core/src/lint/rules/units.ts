import { basename, matchesGlob } from 'node:path';
import known from '../../model/data/systemd-settings.json' with { type: 'json' };
import { closest } from '../../util/closest.ts';
import { parseUnit, unitLines } from '../../inspect/units.ts';
import { follower } from './follow.ts';
import { HOST_USERS, isHostFile } from '../../inspect/flatcar-host.ts';
import type { RuleViolation, LintContext, Rule } from './rule.ts';
import { programProblem } from './scripts.ts';
import { tmpfilesOf } from './tmpfiles.ts';

// Of confexts too, which have them below etc/; a drop-in may be of all units of a kind (`service.d/`).
const UNIT =
  /^(?:usr\/lib|etc)\/systemd\/(?:system|user)\/((?:.+\.)?(service|socket|timer|path|mount|automount|swap|target|slice|scope))(?:\.d\/[^/]+)?$/;

/** A setting of a unit. */
export interface Setting {
  /** The unit, or its drop-in, in the image. */
  readonly path: string;
  /** Name of the unit, of a drop-in that which it is for. */
  readonly unit: string;
  readonly section: string;
  readonly key: string;
  readonly value: string;
}

/** All settings of all units and drop-ins of an image. */
export const settings = (context: LintContext): Setting[] =>
  [...context.texts].flatMap(([path, text]) => {
    const unit = UNIT.exec(path)?.[1];
    return unit === undefined ? [] : parseUnit(text).map((setting) => ({ path, unit, ...setting }));
  });

/** A command of a unit. */
interface Command extends Setting {
  readonly program: string;
  readonly words: readonly string[];
}

/** All commands of all units (systemd.service(5), COMMAND LINES): a `;` between blanks separates several. */
const commands = (context: LintContext): Command[] =>
  settings(context)
    .filter(({ section, key }) => ['Service', 'Socket'].includes(section) && /^Exec(?:Start|Stop|Reload|Condition)(?:Pre|Post)?$/.test(key))
    .flatMap((setting) =>
      setting.value.split(/\s+;(?=\s|$)/).flatMap((line): Command[] => {
        const match = /^\s*[@\-:+!|]*(?:"([^"]*)"|'([^']*)'|(\S+))(.*)$/.exec(line);
        const program = match?.[1] ?? match?.[2] ?? match?.[3];
        if (match === null || program === undefined || program === '') return [];
        // What has no folder is looked for as the shell does.
        const full = program.includes('/') ? program : `/usr/bin/${program}`;
        return [{ ...setting, program: full, words: (match[4] ?? '').trim().split(/\s+/) }];
      }),
    );

const isTrue = (value: string): boolean => /^(?:1|yes|y|true|t|on)$/i.test(value);

/** Users and groups that sysusers.d of an image makes: the name to the files that say so. */
function declaredUsers({ texts }: LintContext): Map<string, string[]> {
  const declared = new Map<string, string[]>();
  for (const [file, text] of texts) {
    if (!/^(?:usr\/lib|etc)\/sysusers\.d\//.test(file)) continue;
    for (const [, name = ''] of text.matchAll(/^\s*[ug]!?\s+["']?([^\s"']+)/gm)) declared.set(name, [...(declared.get(name) ?? []), file]);
  }
  return declared;
}

/** Who a unit runs as, where that is neither a number, a user of every Flatcar, nor made by systemd itself. */
function usersOf(context: LintContext): (Setting & { name: string })[] {
  const all = settings(context);
  const dynamic = new Set(all.filter(({ key, value }) => key === 'DynamicUser' && isTrue(value)).map(({ unit }) => unit));
  return all
    .filter(
      ({ section, key, unit }) =>
        section !== 'Unit' &&
        ['User', 'Group', 'SupplementaryGroups', 'SocketUser', 'SocketGroup'].includes(key) &&
        (key.startsWith('Socket') || !dynamic.has(unit)),
    )
    .flatMap((setting) => setting.value.split(/\s+/).map((name) => ({ ...setting, name })))
    .filter(({ name }) => name !== '' && !/^\d+$|%/.test(name) && !HOST_USERS.has(name));
}

/** Whether systemd has run sysusers on what the image brings when its units start: where images are merged in the initrd. */
const runsSysusers = ({ target }: LintContext): boolean => target !== undefined && target !== 'portable' && target.mergeStage === 'initrd';

/** Files that tmpfiles.d of an image puts where it says, and what a path of the image is. */
export function isProvided(context: LintContext): (path: string) => boolean {
  const there = new Set(context.entries.filter(({ type }) => type !== 'dir').map(({ path }) => `/${path}`));
  const follow = follower(context.entries);
  const lines = tmpfilesOf(context).filter(({ type }) => 'fFCL'.includes(type));
  const made = lines.flatMap(({ path, argument }) => {
    const source = argument === '' ? `/usr/share/factory${path}` : argument;
    return [path, ...[...there].filter((one) => one.startsWith(`${source}/`)).map((one) => path + one.slice(source.length))];
  });
  const all = new Set([...there, ...made, ...context.beside]);
  return (path) =>
    all.has(path) ||
    all.has(`/${follow(path) ?? ''}`) ||
    isHostFile(path) ||
    (/[*?[]/.test(path) && [...all].some((one) => matchesGlob(one, path)));
}

/** Folders in which systemd and others run every file. */
const PROGRAM_FOLDERS =
  /^(?:usr\/bin|(?:usr\/lib|etc)\/systemd\/(?:system-generators|user-generators|system-environment-generators|user-environment-generators|system-shutdown|system-sleep)|usr\/lib(?:exec)?\/docker\/cli-plugins)\/[^/]+$/;

const SECTION: Readonly<Record<string, string>> = Object.fromEntries(
  Object.keys(known.sections).map((section) => [section.toLowerCase(), section]),
);

/** What systemd would complain of in the text of a unit of a kind, such as `service`: each with the line that it is about. */
function syntaxProblems(text: string, kind: string): { line: string; problem: string }[] {
  const sections: Readonly<Record<string, readonly string[]>> = known.sections;
  const allowed = ['Unit', 'Install', SECTION[kind] ?? ''];
  const like = (word: string, words: readonly string[], form = (one: string): string => one): string => {
    const [similar] = closest(word, words);
    return similar === undefined ? '' : ` (did you mean '${form(similar)}'?)`;
  };
  let section = '';
  return unitLines(text).flatMap((line): { line: string; problem: string }[] => {
    const header = /^\[(.*)\]$/.exec(line)?.[1];
    if (header !== undefined) {
      section = header;
      if (header.startsWith('X-') || allowed.includes(header)) return [];
      return [{ line, problem: `systemd knows no such section in a ${kind} unit${like(header, allowed, (one) => `[${one}]`)}` }];
    }
    if (section.startsWith('X-') || (section !== '' && !allowed.includes(section))) return [];
    const at = line.indexOf('=');
    if (at === -1) return [{ line, problem: 'is neither a section nor a setting' }];
    if (section === '') return [{ line, problem: 'stands before any section' }];
    const key = line.slice(0, at).trim();
    const keys = sections[section] ?? [];
    if (key.startsWith('X-') || keys.includes(key)) return [];
    const home = allowed.find((one) => sections[one]?.includes(key) === true);
    const hint = home === undefined ? like(key, keys) : ` (it belongs to [${home}])`;
    return [{ line, problem: `systemd knows no setting '${key}' in [${section}]${hint}` }];
  });
}

/** Units, and what stands around them. */
export const units: Readonly<Record<string, Rule>> = {
  'unit-syntax': {
    level: 'error',
    checks: 'every section and every setting of a unit or drop-in is one that systemd knows',
    reason: 'systemd passes over what it does not know: the unit is loaded without it, and does something else',
    fix: 'correct the name; what is for others begins with X-. The list is packages/core/src/model/data/systemd-settings.json',
    check: ({ texts }) =>
      [...texts].flatMap(([path, text]) => {
        const kind = UNIT.exec(path)?.[2];
        if (kind === undefined) return [];
        return syntaxProblems(text, kind).map(({ line, problem }): RuleViolation => ({ what: `'${line.slice(0, 80)}': ${problem}`, path }));
      }),
  },
  'exec-path': {
    level: 'error',
    sees: 'whole',
    checks: 'every program that a unit runs is in the image, in one that it requires, or on Flatcar',
    reason: 'a unit whose program is elsewhere fails with status 203/EXEC; the predecessor shipped several',
    fix: "correct the path, or list the extension that brings it under 'requires': programs of the image are in /usr/bin; Flatcar's own are listed in packages/core/src/model/data/flatcar-host.json",
    check: (context) => {
      const problem = programProblem(context);
      return commands(context)
        .filter(({ program }) => problem(program) === 'missing')
        .map(({ path, key, program }): RuleViolation => ({
          what: `${key}= runs '${program}', which is neither in the image, in one that it requires, nor known on Flatcar`,
          path,
          subject: program,
        }));
    },
  },
  'exec-mode': {
    level: 'error',
    checks: 'what units run, what is in usr/bin, and what systemd runs of a folder (generators, shutdown, sleep) can be executed',
    reason: 'a file without the execute bit, or a text without #!, fails with status 203/EXEC',
    fix: 'chmod 755 (git keeps that bit), and begin scripts with #!/bin/sh; what is no program belongs to usr/share',
    check: (context) => {
      const problem = programProblem(context);
      const byPath = new Map(context.entries.map((entry) => [entry.path, entry]));
      const follow = follower(context.entries);
      const run = commands(context).flatMap(({ path, key, program }): RuleViolation[] => {
        const at = follow(program) ?? '';
        const entry = byPath.get(at);
        if (problem(program) === 'mode')
          return [
            {
              what: `${key}= of ${basename(path)} runs '${program}', which has mode ${(entry?.mode ?? 0).toString(8)}`,
              path: at,
              subject: program,
            },
          ];
        const isProgram = entry?.type !== 'file' || context.unread.has(at) || context.elfFiles.has(at) || context.shebangs.has(at);
        return isProgram
          ? []
          : [
              {
                what: `${key}= of ${basename(path)} runs '${program}', which is neither a program nor begins with #!`,
                path: at,
                subject: program,
              },
            ];
      });
      const found = new Set(run.map(({ path }) => path));
      const inFolders = context.entries
        .filter(({ type, path, mode }) => type === 'file' && PROGRAM_FOLDERS.test(path) && (mode & 0o111) === 0 && !found.has(path))
        .map(({ path, mode }): RuleViolation => ({ what: `has mode ${mode.toString(8)}, and everything in this folder is run`, path }));
      return [...run, ...inFolders];
    },
  },
  'environment-file': {
    level: 'error',
    sees: 'whole',
    checks: "every mandatory EnvironmentFile= is in the image, made by its tmpfiles.d, Flatcar's own, or the unit's condition",
    reason: 'a unit whose mandatory EnvironmentFile= is missing does not start',
    fix: "write EnvironmentFile=-/path where the file may be missing, ship it, or start the unit only with it: ConditionPathExists=/path. For a file that another unit writes first waive it: { 'environment-file:/path': 'the reason' }",
    check: (context) => {
      const provided = isProvided(context);
      const all = settings(context);
      const conditions = new Set(
        all
          .filter(({ key }) => /^Condition(?:PathExists|PathExistsGlob|FileNotEmpty)$/.test(key))
          .map(({ unit, value }) => `${unit} ${value}`),
      );
      return all
        .filter(({ key, value }) => key === 'EnvironmentFile' && value !== '' && !value.startsWith('-') && !value.includes('%'))
        .filter(({ unit, value }) => !provided(value) && !conditions.has(`${unit} ${value}`))
        .map(({ path, value }): RuleViolation => ({
          what: `EnvironmentFile=${value} must be there, and nobody ships it`,
          path,
          subject: value,
        }));
    },
  },
  'unit-user': {
    level: 'error',
    sees: 'whole',
    checks: 'the users and groups of every unit exist on Flatcar, or sysusers.d of the image creates them',
    reason: 'a unit whose user does not exist fails at step USER',
    fix: 'create the user in usr/lib/sysusers.d/<extension>.conf and make it by a unit of its own (flatcar-ext explain sysusers-without-unit), or use DynamicUser=yes',
    check: (context) => {
      const declared = declaredUsers(context);
      return usersOf(context)
        .filter(({ name }) => !declared.has(name))
        .map(({ path, key, value, name }): RuleViolation => ({
          what: `${key}=${value} is created nowhere in the image`,
          path,
          subject: name,
        }));
    },
  },
  'sysusers-without-unit': {
    level: 'error',
    sees: 'whole',
    checks: 'a unit of the image makes the users of its sysusers.d, before the units that run as them',
    reason:
      'on releases up to 4593 images are merged after systemd-sysusers.service has run; and systemd looks User= up for every command of a unit, also for ExecStartPre=+systemd-sysusers of the same one',
    fix: 'add a unit with Type=oneshot, RemainAfterExit=yes and ExecStart=/usr/bin/systemd-sysusers <extension>.conf, and write Requires= and After= of it into every unit that has such a user',
    check: (context) => {
      if (runsSysusers(context)) return [];
      const declared = new Map([...declaredUsers(context)].filter(([name]) => !HOST_USERS.has(name)));
      const all = settings(context);
      const users = usersOf(context).filter(({ name }) => declared.has(name));
      const makers = commands(context).filter(({ program }) => basename(program) === 'systemd-sysusers');
      const makes = ({ words }: Command, name: string): boolean => {
        const files = words.filter((word) => word !== '' && !word.startsWith('-'));
        return files.length === 0 || (declared.get(name) ?? []).some((file) => files.some((word) => basename(word) === basename(file)));
      };
      const names = (unit: string, keys: readonly string[]): string[] =>
        all.filter((one) => one.unit === unit && keys.includes(one.key)).flatMap(({ value }) => value.split(/\s+/));
      const isBefore = (maker: string, unit: string): boolean =>
        (names(unit, ['After']).includes(maker) || names(maker, ['Before']).includes(unit)) &&
        (names(unit, ['Requires', 'Wants', 'BindsTo', 'Requisite']).includes(maker) ||
          names(maker, ['RequiredBy', 'WantedBy']).includes(unit));
      const early = users
        .filter(({ unit, name }) => !makers.some((maker) => maker.unit !== unit && makes(maker, name) && isBefore(maker.unit, unit)))
        .map(({ path, key, value, name }): RuleViolation => ({
          what: `${key}=${value} is made by sysusers.d of the image, and by no unit that this one requires and starts after`,
          path,
          subject: name,
        }));
      const told = new Set(users.map(({ name }) => name));
      const unmade = [...declared]
        .filter(([name]) => !told.has(name) && !makers.some((maker) => makes(maker, name)))
        .map(([name, [path]]): RuleViolation => ({ what: `no unit of the image makes '${name}'`, path, subject: name }));
      return [...early, ...unmade];
    },
  },
  'dropin-owner': {
    level: 'error',
    checks: "the names of drop-ins for units that are not of the image begin with the extension's name, after a number at most",
    reason: 'two extensions that bring a drop-in under the same name hide the one of the other, and with it what it starts',
    fix: 'rename it to 10-<extension>-….conf',
    check: ({ name, entries }) => {
      const there = new Set(entries.map(({ path }) => path));
      const isOwn = new RegExp(`^(?:\\d+-)?${RegExp.escape(name)}(?:[-.]|$)`);
      return entries.flatMap(({ type, path }): RuleViolation[] => {
        const match = /^((?:usr\/lib|etc)\/systemd\/(?:system|user))\/([^/]+)\.d\/([^/]+)$/.exec(path);
        const [, folder = '', unit = '', file = ''] = match ?? [];
        if (match === null || type === 'dir' || isOwn.test(file)) return [];
        const template = unit.replace(/@[^.]*\./, '@.');
        if (there.has(`${folder}/${unit}`) || there.has(`${folder}/${template}`)) return [];
        return [{ what: `'${file}' is a name that another extension may have for its drop-in of ${unit}`, path }];
      });
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
        .map(({ path }): RuleViolation => ({ what: 'a drop-in that systemd does not read', path })),
  },
  'wants-link': {
    level: 'error',
    checks: 'no unit is started by a link in .wants or .requires',
    reason: 'systemd does not look at .wants and .requires links when an image is merged on a running system',
    fix: "name the unit under 'start' in extension.ts: it gets an Upholds= drop-in",
    check: ({ entries }) =>
      entries
        .filter(({ path }) => /^(?:usr\/lib|etc)\/systemd\/(?:system|user)\/[^/]+\.(?:wants|requires)\/./.test(path))
        .map(({ path }): RuleViolation => ({ what: 'a link that starts nothing on a live merge', path })),
  },
  'unit-mode': {
    level: 'warning',
    checks: 'no unit file is executable',
    reason: 'systemd complains about units that are executable',
    fix: 'chmod 644',
    check: ({ entries }) =>
      entries
        .filter(({ type, path, mode }) => type === 'file' && UNIT.test(path) && (mode & 0o111) !== 0)
        .map(({ path, mode }): RuleViolation => ({ what: `a unit with mode ${mode.toString(8)}`, path })),
  },
};
