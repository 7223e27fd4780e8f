import type { ImageEntry } from '../../model/image.ts';
import { follower } from './follow.ts';
import type { RuleViolation, LintContext, Rule } from './rule.ts';
import { programProblem } from './scripts.ts';
import { commands, isProvided, settings, unitFile, type Command } from './unit-settings.ts';

/** Folders in which systemd and other programs run every file. */
const PROGRAM_FOLDERS =
  /^(?:usr\/bin|(?:usr\/lib|etc)\/systemd\/(?:system-generators|user-generators|system-environment-generators|user-environment-generators|system-shutdown|system-sleep)|usr\/lib(?:exec)?\/docker\/cli-plugins)\/[^/]+$/;

/** Units whose program is in the image and cannot be executed. */
function unexecutable(context: LintContext): RuleViolation[] {
  const problem = programProblem(context);
  const byPath = new Map(context.entries.map((entry) => [entry.path, entry]));
  const follow = follower(context.entries);
  const isProgram = (entry: ImageEntry | undefined, path: string): boolean =>
    entry?.type !== 'file' || context.unread.has(path) || context.elfFiles.has(path) || context.shebangs.has(path);
  const problemOf = (command: Command, path: string): string | undefined => {
    const entry = byPath.get(path);
    if (problem(command.program) === 'mode') return `which has mode ${(entry?.mode ?? 0).toString(8)}`;
    return isProgram(entry, path) ? undefined : 'which is not a program and does not begin with #!';
  };
  return commands(context).flatMap((command): RuleViolation[] => {
    const path = follow(command.program) ?? '';
    const why = problemOf(command, path);
    const { key, program } = command;
    return why === undefined ? [] : [{ what: `${key}= of ${unitFile(command)} runs '${program}', ${why}`, path, subject: program }];
  });
}

/** Programs and files that units need. */
export const unitPrograms: Readonly<Record<string, Rule>> = {
  'exec-path': {
    level: 'error',
    sees: 'whole',
    checks: 'every program that a unit runs is in the image, in an image that it requires, or on Flatcar',
    reason: 'a unit whose program is missing fails with status 203/EXEC; the predecessor of this project shipped several',
    fix: "correct the path, or list the extension that ships the program under 'requires'. Programs of the image are in /usr/bin; Flatcar's are listed in packages/core/src/model/data/flatcar-host.json",
    check: (context) => {
      const problem = programProblem(context);
      return commands(context)
        .filter(({ program }) => problem(program) === 'missing')
        .map(({ path, key, program }): RuleViolation => ({
          what: `${key}= runs '${program}', which is not in the image, in an image that it requires, or on Flatcar`,
          path,
          subject: program,
        }));
    },
  },
  'exec-mode': {
    level: 'error',
    checks: 'programs of units, files in usr/bin and files in folders that systemd runs (generators, shutdown, sleep) can be executed',
    reason: 'a file without the execute bit, or a text without #!, fails with status 203/EXEC',
    fix: 'chmod 755 (git keeps that bit), and begin scripts with #!/bin/sh; move files that are not programs to usr/share',
    check: (context) => {
      const run = unexecutable(context);
      const found = new Set(run.map(({ path }) => path));
      const inFolders = context.entries
        .filter(({ type, path, mode }) => type === 'file' && PROGRAM_FOLDERS.test(path) && (mode & 0o111) === 0 && !found.has(path))
        .map(({ path, mode }): RuleViolation => ({ what: `has mode ${mode.toString(8)}, and every file in this folder is run`, path }));
      return [...run, ...inFolders];
    },
  },
  'environment-file': {
    level: 'error',
    sees: 'whole',
    checks: 'every mandatory EnvironmentFile= is in the image, made by its tmpfiles.d, on Flatcar, or a condition of the unit',
    reason: 'a unit whose mandatory EnvironmentFile= is missing does not start',
    fix: "write EnvironmentFile=-/path if the file may be missing, ship the file, or start the unit only with it: ConditionPathExists=/path. If another unit writes the file first, waive the rule: { 'environment-file:/path': 'the reason' }",
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
          what: `EnvironmentFile=${value} is mandatory, and the file is missing`,
          path,
          subject: value,
        }));
    },
  },
};
