import { isLicense } from '@flatcar/core/engine';

/** How `new` gets what it cannot find out: by prompts on a terminal, by proposals in scripts. */
export interface Prompter {
  /** Returns a text. `flag` is the option that sets it without a prompt; `invalid` returns what is wrong with an answer, which is then prompted for again. */
  text(question: string, flag: string, proposed?: string, invalid?: (answer: string) => string | undefined): Promise<string>;
  choose<T>(question: string, options: readonly { readonly value: T; readonly label: string }[]): Promise<T>;
  /** Reports what was found. */
  note(text: string): void;
}

/** What is wrong with an answer that must be a licence; undefined if nothing is. */
export function invalidLicense(answer: string): string | undefined {
  return isLicense(answer) ? undefined : 'It is not a valid SPDX expression, such as Apache-2.0 or MIT OR BSD-3-Clause.';
}

/** Prompts for the one-line summary unless the request has it. */
export function promptSummary(
  { summary }: { readonly summary?: string | undefined },
  prompter: Prompter,
  proposed?: string,
): Promise<string> {
  return summary === undefined ? prompter.text('What is it, in one line?', '--summary', proposed) : Promise.resolve(summary);
}
