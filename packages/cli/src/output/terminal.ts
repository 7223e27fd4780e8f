import { styleText } from 'node:util';
import { print, printJson } from './output.ts';
import { tableRows } from './table.ts';

type Style = Parameters<typeof styleText>[0];

/** Color on terminals only; NO_COLOR is respected. */
export function paint(style: Style, text: string, stream: NodeJS.WriteStream = process.stdout): string {
  return styleText(style, text, { stream });
}

/** A table with aligned columns, as wide as the terminal at most; the first row is its head. */
export function table(cells: readonly (readonly string[])[]): string {
  const [head = '', ...rows] = tableRows(cells, process.stdout.isTTY ? process.stdout.columns : undefined);
  return [paint('bold', head), ...rows].join('\n');
}

/** Prints a value as JSON or as text. */
export function show<T>(value: T, json: boolean | undefined, text: (value: T) => string): void {
  if (json === true) printJson(value);
  else print(text(value));
}
