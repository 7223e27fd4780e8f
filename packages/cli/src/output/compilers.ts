import type { CompileEvent } from '@flatcar/core/engine';

/** Milliseconds after which a rate is worth an estimate. */
const MEASURED = 10_000;

/** A duration as people say it: seconds in tens, then minutes. */
function roughly(milliseconds: number): string {
  const seconds = milliseconds / 1000;
  return seconds < 55 ? `${Math.max(Math.round(seconds / 10), 1) * 10} s` : `${Math.round(seconds / 60)} min`;
}

/** How far compilers are, and how long they still take at their rate. */
export class Compilers {
  readonly #now: () => number;
  /** The first event of each: the time, and the number of its package. */
  readonly #begun = new Map<string, { readonly at: number; readonly done: number }>();

  constructor(now: () => number = Date.now) {
    this.#now = now;
  }

  /** What runs: `compiling kubelet: package 431 of 1203, about 4 min left`. */
  status({ what, done, total, unit }: CompileEvent): string {
    const first = this.#begun.get(what) ?? { at: this.#now(), done };
    this.#begun.set(what, first);
    const took = this.#now() - first.at;
    const left = ((total - done) * took) / (done - first.done);
    const estimate = took >= MEASURED && done > first.done && done < total ? `, about ${roughly(left)} left` : '';
    return `compiling ${what}: ${unit === 'packages' ? 'package' : 'crate'} ${done} of ${total}${estimate}`;
  }
}
