import { inLine, oneLine, type DownloadEvent, type Event, type Report } from '@flatcar/core/engine';
import { Compilers } from './compilers.ts';
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

/** What runs now, in one line: downloads, how far a compiler is, what a tool printed last, or the last step. */
class Status {
  readonly downloads = new Downloads();
  readonly #compilers = new Compilers();
  #step = '';
  #text = '';

  add(event: Exclude<Event, { type: 'notice' }>): void {
    if (event.type === 'download') this.downloads.add(event);
    else if (event.type === 'step') this.#text = this.#step = inLine(event.text);
    else this.#text = event.type === 'log' ? `${this.#step}: ${oneLine(event.line, 100)}` : inLine(this.#compilers.status(event));
  }

  get text(): string {
    return this.downloads.areRunning ? inLine(this.downloads.status()) : this.#text;
  }
}

/** Calls a function every second from `start` until `stop`: what runs may cause no event, such as a linker or a server that sends nothing. */
function everySecond(call: () => void): { readonly start: () => void; readonly stop: () => void } {
  let timer: NodeJS.Timeout | undefined;
  return {
    start: () => {
      timer ??= setInterval(call, 1000).unref();
    },
    stop: () => {
      clearInterval(timer);
      timer = undefined;
    },
  };
}

/** Passes events to a line writer: a line for each step and each group of downloads, with --verbose for each URL and each line of a tool too. */
function lines(status: Status, line: (text: string) => void): { readonly report: Report; readonly summarize: () => void } {
  const summarize = (): void => {
    const summary = verbosity() === 'quiet' ? undefined : status.downloads.takeSummary();
    if (summary !== undefined) line(inLine(summary));
  };
  const report = (event: Event): void => {
    if (event.type === 'step' || event.type === 'notice') summarize();
    if (event.type === 'notice') return;
    status.add(event);
    if (verbosity() === 'quiet') return;
    if (event.type === 'step') line(inLine(event.text));
    else if (event.type === 'download' && isListed(event)) line(`fetching ${inLine(event.url)}`);
    else if ('line' in event && verbosity() === 'verbose') line(`… ${oneLine(event.line)}`);
  };
  return { report, summarize };
}

/** Where standard error is not a terminal: lines, and a sign of life while something long runs. */
function lineReporter(): Reporter {
  const elapsed = stopwatch();
  const status = new Status();
  let last = Date.now();
  const line = (text: string): void => {
    tell(`${elapsed()}  ${text}`);
    last = Date.now();
  };
  const { report, summarize } = lines(status, line);
  const { start, stop } = everySecond(() => {
    if (Date.now() - last >= SIGN_OF_LIFE * 1000) line(`… ${status.text}`);
  });
  return {
    report: (event) => {
      report(event);
      if (event.type === 'notice') line(`NOTICE ${inLine(event.text)}`);
      else if (verbosity() !== 'quiet') start();
    },
    done: () => {
      stop();
      summarize();
    },
  };
}

/** On a terminal: lines, and below them one that moves. */
async function liveReporter(): Promise<Reporter> {
  const { createLogUpdate } = await import('log-update');
  const live = createLogUpdate(process.stderr);
  const elapsed = stopwatch();
  const status = new Status();
  const line = (text: string): void => {
    live.clear();
    tell(`${elapsed()}  ${text}`);
  };
  const draw = (): void => live(`${elapsed()}  … ${oneLine(status.text)}`);
  const { report, summarize } = lines(status, line);
  const { start, stop } = everySecond(draw);
  return {
    report: (event) => {
      report(event);
      if (event.type === 'notice') return line(paint('yellow', inLine(event.text), process.stderr));
      if (verbosity() === 'quiet') return;
      start();
      if (event.type !== 'step') draw();
    },
    done: () => {
      stop();
      summarize();
      live.clear();
    },
  };
}

/** Shows events on standard error, as much as --quiet and --verbose ask for. */
export async function reporter(): Promise<Reporter> {
  return process.stderr.isTTY ? liveReporter() : lineReporter();
}
