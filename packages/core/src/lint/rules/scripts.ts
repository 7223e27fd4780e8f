import { HOST_PROGRAMS } from '../../inspect/flatcar-host.ts';
import { scriptProblem } from '../../inspect/scripts.ts';
import { follower } from './follow.ts';
import type { RuleViolation, LintContext, Rule } from './rule.ts';

/** Tells what is wrong with the program at a path: missing, or not executable (`mode`); undefined if it can be run. */
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
      'the interpreter of every executable script is in the image, in an image that it requires, or on Flatcar, and the kernel can read its first line',
    reason: 'a script whose interpreter is missing fails with "No such file or directory", and Flatcar has no Python and no Perl',
    fix: 'ship the interpreter with its library, write the script for /bin/sh, or chmod 644 a file that is never run directly',
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
