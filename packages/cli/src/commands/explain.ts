import { ruleOf, RULES } from '@flatcar/core/engine';
import type { Command } from 'commander';
import { show, table } from '../output/terminal.ts';

/** `explain`: what can be reported, out of the table of rules. */
export function addExplain(root: Command): void {
  root
    .command('explain')
    .description('explain a lint rule and how to fix its findings; without an argument, list all rules')
    .argument('[rule]')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExamples:\n  flatcar-ext explain\n  flatcar-ext explain usr-sbin')
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
}
