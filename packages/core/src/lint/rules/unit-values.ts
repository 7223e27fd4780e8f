import { dirname } from 'node:path';
import known from '../../model/data/systemd-settings.json' with { type: 'json' };
import { closest } from '../../util/closest.ts';
import { follower } from './follow.ts';
import { hostFolders } from '../../inspect/flatcar-host.ts';
import type { RuleViolation, LintContext, Rule } from './rule.ts';
import { tmpfilesOf } from './tmpfiles.ts';
import { isProvided, settings, type Setting } from './unit-settings.ts';

// Values of units' settings. systemd ignores a value that it cannot read, like a setting that it does not know.

/** Units of time (systemd.time(7)); without one a number is in seconds. */
const SPAN =
  /^(?:infinity|(?:\d+(?:\.\d*)?|\.\d+)\s*(?:usec|us|µs|μs|msec|ms|seconds?|sec|s|minutes?|min|months?|M|hours?|hr|h|days?|d|weeks?|w|years?|y|m)?(?:\s*(?:\d+(?:\.\d*)?|\.\d+)\s*(?:usec|us|µs|μs|msec|ms|seconds?|sec|s|minutes?|min|months?|M|hours?|hr|h|days?|d|weeks?|w|years?|y|m)?)*)$/;

/** A number as systemd reads it (safe_atou and its kin): decimal, hexadecimal, octal or binary. */
const UNSIGNED = /^\+?(?:0x[\da-f]+|0o?[0-7]+|0b[01]+|\d+)$/i;

interface Kind {
  readonly reads: (value: string) => boolean;
  readonly what: string;
  /** All values, if there are few: a finding suggests the closest. */
  readonly words?: readonly string[];
}

const oneOf = (...words: readonly string[]): Kind => ({ reads: (value) => words.includes(value), what: words.join(', '), words });
const within = (least: number, most: number): Kind => ({
  reads: (value) => /^[+-]?\d+$/.test(value) && Number(value) >= least && Number(value) <= most,
  what: `a number from ${least} to ${most}`,
});

/** The values of each kind, by systemd's name for the kind (--dump-configuration-items); systemd.service(5), systemd.kill(5). */
const KINDS: Readonly<Record<string, Kind>> = {
  BOOLEAN: { reads: (value) => /^(?:1|yes|y|true|t|on|0|no|n|false|f|off)$/i.test(value), what: 'yes or no' },
  SECONDS: { reads: (value) => SPAN.test(value), what: "a time such as '90', '5min 20s' or 'infinity'" },
  MODE: { reads: (value) => /^[0-7]{1,5}$/.test(value), what: "an octal mode such as '0755'" },
  UNSIGNED: { reads: (value) => UNSIGNED.test(value), what: 'a number' },
  INTEGER: { reads: (value) => /^[+-]?\d+$/.test(value) || UNSIGNED.test(value), what: 'a whole number' },
  NICE: within(-20, 19),
  OOMSCOREADJUST: within(-1000, 1000),
  SIGNAL: {
    reads: (value) => /^(?:SIG)?(?:[A-Z][A-Z0-9]{1,8}|RTM(?:IN|AX)[+-]\d+)$|^\d+$/.test(value),
    what: "a signal such as 'SIGTERM'",
  },
  SERVICETYPE: oneOf('simple', 'exec', 'forking', 'oneshot', 'dbus', 'notify', 'notify-reload', 'idle'),
  SERVICERESTART: oneOf('no', 'on-success', 'on-failure', 'on-abnormal', 'on-watchdog', 'on-abort', 'always'),
  KILLMODE: oneOf('control-group', 'process', 'mixed', 'none'),
};

/** Kinds by `Section.Key`. */
const KIND_OF = new Map(Object.entries(known.values).flatMap(([kind, keys]) => (keys as readonly string[]).map((key) => [key, kind])));

/** What is wrong with a value; undefined for a valid value, and for settings whose values are not checked. */
export function valueProblem({ section, key, value }: Pick<Setting, 'section' | 'key' | 'value'>): string | undefined {
  const kind = KINDS[KIND_OF.get(`${section}.${key}`) ?? ''];
  // An empty value resets a setting, and systemd expands specifiers (%).
  if (kind === undefined || value === '' || value.includes('%') || kind.reads(value)) return undefined;
  const [similar] = closest(value, kind.words ?? []);
  return `is not ${kind.words === undefined ? kind.what : `one of ${kind.what}`}${similar === undefined ? '' : ` (did you mean '${similar}'?)`}`;
}

/** Folders that systemd creates for a unit, by setting (systemd.exec(5)). */
const OWN_FOLDERS: Readonly<Record<string, string>> = {
  StateDirectory: '/var/lib',
  CacheDirectory: '/var/cache',
  LogsDirectory: '/var/log',
  RuntimeDirectory: '/run',
  ConfigurationDirectory: '/etc',
};

