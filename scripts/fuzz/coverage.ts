// Which blocks of our own code an input reached, by V8's precise coverage (Chrome DevTools Protocol, Profiler).
import { Session, type Profiler } from 'node:inspector';

/** Finds out whether inputs reach blocks that none reached before. */
export class Coverage {
  private readonly session = new Session();
  private readonly seen = new Set<string>();

  constructor() {
    this.session.connect();
    this.session.post('Profiler.enable');
    this.session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: true });
  }

  /** Blocks that were reached since the last call. */
  private reached(): Set<string> {
    let scripts: readonly Profiler.ScriptCoverage[] = [];
    // In the same thread the answer is there when post returns.
    this.session.post('Profiler.takePreciseCoverage', (error, answer) => {
      if (error === null) scripts = answer.result;
    });
    const found = new Set<string>();
    for (const { url, functions } of scripts) {
      if (!url.startsWith('file:') || !url.includes('/packages/')) continue;
      for (const { ranges } of functions)
        for (const { startOffset, endOffset, count } of ranges) if (count > 0) found.add(`${url} ${startOffset} ${endOffset}`);
    }
    return found;
  }

  /** Blocks that were reached since the last call and never before. */
  fresh(): Set<string> {
    const found = this.reached().difference(this.seen);
    for (const block of found) this.seen.add(block);
    return found;
  }

  /**
   * Of inputs that together reached some blocks, those that reach one by themselves, found by halves: a look at coverage takes longer than an
   * input. Each is tried again; the blocks that one reached are removed from `blocks`.
   */
  async choose(inputs: readonly Buffer[], blocks: Set<string>, attempt: (input: Buffer) => Promise<void>): Promise<readonly Buffer[]> {
    if (inputs.length === 0 || blocks.size === 0) return [];
    this.reached();
    for (const input of inputs) await attempt(input);
    const own = this.reached().intersection(blocks);
    if (own.size === 0) return [];
    if (inputs.length === 1) {
      for (const block of own) blocks.delete(block);
      return inputs;
    }
    const half = inputs.length >> 1;
    return [...(await this.choose(inputs.slice(0, half), blocks, attempt)), ...(await this.choose(inputs.slice(half), blocks, attempt))];
  }

  get blocks(): number {
    return this.seen.size;
  }
}
