import { join } from 'node:path';
import { Argument, type Command } from 'commander';
import { REPOSITORY } from '@flatcar/workspace/select';
import { completionScript, SHELLS, type Shell } from '../completion/scripts.ts';
import { completionWords } from '../completion/words.ts';
import { addHelp } from '../help.ts';
import { writeRaw } from '../output/output.ts';

/** `completion`: a script that completes commands, options, extensions and rules in a shell. */
export function addCompletion(root: Command): void {
  const command = root
    .command('completion')
    .summary('print a script that completes commands in a shell')
    .description('print a script that completes commands, options, extensions and rules in a shell')
    .addArgument(new Argument('<shell>', SHELLS.join(', ')).choices(SHELLS))
    .action((shell: Shell) => writeRaw(completionScript(shell, completionWords(root), join(REPOSITORY, 'extensions'))));
  addHelp(command, {
    examples: [
      '# in ~/.bashrc',
      'source <(flatcar-ext completion bash)',
      '# in ~/.zshrc, after compinit',
      'source <(flatcar-ext completion zsh)',
      '# in ~/.config/fish/config.fish',
      'flatcar-ext completion fish | source',
    ],
  });
}
