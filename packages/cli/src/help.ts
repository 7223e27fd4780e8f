import { Help, Option, type Command } from 'commander';

/** Columns of help: fewer on a narrower terminal, never more. */
const WIDTH = 80;
/** Columns of a term (an option, an argument, a command); the description of a longer one begins on the next line. */
const TERM = 24;

/** What the help of a command has below its options. */
export interface HelpText {
  /** Paragraphs, each wrapped to the width of the help. */
  readonly text?: readonly string[];
  /** Environment variables, and what each does. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Command lines, wrapped before options; a line that starts with # is a comment on the next one. */
  readonly examples: readonly string[];
}

/** Columns of help on this terminal, or in a file. */
const helpWidth = (): number => Math.min(process.stdout.columns ?? WIDTH, WIDTH);

/** A command line for a shell, continued by a backslash before an option that does not fit. */
function commandLine(line: string, width: number): string {
  const [first = '', ...rest] = line.split(/ (?=--?[a-z]|[|>] |&& )/);
  const lines = [`  ${first}`];
  for (const part of rest) {
    const last = lines.at(-1) ?? '';
    const fits = last.length + part.length + 3 <= width;
    if (fits) lines[lines.length - 1] = `${last} ${part}`;
    else lines.push(`    ${part}`);
  }
  return lines.join(' \\\n');
}

function belowOptions({ text = [], environment = {}, examples }: HelpText, helper: Help): string {
  const names = Object.keys(environment);
  const termWidth = Math.min(TERM, Math.max(0, ...names.map((name) => name.length)));
  const variables = Object.entries(environment).map(([name, meaning]) => helper.formatItem(name, termWidth, meaning, helper));
  const lines = examples.map((one) => (one.startsWith('#') ? `  ${one}` : commandLine(one, helpWidth())));
  return [
    '',
    ...text.flatMap((paragraph) => [helper.boxWrap(paragraph, helpWidth()), '']),
    ...(variables.length === 0 ? [] : ['Environment:', ...variables, '']),
    'Examples:',
    ...lines,
  ].join('\n');
}

/** Paragraphs, environment variables and examples for addHelpText. */
export const helpText =
  (help: HelpText) =>
  ({ command }: { readonly command: Command }): string => {
    const helper = command.createHelp();
    helper.prepareContext({});
    return belowOptions(help, helper);
  };

/** Adds paragraphs, environment variables and examples to the help of a command. */
export const addHelp = (command: Command, help: HelpText): Command => command.addHelpText('after', helpText(help));

/** The description of an option, with its choices, its default and the variable that sets it. */
function optionDescription({ description, argChoices, mandatory, defaultValue, defaultValueDescription, envVar, negate }: Option): string {
  const byDefault = defaultValueDescription ?? (typeof defaultValue === 'string' ? defaultValue : undefined);
  const facts = [
    ...(mandatory ? ['required'] : []),
    ...(argChoices === undefined ? [] : [`one of ${argChoices.join(', ')}`]),
    ...(byDefault === undefined || negate ? [] : [`default: ${byDefault}`]),
    ...(envVar === undefined ? [] : [`env: ${envVar}`]),
  ];
  return facts.length === 0 ? description : `${description} (${facts.join('; ')})`;
}

/** How help is laid out: a narrow column of terms, so that descriptions have room on a terminal of 80 columns. */
export const helpLayout = (): Partial<Help> => ({
  helpWidth: helpWidth(),
  minWidthToWrap: 20,
  optionDescription,
  visibleOptions(command) {
    const options = Help.prototype.visibleOptions.call(this, command);
    // run.ts reads it.
    return command.parent === null ? [...options, new Option('--version', 'print the version')] : options;
  },
  subcommandTerm: (command) => command.name(),
  padWidth: (command, helper) => Math.min(TERM, Help.prototype.padWidth.call(helper, command, helper)),
  formatItem(term, termWidth, description, helper) {
    const isLong = helper.displayWidth(term) > termWidth && description !== '';
    const item = Help.prototype.formatItem.call(helper, isLong ? '' : term, termWidth, description, helper);
    return isLong ? `  ${term}\n${item}` : item;
  },
});
