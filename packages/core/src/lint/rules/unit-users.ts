import { basename } from 'node:path';
import { HOST_USERS } from '../../inspect/flatcar-host.ts';
import type { RuleViolation, LintContext, Rule } from './rule.ts';
import { commands, declaredUsers, settings, usersOf, type Command } from './unit-settings.ts';

/** True if systemd-sysusers has run on the image before its units start: on releases that merge images in the initrd. */
const runsSysusers = ({ target }: LintContext): boolean => target !== undefined && target !== 'portable' && target.mergeStage === 'initrd';

/** Tells whether a unit runs systemd-sysusers before another one starts, which requires it. */
function ordering(context: LintContext): (maker: string, unit: string) => boolean {
  const all = settings(context);
  const names = (unit: string, keys: readonly string[]): string[] =>
    all.filter((one) => one.unit === unit && keys.includes(one.key)).flatMap(({ value }) => value.split(/\s+/));
  return (maker, unit) =>
    (names(unit, ['After']).includes(maker) || names(maker, ['Before']).includes(unit)) &&
    (names(unit, ['Requires', 'Wants', 'BindsTo', 'Requisite']).includes(maker) || names(maker, ['RequiredBy', 'WantedBy']).includes(unit));
}

/** Users of sysusers.d that no unit creates in time. */
function lateUsers(context: LintContext): RuleViolation[] {
  const declared = new Map([...declaredUsers(context)].filter(([name]) => !HOST_USERS.has(name)));
  const users = usersOf(context).filter(({ name }) => declared.has(name));
  const makers = commands(context).filter(({ program }) => basename(program) === 'systemd-sysusers');
  const makes = ({ words }: Command, name: string): boolean => {
    const files = words.filter((word) => word !== '' && !word.startsWith('-'));
    return files.length === 0 || (declared.get(name) ?? []).some((file) => files.some((word) => basename(word) === basename(file)));
  };
  const isBefore = ordering(context);
  const early = users
    .filter(({ unit, name }) => !makers.some((maker) => maker.unit !== unit && makes(maker, name) && isBefore(maker.unit, unit)))
    .map(({ path, key, value, name }): RuleViolation => ({
      what: `${key}=${value} is declared in sysusers.d of the image, but no unit that this unit requires and starts after creates it`,
      path,
      subject: name,
    }));
  const used = new Set(users.map(({ name }) => name));
  const unmade = [...declared]
    .filter(([name]) => !used.has(name) && !makers.some((maker) => makes(maker, name)))
    .map(([name, [path]]): RuleViolation => ({ what: `no unit of the image creates the user '${name}'`, path, subject: name }));
  return [...early, ...unmade];
}

/** Users and groups of units. */
export const unitUsers: Readonly<Record<string, Rule>> = {
  'unit-user': {
    level: 'error',
    sees: 'whole',
    checks: 'the users and groups of every unit exist on Flatcar, or sysusers.d of the image declares them',
    reason: 'a unit whose user does not exist fails at step USER',
    fix: 'declare the user in usr/lib/sysusers.d/<extension>.conf and create it by a separate unit (flatcar-ext explain sysusers-without-unit), or use DynamicUser=yes',
    check: (context) => {
      const declared = declaredUsers(context);
      return usersOf(context)
        .filter(({ name }) => !declared.has(name))
        .map(({ path, key, value, name }): RuleViolation => ({
          what: `${key}=${value} is not declared in the image`,
          path,
          subject: name,
        }));
    },
  },
  'sysusers-without-unit': {
    level: 'error',
    sees: 'whole',
    checks: 'a unit of the image creates the users of its sysusers.d before units that run as these users start',
    reason:
      'releases up to 4593 merge images after systemd-sysusers.service has run; and systemd looks up User= for every command of a unit, including ExecStartPre=+systemd-sysusers of the same unit',
    fix: 'add a unit with Type=oneshot, RemainAfterExit=yes and ExecStart=/usr/bin/systemd-sysusers <extension>.conf, and add Requires= and After= for it to every unit with such a user',
    check: (context) => (runsSysusers(context) ? [] : lateUsers(context)),
  },
};
