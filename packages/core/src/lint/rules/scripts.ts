import { basename } from 'node:path';
import { follower } from './follow.ts';
import { HOST_PROGRAMS } from './host.ts';
import type { Hit, LintContext, Rule } from './rule.ts';

/** What the kernel reads of a script's first line, in bytes (BINPRM_BUF_SIZE without the end). */
const LONGEST = 255;

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

/** The program that `env` runs by the words of a first line; undefined where these are none that env takes. */
function programOfEnv(words: readonly string[]): string | undefined {
  const [first = '', ...others] = words;
  const isSplit = /^(?:-[a-zA-Z]*S|--split-string)/.test(first);
  if (!isSplit) return others.length === 0 ? first : undefined;
  const joined = first.replace(/^(?:-[a-zA-Z]*S|--split-string=?)/, '');
  const rest = [...(joined === '' ? [] : [joined]), ...others];
  while (rest.length > 0) {
    const word = rest.shift() ?? '';
    if (/^(?:-u|-C|--unset|--chdir)$/.test(word)) rest.shift();
    else if (!word.startsWith('-') && !/^\w+=/.test(word)) return word;
  }
  return undefined;
}

/** What is wrong with the first line of a script, and what it is about; `problem` is asked for the programs that it names. */
export function scriptProblem(line: string, problem: (program: string) => 'missing' | 'mode' | undefined): Omit<Hit, 'path'> | undefined {
  if (line.includes('\r')) return { what: 'its first line ends in a carriage return (CR), which the kernel takes for a part of the name' };
  if (line.length > LONGEST) return { what: `its first line is ${line.length} bytes long, and the kernel reads ${LONGEST}` };
  const [interpreter, ...words] = line
    .slice(2)
    .trim()
    .split(/[ \t]+/);
  if (interpreter === undefined || interpreter === '') return { what: 'its first line names no interpreter' };
  if (!interpreter.startsWith('/')) return { what: `its interpreter '${interpreter}' is no absolute path`, subject: interpreter };
  const say = (program: string, found: 'missing' | 'mode'): Omit<Hit, 'path'> => ({
    what:
      found === 'mode'
        ? `its interpreter '${program}' is not executable`
        : `its interpreter '${program}' is neither in the image, in one that it requires, nor known on Flatcar`,
    subject: program,
  });
  const found = problem(interpreter);
  if (found !== undefined) return say(interpreter, found);
  if (basename(interpreter) !== 'env' || words.length === 0) return undefined;
  const program = programOfEnv(words);
  if (program === undefined || program === '')
    return { what: `env gets '${words.join(' ')}' as one word: several need -S`, subject: interpreter };
  const candidates = program.includes('/') ? [program] : ['/usr/bin/', '/usr/local/bin/'].map((folder) => folder + program);
  const problems = new Set(candidates.map(problem));
  if (problems.has(undefined)) return undefined;
  return say(program, problems.has('mode') ? 'mode' : 'missing');
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
      return context.entries.flatMap(({ type, path, mode }): Hit[] => {
        const line = context.shebangs.get(path);
        if (type !== 'file' || (mode & 0o111) === 0 || line === undefined) return [];
        const found = scriptProblem(line, problem);
        return found === undefined ? [] : [{ ...found, path }];
      });
    },
  },
};
