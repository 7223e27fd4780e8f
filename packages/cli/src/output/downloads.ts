import type { DownloadEvent } from '@flatcar/core/engine';
import { formatBytes } from '@flatcar/core/engine';

/** The name of a file as its URL ends in it. */
const nameOf = (url: string): string => url.split('/').at(-1) ?? url;

/** Bytes in so many milliseconds, as people read them. */
const rateOf = (bytes: number, took: number): string => `${formatBytes(Math.round((bytes * 1000) / Math.max(took, 1)))}/s`;

/** Downloads that run at the same time or directly after each other, counted together: one line for all of them. */
export class Downloads {
  readonly #now: () => number;
  readonly #running = new Map<string, DownloadEvent>();
  #begun = 0;
  #lastBegun = '';
  #complete: string[] = [];
  /** Bytes of downloads that have ended. */
  #received = 0;
  #since = 0;
  #until = 0;

  constructor(now: () => number = Date.now) {
    this.#now = now;
  }

  add(event: DownloadEvent): void {
    const { state, url, received } = event;
    if (state === 'begun' && this.#begun === 0) this.#since = this.#now();
    if (state === 'begun') {
      this.#begun += 1;
      this.#lastBegun = url;
    }
    if (state === 'begun' || state === 'running') {
      this.#running.set(url, event);
      return;
    }
    this.#running.delete(url);
    this.#received += received;
    this.#until = this.#now();
    if (state === 'complete') this.#complete.push(url);
    else this.#begun -= 1;
  }

  get areRunning(): boolean {
    return this.#running.size > 0;
  }

  /** What runs: `fetching 12 of 45 files: 63.2 MiB, 4.1 MiB/s`; of a single file its name and its size. */
  status(): string {
    const received = [...this.#running.values()].reduce((sum, one) => sum + one.received, this.#received);
    const rate = rateOf(received, this.#now() - this.#since);
    if (this.#begun > 1) return `fetching ${this.#complete.length} of ${this.#begun} files: ${formatBytes(received)}, ${rate}`;
    const total = this.#running.get(this.#lastBegun)?.total;
    const of = total === undefined ? '' : ` of ${formatBytes(total)}`;
    return `fetching ${nameOf(this.#lastBegun)}: ${formatBytes(received)}${of}, ${rate}`;
  }

  /** What was fetched since the last call; undefined if nothing was, or if downloads run. */
  takeSummary(): string | undefined {
    if (this.areRunning) return undefined;
    const [complete, received, took] = [this.#complete, this.#received, this.#until - this.#since];
    [this.#complete, this.#received, this.#begun] = [[], 0, 0];
    const [first] = complete;
    if (first === undefined) return undefined;
    const what = complete.length === 1 ? nameOf(first) : `${complete.length} files`;
    return `fetched ${what}: ${formatBytes(received)}, ${rateOf(received, took)}`;
  }
}
