import { inLine, oneLine, type DownloadEvent, type Event, type Report } from '@flatcar/core/engine';
import { Downloads } from './downloads.ts';
import { tell, verbosity } from './output.ts';
import { paint } from './terminal.ts';

/** Shows events of the pipeline on standard error. */
interface Reporter {
  readonly report: Report;
  /** Ends what is only shown while something runs. */
  readonly done: () => void;
}

/** Seconds between signs of life while something long runs. */
const SIGN_OF_LIFE = 15;

/** Seconds since the command started, as a column. */
function stopwatch(): () => string {
  const started = Date.now();
  return () => `${String(Math.floor((Date.now() - started) / 1000)).padStart(4)} s`;
}

/** A download that a line is written for, besides the line about all of them. */
const isListed = ({ state }: DownloadEvent): boolean => state === 'begun' && verbosity() === 'verbose';

/** Where standard error is not a terminal: a line for each step and for each group of downloads, and a sign of life while something long runs. */
function lineReporter(): Reporter {
  const elapsed = stopwatch();
  const downloads = new Downloads();
  let last = Date.now();
  const line = (text: string): void => {
    tell(`${elapsed()}  ${text}`);
    last = Date.now();
  };
  const isDue = (): boolean => Date.now() - last > SIGN_OF_LIFE * 1000;
  const summarize = (): void => {
    const summary = verbosity() === 'quiet' ? undefined : downloads.takeSummary();
    if (summary !== undefined) line(inLine(summary));
  };
  // A server that sends nothing causes no events.
  const timer = setInterval(() => {
    if (verbosity() !== 'quiet' && downloads.areRunning && isDue()) line(`… ${inLine(downloads.status())}`);
  }, 1000).unref();
  const report = (event: Event): void => {
    if (event.type === 'download') {
      downloads.add(event);
      if (isListed(event)) line(`fetching ${inLine(event.url)}`);
      return;
    }
    if (event.type !== 'log') summarize();
    if (event.type === 'notice') line(`NOTICE ${inLine(event.text)}`);
    else if (verbosity() === 'quiet') return;
    else if (event.type === 'step') line(inLine(event.text));
    else if (isDue() || verbosity() === 'verbose') line(`… ${oneLine(event.line)}`);
  };
  const done = (): void => {
    clearInterval(timer);
    summarize();
  };
  return { report, done };
}

/** On a terminal: steps and groups of downloads, and below them one line that moves. */
async function liveReporter(): Promise<Reporter> {
  const { createLogUpdate } = await import('log-update');
  const live = createLogUpdate(process.stderr);
  const elapsed = stopwatch();
  const downloads = new Downloads();
  let step = '';
  const line = (text: string): void => {
    live.clear();
    tell(`${elapsed()}  ${text}`);
  };
  const summarize = (): void => {
    const summary = verbosity() === 'quiet' ? undefined : downloads.takeSummary();
    if (summary !== undefined) line(oneLine(summary));
  };
  const report = (event: Event): void => {
    if (event.type === 'download') {
      downloads.add(event);
      if (verbosity() === 'quiet') return;
      if (isListed(event)) line(oneLine(`fetching ${event.url}`));
      if (downloads.areRunning) live(`${elapsed()}  ${oneLine(downloads.status(), 100)}`);
      return;
    }
    if (event.type !== 'log') summarize();
    if (event.type === 'notice') line(paint('yellow', inLine(event.text), process.stderr));
    else if (verbosity() === 'quiet') return;
    else if (event.type === 'step') {
      step = oneLine(event.text);
      line(step);
    } else if (verbosity() === 'verbose') line(oneLine(event.line));
    else live(`${elapsed()}  ${step}: ${oneLine(event.line, 100)}`);
  };
  const done = (): void => {
    summarize();
    live.clear();
  };
  return { report, done };
}

/** Shows events on standard error, as much as --quiet and --verbose ask for. */
export async function reporter(): Promise<Reporter> {
  return process.stderr.isTTY ? liveReporter() : lineReporter();
}
