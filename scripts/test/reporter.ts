// What scripts/test/test.ts needs to know of a run of vitest, and a line from time to time while nothing else is printed.
import { writeFileSync } from 'node:fs';
import type { Reporter, TestCase, TestModule } from 'vitest/node';

/** Names the file that the report goes to. */
export const REPORT = 'FLATCAR_EXT_TEST_REPORT';

/** One test that ran, failed or was skipped with a reason. */
export interface Reported {
  readonly project: string;
  readonly name: string;
  readonly seconds: number;
}

/** The result of a run of vitest. */
export interface Report {
  readonly passed: number;
  readonly failed: readonly Reported[];
  readonly skipped: readonly (Reported & { readonly why: string })[];
  /** How many tests the tags left out, by project. */
  readonly leftOut: Readonly<Record<string, number>>;
  /** The slowest tests, slowest first. */
  readonly slowest: readonly Reported[];
  /** Wall time of each project, from its first file to the end of its last, in seconds. */
  readonly projects: Readonly<Record<string, number>>;
}

/** Milliseconds without output after which the running tests are named. */
const QUIET = 30_000;

const reported = (test: TestCase): Reported => ({
  project: test.project.name,
  name: `${test.module.relativeModuleId} › ${test.fullName}`,
  seconds: (test.diagnostic()?.duration ?? 0) / 1000,
});

/** True if a file could not be loaded or a hook around a test failed: that failure counts instead of the tests that did not run. */
function isBlocked({ parent }: TestCase): boolean {
  for (let around = parent; ; around = around.parent) {
    if (around.errors().length > 0) return true;
    if (around.type === 'module') return false;
  }
}

/** Why a test was skipped: what it gave to `skip`, or what its name says. */
function reasonOf(test: TestCase): string | undefined {
  const result = test.result();
  const note = result.state === 'skipped' ? result.note : undefined;
  return note ?? /\(skipped: (.*)\)$/.exec(test.name)?.[1];
}

export default class implements Reporter {
  readonly #running = new Map<string, { test: TestCase; since: number }>();
  readonly #times = new Map<string, { begin: number; end: number }>();
  #beat: NodeJS.Timeout | undefined;

  onTestRunStart(): void {
    this.#beat = setInterval(() => {
      for (const { test, since } of this.#running.values()) {
        const seconds = Math.round((Date.now() - since) / 1000);
        if (seconds * 1000 >= QUIET) console.error(`running for ${seconds} s: ${test.project.name}: ${reported(test).name}`);
      }
    }, QUIET);
    this.#beat.unref();
  }

  onTestModuleStart(module: TestModule): void {
    const { name } = module.project;
    const now = Date.now();
    this.#times.set(name, { begin: this.#times.get(name)?.begin ?? now, end: now });
  }

  onTestModuleEnd(module: TestModule): void {
    const times = this.#times.get(module.project.name);
    if (times !== undefined) times.end = Date.now();
  }

  onTestCaseReady(test: TestCase): void {
    if (test.options.mode !== 'skip') this.#running.set(test.id, { test, since: Date.now() });
  }

  onTestCaseResult(test: TestCase): void {
    this.#running.delete(test.id);
  }

  onTestRunEnd(modules: readonly TestModule[], errors: readonly unknown[]): void {
    clearInterval(this.#beat);
    const tests = modules.flatMap((module) => [...module.children.allTests()]);
    const ran = tests.filter((test) => ['passed', 'failed'].includes(test.result().state));
    const failed = tests.filter((test) => test.result().state === 'failed').map(reported);
    const skipped: Report['skipped'][number][] = [];
    const leftOut: Record<string, number> = {};
    for (const test of tests.filter((one) => one.result().state === 'skipped' && !isBlocked(one))) {
      const why = reasonOf(test);
      const isFiltered = why === undefined && test.tags.includes('full');
      if (isFiltered) leftOut[test.project.name] = (leftOut[test.project.name] ?? 0) + 1;
      else if (why === undefined) failed.push({ ...reported(test), name: `${reported(test).name}: skipped without a reason` });
      else skipped.push({ ...reported(test), why });
    }
    // Files that cannot be loaded, hooks that fail and errors outside of all tests have no test that fails.
    for (const module of modules)
      if (!module.ok() && module.errors().length > 0)
        failed.push({ project: module.project.name, name: module.relativeModuleId, seconds: 0 });
    if (errors.length > 0) failed.push({ project: '', name: 'an error outside of all tests', seconds: 0 });
    const report: Report = {
      passed: tests.filter((test) => test.result().state === 'passed').length,
      failed,
      skipped,
      leftOut,
      slowest: ran
        .map(reported)
        .toSorted((a, b) => b.seconds - a.seconds)
        .slice(0, 10),
      projects: Object.fromEntries([...this.#times].map(([name, { begin, end }]) => [name, (end - begin) / 1000])),
    };
    const file = process.env[REPORT] ?? '';
    if (file !== '') writeFileSync(file, JSON.stringify(report));
  }
}
