import { asUserError, messageOf, UserErrors, inLine, shortened, shownText } from '@flatcar/core/engine';
import { paint } from './terminal.ts';

/** All that an error consists of: UserErrors by their parts, an AggregateError by its errors. */
const partsOf = (error: unknown): readonly unknown[] =>
  error instanceof UserErrors || error instanceof AggregateError ? error.errors : [];

/** The lines of a message: what others wrote may be of any length. */
const messageLines = (text: string): string[] =>
  shortened(
    text
      .split('\n')
      .map((line) => shortened(line, 2000))
      .join('\n'),
    20_000,
  ).split('\n');

function lines(error: unknown, indent: string): string[] {
  const known = error instanceof AggregateError ? undefined : asUserError(error);
  // A message may have lines of others (what a tool printed, a name with a line end): behind a bar none of them passes for ours.
  const say = (what: string, where = '', next = ''): string[] => [
    `${indent}${paint('red', 'error:', process.stderr)} ${messageLines(what).join(`\n${indent}  | `)}`,
    ...(where === '' ? [] : [`${indent}  at: ${inLine(shortened(where, 2000))}`]),
    ...(next === '' ? [] : [`${indent}  do: ${inLine(shortened(next, 2000))}`]),
  ];
  const parts = partsOf(known ?? error).flatMap((one) => lines(one, `${indent}  `));
  if (known !== undefined) return [...say(known.message, known.where, known.next), ...parts];
  if (parts.length > 0) return [...say(messageOf(error) || 'several errors'), ...parts];
  return say(messageOf(error), undefined, 'this should not happen; please report it with the output of --debug');
}

/** An error as text for a person, down to the leaves of what it consists of. Only our own defects ask to be reported. */
export function explanation(error: unknown): string {
  return shownText(lines(error, '').join('\n'));
}
