import { HOST_PROGRAMS } from '../../inspect/flatcar-host.ts';
import { scriptProblem } from '../../inspect/scripts.ts';
import { follower } from './follow.ts';
import type { RuleViolation, LintContext, Rule } from './rule.ts';

/** Whether a program that is named by its path is there and can be run; else what is wrong with it. */
export function programProblem(context: LintContext): (program: string) => 'missing' | 'mode' | undefined {
  const byPath = new Map(context.entries.map((entry) => [entry.path, entry]));
  const follow = follower(context.entries);
  return (program) => {
    const at = follow(program);
    const entry = at === undefined ? undefined : byPath.get(at);
    if (entry?.type === 'file') return (entry.mode & 0o111) === 0 ? 'mode' : undefined;
    const isThere = [program, `/${at ?? ''}`].some((one) => HOST_PROGRAMS.has(one) || context.beside.has(one));
    return isThere ? undefined : 'missing';
  };
}

/** Scripts. */
export const scripts: Readonly<Record<string, Rule>> = {
  'script-interpreter': {
    level: 'error',
    sees: 'whole',
    checks:
      'the interpreter of every executable script is in the image, in one that it requires, or on Flatcar, and its first line can be read by the kernel',
    reason: 'a script whose interpreter is missing fails with "No such file or directory", and Flatcar has neither Python nor Perl',
    fix: 'ship the interpreter with its library, write the script for /bin/sh, or chmod 644 what is never run by itself',
    check: (context) => {
      const problem = programProblem(context);
      return context.entries.flatMap(({ type, path, mode }): RuleViolation[] => {
        const line = context.shebangs.get(path);
        if (type !== 'file' || (mode & 0o111) === 0 || line === undefined) return [];
        const found = scriptProblem(line, problem);
        return found === undefined ? [] : [{ ...found, path }];
      });
    },
  },
};
