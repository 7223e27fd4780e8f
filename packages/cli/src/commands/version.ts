import type { Command } from 'commander';
import { toolVersion, type ToolVersion } from '@flatcar/workspace/tool-version';
import { addHelp } from '../help.ts';
import { jsonOption, type JsonFlag } from '../options.ts';
import { show } from '../output/terminal.ts';

const text = ({ checkout, commit, date, node }: ToolVersion): string =>
  [
    commit === undefined ? 'flatcar-ext of a checkout without a commit' : `flatcar-ext ${date ?? ''} (commit ${commit})`,
    `Node ${node}, checkout ${checkout}`,
  ].join('\n');

/** `version`: the checkout that this program belongs to. */
export function addVersion(root: Command): void {
  const command = root
    .command('version')
    .summary('print the version')
    .description('print the version: the commit of the checkout that this program belongs to')
    .addOption(jsonOption())
    .action(async (flags: JsonFlag) => show(await toolVersion(), flags.json, text));
  addHelp(command, { examples: ['flatcar-ext version', 'flatcar-ext version --json'] });
}