/** Paths that must exist when a unit starts: by setting, the paths in its value. A path after `-` may be missing. */
const NEEDED: Readonly<Record<string, (value: string) => readonly string[]>> = {
  WorkingDirectory: (value) => [value],
  RootDirectory: (value) => [value],
  RootImage: (value) => [value],
  // ID:PATH (systemd.exec(5)); a name without a folder is a credential of the machine.
  LoadCredential: (value) => [value.replace(/^[^:]*:?/, '')],
  LoadCredentialEncrypted: (value) => [value.replace(/^[^:]*:?/, '')],
  BindPaths: (value) => value.split(/\s+/).map((one) => one.split(':')[0] ?? ''),
  BindReadOnlyPaths: (value) => value.split(/\s+/).map((one) => one.split(':')[0] ?? ''),
};

/** Folders whose content comes from the kernel, other services or people. */
const ELSEWHERE = /^\/(?:dev|proc|sys|run|tmp|home|root|mnt|media|boot|oem)(?:\/|$)/;

/** Tells whether a path exists when a unit starts: in the image, made by tmpfiles.d or by the unit's folders, on every Flatcar, or a condition. */
function isThere(context: LintContext): (path: string, unit: string) => boolean {
  const provided = isProvided(context);
  const follow = follower(context.entries);
  const all = settings(context);
  const image = new Set(context.entries.flatMap(({ path, type }) => (type === 'dir' ? [path] : [dirname(path)])));
  const made = tmpfilesOf(context)
    .filter(({ type }) => 'dDevqQ'.includes(type))
    .map(({ path }) => path.replace(/\/+$/, ''));
  const ofUnits = new Set(
    all.flatMap(({ unit, key, value }) => {
      const root = OWN_FOLDERS[key];
      const folders = root === undefined ? [] : value.split(/\s+/).map((name) => `${root}/${name.split(':')[0] ?? ''}`);
      const conditions = /^Condition(?:PathExists|PathIsDirectory|DirectoryNotEmpty|FileNotEmpty|PathIsMountPoint)$/.test(key)
        ? [value]
        : [];
      return [...folders, ...conditions, ...(key === 'RequiresMountsFor' ? value.split(/\s+/) : [])].map((path) => `${unit} ${path}`);
    }),
  );
  const folders = [...image].map((path) => `/${path}`);
  const isFolder = (path: string): boolean =>
    [...folders, ...made, ...context.beside, ...hostFolders()].some((one) => one === path || one.startsWith(`${path}/`)) ||
    image.has(follow(path) ?? '');
  return (path, unit) => provided(path) || isFolder(path) || ofUnits.has(`${unit} ${path}`);
}

/** Values of units. */
export const unitValues: Readonly<Record<string, Rule>> = {
  'unit-value': {
    level: 'error',
    checks: 'systemd can read the booleans, times, modes, numbers, signals, Type=, Restart= and KillMode= of units',
    reason: 'systemd ignores a value that it cannot read: the unit is loaded with the default and behaves differently',
    fix: 'correct the value; systemd.service(5), systemd.exec(5) and systemd.time(7) list them',
    check: (context) =>
      settings(context).flatMap(({ path, section, key, value }): RuleViolation[] => {
        const problem = valueProblem({ section, key, value });
        return problem === undefined ? [] : [{ what: `${key}=${value}: the value ${problem}`, path, subject: `${key}=${value}` }];
      }),
  },
  'unit-path': {
    level: 'error',
    sees: 'whole',
    checks:
      'the paths in WorkingDirectory=, RootDirectory=, RootImage=, LoadCredential= and BindPaths= of units are in the image, made by its tmpfiles.d or by the unit, on every Flatcar, or a condition of the unit',
    reason: 'a unit does not start without them (status 200/CHDIR, 226/NAMESPACE, 243/CREDENTIALS)',
    fix: "create the folder by StateDirectory= or tmpfiles.d, write - before a path that may be missing, or start the unit only with it: ConditionPathExists=/path. If another program creates the path first, waive the rule: { 'unit-path:/path': 'the reason' }",
    check: (context) => {
      const there = isThere(context);
      return settings(context).flatMap(({ path, unit, key, value }): RuleViolation[] =>
        (NEEDED[key]?.(value) ?? [])
          .map((one) => (one.length > 1 ? one.replace(/\/+$/, '') : one))
          .filter((one) => one.startsWith('/') && !one.includes('%') && !ELSEWHERE.test(one) && !there(one, unit))
          .map((one) => ({ what: `${key}=${value} needs '${one}', which nothing ships or creates`, path, subject: one })),
      );
    },
  },
};
