import { ARCHES, CHANNELS, RULES } from '@flatcar/core/engine';
import type { Argument, Command, Option } from 'commander';

/** What completes the value of an option or an argument: words, the extensions of the checkout, or files. */
export type Values = readonly string[] | 'extensions' | 'files' | 'none';

/** An option as shells complete it. */
export interface OptionWords {
  readonly names: readonly string[];
  readonly description: string;
  /** Undefined for an option without a value. */
  readonly values: Values | undefined;
}

/** A command as shells complete it. */
export interface CommandWords {
  /** Words that lead to it, such as `cache prune`; empty for the program. */
  readonly path: readonly string[];
  readonly description: string;
  readonly options: readonly OptionWords[];
  readonly commands: readonly string[];
  readonly values: Values;
}

/** Words that options without choices take. */
const KNOWN: Readonly<Record<string, readonly string[]>> = {
  '--arch': ARCHES,
  '--release': ['portable', ...CHANNELS],
};

function optionValues({ long, argChoices, required, optional, flags }: Option): Values | undefined {
  if (!required && !optional) return undefined;
  const words = argChoices ?? KNOWN[long ?? ''];
  if (words !== undefined) return words;
  return /<(?:file|dir|where|folder|path)\b|\[folder\]/.test(flags) ? 'files' : 'none';
}

function argumentValues(argument: Argument | undefined, commandName: string): Values {
  if (argument === undefined) return 'none';
  if (argument.argChoices !== undefined) return argument.argChoices;
  const name = argument.name();
  if (name.startsWith('extension') || name === 'names') return 'extensions';
  if (name === 'rule') return Object.keys(RULES).toSorted();
  return commandName === 'new' ? 'none' : 'files';
}

const isHelp = (name: string): boolean => name === 'help';

function wordsOfCommand(command: Command, path: readonly string[]): CommandWords[] {
  const helper = command.createHelp();
  const options = helper.visibleOptions(command).map((option): OptionWords => ({
    names: [option.short, option.long].filter((name) => name !== undefined),
    description: option.description,
    values: optionValues(option),
  }));
  const below = helper.visibleCommands(command).filter((one) => path.length === 0 || !isHelp(one.name()));
  const own: CommandWords = {
    path,
    description: command.summary() || command.description(),
    options,
    commands: below.map((one) => one.name()),
    values: argumentValues(command.registeredArguments[0], command.name()),
  };
  return [own, ...below.flatMap((one) => wordsOfCommand(one, [...path, one.name()]))];
}

/** All commands of the program, with what completes them. */
export const completionWords = (program: Command): CommandWords[] => wordsOfCommand(program, []);
