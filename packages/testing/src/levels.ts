import { pathToFileURL } from 'node:url';
import * as vitest from 'vitest';

const isRoot = process.getuid?.() === 0;

/** True in CI, where everything that tests need is available: a missing prerequisite is a failure there, not a skip. `sudo` must keep CI for this. */
export const inCI = (): boolean => (process.env['CI'] ?? '') !== '';

/** Definitions of extensions' tests while they are read instead of run; undefined otherwise. */
let collected: object[] | undefined;

/** Definitions of test files by path: a file that was imported once defines nothing when it is imported again. */
const definitions = new Map<string, Promise<readonly object[]>>();
let last: Promise<unknown> = Promise.resolve();

async function collect(file: string): Promise<readonly object[]> {
  const found: object[] = [];
  collected = found;
  try {
    await import(pathToFileURL(file).href);
  } finally {
    collected = undefined;
  }
  return found;
}

/** Reads what an extension's test file defines instead of running it: its machine tests share a machine with those of others. */
export async function definitionsIn<T extends object>(file: string): Promise<readonly T[]> {
  let reading = definitions.get(file);
  if (reading === undefined) {
    // What is collected is common to the process: one file after the other.
    reading = last.then(() => collect(file));
    last = reading.catch(() => undefined);
    definitions.set(file, reading);
  }
  return (await reading) as readonly T[];
}

/** True while definitions are collected; keeps the definition then. */
export function isCollected(definition: object): boolean {
  collected?.push(definition);
  return collected !== undefined;
}

/** A function of vitest that does nothing while definitions are collected. */
const unlessCollecting = <T extends object>(word: T): T =>
  new Proxy(word, {
    apply: (call, self, args) => (collected === undefined ? (Reflect.apply(call as () => unknown, self, args) as unknown) : undefined),
  });

export const describe = unlessCollecting(vitest.describe);
export const test = unlessCollecting(vitest.test);
export const beforeAll = unlessCollecting(vitest.beforeAll);
export const beforeEach = unlessCollecting(vitest.beforeEach);
export const afterAll = unlessCollecting(vitest.afterAll);
export const afterEach = unlessCollecting(vitest.afterEach);

/** Skips a test that cannot run on this machine, with the reason. */
export type Skip = (why: string) => never;

/** Which runs a test is part of. */
export interface Selected {
  /** True for a test that `npm test` runs: it must end within a minute or two on a machine with an empty store. All others carry the tag `full`. */
  readonly small?: boolean;
}

/** The tag of tests that `npm test` leaves out (vitest.config.ts); a file of plain tests takes it by a line `// @module-tag full`. */
export const FULL = 'full';

/** Registers a test that requires root. Without root it is skipped, with the reason in its name; CI has root, so that its absence is a failure there. */
function rootTest(what: string, name: string, run: (skip: Skip) => Promise<void>, { small = false }: Selected): void {
  if (collected !== undefined) return;
  const options = { tags: small ? [] : [FULL] };
  if (isRoot || inCI()) {
    vitest.test(name, options, async ({ skip }) => {
      if (!isRoot) throw new Error(`${what} tests need root, and CI must have it`);
      await run((why) => {
        console.error(`skipped: ${name}: ${why}`);
        return skip(why);
      });
    });
  } else {
    vitest.test.skip(`${name} (skipped: ${what} tests need root)`, options, () => undefined);
  }
}

/** A test that merges images, which requires root. If another prerequisite is missing, it calls `skip` with the reason. */
export const mergeTest = (name: string, run: (skip: Skip) => Promise<void>, selected: Selected = {}): void =>
  rootTest('merge', name, run, selected);

/** A test that boots a machine: building its operating system requires root. */
export const machineTest = (name: string, run: (skip: Skip) => Promise<void>, selected: Selected = {}): void =>
  rootTest('machine', name, run, selected);
