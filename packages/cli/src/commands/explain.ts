import { ruleOf, RULES } from '@flatcar/core/engine';
import type { Command } from 'commander';
import { addHelp } from '../help.ts';
import { jsonOption } from '../options.ts';
import { show, table } from '../output/terminal.ts';

/** `explain`: what can be reported, out of the table of rules. */
export function addExplain(root: Command): void {
  const command = root
    .command('explain')
    .summary('explain a lint rule, or list all rules')
    .description('explain a lint rule and how to fix its findings; without a rule, list all of them')
    .argument('[rule]', 'name of a rule, such as usr-sbin')
    .addOption(jsonOption())
    .action((id: string | undefined, flags: { json?: boolean }) => {
      const rules = (id === undefined ? Object.keys(RULES).toSorted() : [id]).map((rule) => ({ rule, ...ruleOf(rule) }));
      show(rules, flags.json, (all) =>
        id === undefined
          ? table([['rule', 'level', 'checks'], ...all.map(({ rule, level, checks }) => [rule, level, checks])])
          : all
              .map(({ rule, level, checks, reason, fix, fixed }) =>
                [
                  `${rule} (${level})`,
                  `  checks: ${checks}`,
                  `  why:    ${reason}`,
                  `  fix:    ${fix}`,
                  fixed === undefined
                    ? `  waive:  { '${rule}': 'the reason' } in extension.ts, or of some paths only: { '${rule}:usr/lib/…': 'the reason' }`
                    : `  waive:  not possible: ${fixed}`,
                ].join('\n'),
              )
              .join('\n'),
      );
    });
  addHelp(command, {
    examples: ['flatcar-ext explain', 'flatcar-ext explain usr-sbin'],
  });
}
