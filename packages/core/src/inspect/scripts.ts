import { basename } from 'node:path';

/** Bytes of a script's first line that the kernel reads (BINPRM_BUF_SIZE without the end). */
const LONGEST = 255;

/** The problem of a script, and the program that it is about. */
export interface ScriptProblem {
  readonly what: string;
  readonly subject?: string;
}

/** The program that `env` runs by the words of a first line; undefined for words that env does not take. */
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

/** The problem of the first line of a script. `problem` checks the programs that the line names. */
export function scriptProblem(line: string, problem: (program: string) => 'missing' | 'mode' | undefined): ScriptProblem | undefined {
  if (line.includes('\r')) return { what: 'its first line ends in a carriage return (CR), which the kernel takes as part of the name' };
  if (line.length > LONGEST) return { what: `its first line is ${line.length} bytes long, and the kernel reads ${LONGEST}` };
  const [interpreter, ...words] = line
    .slice(2)
    .trim()
    .split(/[ \t]+/);
  if (interpreter === undefined || interpreter === '') return { what: 'its first line names no interpreter' };
  if (!interpreter.startsWith('/')) return { what: `its interpreter '${interpreter}' is not an absolute path`, subject: interpreter };
  const say = (program: string, found: 'missing' | 'mode'): ScriptProblem => ({
    what:
      found === 'mode'
        ? `its interpreter '${program}' is not executable`
        : `its interpreter '${program}' is not in the image, in an image that it requires, or on Flatcar`,
    subject: program,
  });
  const found = problem(interpreter);
  if (found !== undefined) return say(interpreter, found);
  if (basename(interpreter) !== 'env' || words.length === 0) return undefined;
  const program = programOfEnv(words);
  if (program === undefined || program === '')
    return { what: `env gets '${words.join(' ')}' as one word: use env -S for several`, subject: interpreter };
  const candidates = program.includes('/') ? [program] : ['/usr/bin/', '/usr/local/bin/'].map((folder) => folder + program);
  const problems = new Set(candidates.map(problem));
  if (problems.has(undefined)) return undefined;
  return say(program, problems.has('mode') ? 'mode' : 'missing');
}
