import { styleText } from 'node:util';
import { type Event, type Report, inLine, oneLine, shownText } from '@flatcar/core/engine';
import { print, printJson, tell } from './output.ts';

type Style = Parameters<typeof styleText>[0];

/** Colour on terminals only; NO_COLOR is respected. */
export function paint(style: Style, text: string, stream: NodeJS.WriteStream = process.stdout): string {
  return styleText(style, text, { stream });
}

/** Bytes as people read them. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB'];
  const power = bytes === 0 ? 0 : Math.min(Math.floor(Math.log2(bytes) / 10), 3);
  return `${(bytes / 1024 ** power).toFixed(power === 0 ? 0 : 1)} ${units[power]}`;
}

/** A table with aligned columns; the first row is its head. A name with a line end in it makes no row of its own. */
export function table(cells: readonly (readonly string[])[]): string {
  const rows = cells.map((row) => row.map((cell) => shownText(inLine(cell), {})));
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => (row[column] ?? '').length)));
  return rows
    .map((row, index) => {
      const line = row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd();
      return index === 0 ? paint('bold', line) : line;
    })
    .join('\n');
}

/** Prints a value as JSON, or as its text: a command computes one value and shows it in one of two ways. */
export function show<T>(value: T, json: boolean | undefined, text: (value: T) => string): void {
  if (json === true) printJson(value);
  else print(text(value));
}

/** Shows events on standard error: one moving line on a terminal, plain lines elsewhere. */
export async function reporter(): Promise<{ report: Report; done: () => void }> {
  const started = Date.now();
  const elapsed = (): string => `${String(Math.floor((Date.now() - started) / 1000)).padStart(4)} s`;
  if (!process.stderr.isTTY) {
    let last = Date.now();
    const report = (event: Event): void => {
      if (event.type === 'step') tell(`${elapsed()}  ${inLine(event.text)}`);
      else if (event.type === 'notice') tell(`${elapsed()}  NOTICE ${inLine(event.text)}`);
      else if (Date.now() - last > 15_000) {
        // A sign of life while something long runs.
        tell(`${elapsed()}  … ${event.type === 'log' ? oneLine(event.line) : `${inLine(event.what)}: ${formatBytes(event.done)}`}`);
      } else return;
      last = Date.now();
    };
    return { report, done: () => undefined };
  }
  const { createLogUpdate } = await import('log-update');
  const live = createLogUpdate(process.stderr);
  let step = '';
  const report = (event: Event): void => {
    if (event.type === 'step') {
      step = oneLine(event.text);
      live.clear();
      tell(`${elapsed()}  ${step}`);
    } else if (event.type === 'notice') {
      live.clear();
      tell(`${elapsed()}  ${paint('yellow', inLine(event.text), process.stderr)}`);
    } else if (event.type === 'progress') {
      live(
        `${elapsed()}  ${oneLine(event.what.split('/').at(-1) ?? '', 80)}: ${formatBytes(event.done)}${event.total === undefined ? '' : ` of ${formatBytes(event.total)}`}`,
      );
    } else {
      live(`${elapsed()}  ${step}: ${oneLine(event.line, 100)}`);
    }
  };
  return { report, done: () => live.clear() };
}
