import { unitLines } from '../../inspect/units.ts';
import known from '../../model/data/systemd-settings.json' with { type: 'json' };
import { closest } from '../../util/closest.ts';
import type { RuleViolation, Rule } from './rule.ts';
import { UNIT } from './unit-settings.ts';

const SECTION: Readonly<Record<string, string>> = Object.fromEntries(
  Object.keys(known.sections).map((section) => [section.toLowerCase(), section]),
);

interface SyntaxProblem {
  readonly line: string;
  readonly problem: string;
}

/** ` (did you mean 'x'?)` for the closest of some words; empty without one. */
function suggestion(word: string, words: readonly string[], form = (one: string): string => one): string {
  const [similar] = closest(word, words);
  return similar === undefined ? '' : ` (did you mean '${form(similar)}'?)`;
}

/** What is wrong with a line that is not a header, in a section that a unit may have. */
function settingProblem(line: string, section: string, allowed: readonly string[]): string | undefined {
  const sections: Readonly<Record<string, readonly string[]>> = known.sections;
  const at = line.indexOf('=');
  if (at === -1) return 'is not a section or a setting';
  if (section === '') return 'comes before the first section';
  const key = line.slice(0, at).trim();
  const keys = sections[section] ?? [];
  if (key.startsWith('X-') || keys.includes(key)) return undefined;
  const home = allowed.find((one) => sections[one]?.includes(key) === true);
  return `systemd has no setting '${key}' in [${section}]${home === undefined ? suggestion(key, keys) : ` (it belongs to [${home}])`}`;
}

/** The lines that systemd would reject in the text of a unit of a kind, such as `service`. */
function syntaxProblems(text: string, kind: string): SyntaxProblem[] {
  const allowed = ['Unit', 'Install', SECTION[kind] ?? ''];
  let section = '';
  return unitLines(text).flatMap((line): SyntaxProblem[] => {
    const header = /^\[(.*)\]$/.exec(line)?.[1];
    if (header !== undefined) {
      section = header;
      if (header.startsWith('X-') || allowed.includes(header)) return [];
      return [{ line, problem: `systemd has no such section in a ${kind} unit${suggestion(header, allowed, (one) => `[${one}]`)}` }];
    }
    if (section.startsWith('X-') || (section !== '' && !allowed.includes(section))) return [];
    const problem = settingProblem(line, section, allowed);
    return problem === undefined ? [] : [{ line, problem }];
  });
}

/** The syntax of units. */
export const unitSyntax: Readonly<Record<string, Rule>> = {
  'unit-syntax': {
    level: 'error',
    checks: 'systemd knows every section and every setting of a unit or drop-in',
    reason: 'systemd ignores a section or setting that it does not know: the unit is loaded without it and behaves differently',
    fix: 'correct the name; settings for other programs begin with X-. The list is packages/core/src/model/data/systemd-settings.json',
    check: ({ texts }) =>
      [...texts].flatMap(([path, text]) => {
        const kind = UNIT.exec(path)?.[2];
        if (kind === undefined) return [];
        return syntaxProblems(text, kind).map(({ line, problem }): RuleViolation => ({ what: `'${line.slice(0, 80)}': ${problem}`, path }));
      }),
  },
};
