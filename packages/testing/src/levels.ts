import { test } from 'vitest';

const isRoot = process.getuid?.() === 0;

/**
 * A test that merges images, which takes root. Without root it is skipped, and its name says why; CI has root,
 * so there its absence is a failure.
 */
export function mergeTest(name: string, run: () => Promise<void>): void {
  if (isRoot || process.env['CI'] !== undefined) {
    test(name, async () => {
      if (!isRoot) throw new Error('merge tests need root, and CI must have it');
      await run();
    });
  } else {
    test.skip(`${name} (skipped: merge tests need root)`, run);
  }
}
