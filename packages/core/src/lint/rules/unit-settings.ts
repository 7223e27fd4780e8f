import { basename, matchesGlob } from 'node:path';
import { HOST_USERS, isHostFile } from '../../inspect/flatcar-host.ts';
import { parseUnit } from '../../inspect/units.ts';
import { follower } from './follow.ts';
import type { LintContext } from './rule.ts';
import { tmpfilesOf } from './tmpfiles.ts';

// What units of an image say, for the rules about them.

/** Units and drop-ins of sysexts and confexts. A drop-in may be for all units of a kind (`service.d/`). */
export const UNIT =
  /^(?:usr\/lib|etc)\/systemd\/(?:system|user)\/((?:.+\.)?(service|socket|timer|path|mount|automount|swap|target|slice|scope))(?:\.d\/[^/]+)?$/;

/** A setting of a unit. */
export interface Setting {
  /** The unit, or its drop-in, in the image. */
  readonly path: string;
  /** Name of the unit; for a drop-in, of the unit that it changes. */
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
export interface Command extends Setting {
  readonly program: string;
  readonly words: readonly string[];
}

/** All commands of all units (systemd.service(5), COMMAND LINES): a `;` between blanks separates several. */
export const commands = (context: LintContext): Command[] =>
  settings(context)
    .filter(({ section, key }) => ['Service', 'Socket'].includes(section) && /^Exec(?:Start|Stop|Reload|Condition)(?:Pre|Post)?$/.test(key))
    .flatMap((setting) =>
      setting.value.split(/\s+;(?=\s|$)/).flatMap((line): Command[] => {
        const match = /^\s*[@\-:+!|]*(?:"([^"]*)"|'([^']*)'|(\S+))(.*)$/.exec(line);
        const program = match?.[1] ?? match?.[2] ?? match?.[3];
        if (match === null || program === undefined || program === '') return [];
        // systemd searches a program without a folder like a shell does.
        const full = program.includes('/') ? program : `/usr/bin/${program}`;
        return [{ ...setting, program: full, words: (match[4] ?? '').trim().split(/\s+/) }];
      }),
    );

const isTrue = (value: string): boolean => /^(?:1|yes|y|true|t|on)$/i.test(value);

/** Users and groups that sysusers.d of an image creates: the name to the files that declare it. */
export function declaredUsers({ texts }: LintContext): Map<string, string[]> {
  const declared = new Map<string, string[]>();
  for (const [file, text] of texts) {
    if (!/^(?:usr\/lib|etc)\/sysusers\.d\//.test(file)) continue;
    for (const [, name = ''] of text.matchAll(/^\s*[ug]!?\s+["']?([^\s"']+)/gm)) declared.set(name, [...(declared.get(name) ?? []), file]);
  }
  return declared;
}

/** Settings that name a user or group which Flatcar lacks and systemd does not create itself. */
export function usersOf(context: LintContext): (Setting & { name: string })[] {
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

/** Tells whether a file exists when a unit starts: in the image or in one that it requires, made by tmpfiles.d, or on every Flatcar. */
export function isProvided(context: LintContext): (path: string) => boolean {
  const files = new Set(context.entries.filter(({ type }) => type !== 'dir').map(({ path }) => `/${path}`));
  const follow = follower(context.entries);
  const lines = tmpfilesOf(context).filter(({ type }) => 'fFCL'.includes(type));
  const made = lines.flatMap(({ path, argument }) => {
    const source = argument === '' ? `/usr/share/factory${path}` : argument;
    return [path, ...[...files].filter((one) => one.startsWith(`${source}/`)).map((one) => path + one.slice(source.length))];
  });
  const all = new Set([...files, ...made, ...context.beside]);
  return (path) =>
    all.has(path) ||
    all.has(`/${follow(path) ?? ''}`) ||
    isHostFile(path) ||
    (/[*?[]/.test(path) && [...all].some((one) => matchesGlob(one, path)));
}

/** The name of the unit or drop-in of a setting, for a person. */
export const unitFile = ({ path }: Setting): string => basename(path);
