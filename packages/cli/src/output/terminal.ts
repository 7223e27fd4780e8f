import { styleText } from 'node:util';
import { type Event, type Report, inLine, oneLine } from '@flatcar/core/engine';
import { print, printJson, tell, verbosity } from './output.ts';
import { tableRows } from './table.ts';

type Style = Parameters<typeof styleText>[0];

/** Color on terminals only; NO_COLOR is respected. */
export function paint(style: Style, text: string, stream: NodeJS.WriteStream = process.stdout): string {
  return styleText(style, text, { stream });
}

/** Bytes as people read them. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB'];
  const power = bytes === 0 ? 0 : Math.min(Math.floor(Math.log2(bytes) / 10), 3);
  return `${(bytes / 1024 ** power).toFixed(power === 0 ? 0 : 1)} ${units[power]}`;
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

/** Shows events of the pipeline on standard error. */
interface Reporter {
  readonly report: Report;
  /** Removes what is only shown while something runs. */
  readonly done: () => void;
}

/** Seconds between signs of life while something long runs. */
const SIGN_OF_LIFE = 15;

/** Seconds since the command started, as a column. */
function stopwatch(): () => string {
  const started = Date.now();
  return () => `${String(Math.floor((Date.now() - started) / 1000)).padStart(4)} s`;
}

/** Where standard error is not a terminal: a line for each step, and a sign of life while something long runs. */
function lineReporter(): Reporter {
  const elapsed = stopwatch();
  let last = Date.now();
  const line = (text: string): void => {
    tell(`${elapsed()}  ${text}`);
    last = Date.now();
  };
  const report = (event: Event): void => {
    const isDue = Date.now() - last > SIGN_OF_LIFE * 1000;
    if (event.type === 'notice') line(`NOTICE ${inLine(event.text)}`);
    else if (verbosity() === 'quiet') return;
    else if (event.type === 'step') line(inLine(event.text));
    else if (event.type === 'log' && (isDue || verbosity() === 'verbose')) line(`… ${oneLine(event.line)}`);
    else if (event.type === 'progress' && isDue) line(`… ${inLine(event.what)}: ${formatBytes(event.done)}`);
  };
  return { report, done: () => undefined };
}

/** On a terminal: steps, and below them one line that moves. */
async function liveReporter(): Promise<Reporter> {
  const { createLogUpdate } = await import('log-update');
  const live = createLogUpdate(process.stderr);
  const elapsed = stopwatch();
  let step = '';
  const line = (text: string): void => {
    live.clear();
    tell(`${elapsed()}  ${text}`);
  };
  const report = (event: Event): void => {
    if (event.type === 'notice') line(paint('yellow', inLine(event.text), process.stderr));
    else if (verbosity() === 'quiet') return;
    else if (event.type === 'step') {
      step = oneLine(event.text);
      line(step);
    } else if (event.type === 'progress') {
      const total = event.total === undefined ? '' : ` of ${formatBytes(event.total)}`;
      live(`${elapsed()}  ${oneLine(event.what.split('/').at(-1) ?? '', 80)}: ${formatBytes(event.done)}${total}`);
    } else if (verbosity() === 'verbose') line(oneLine(event.line));
    else live(`${elapsed()}  ${step}: ${oneLine(event.line, 100)}`);
  };
  return { report, done: () => live.clear() };
}

/** Shows events on standard error, as much as --quiet and --verbose ask for. */
export async function reporter(): Promise<Reporter> {
  return process.stderr.isTTY ? liveReporter() : lineReporter();
}
