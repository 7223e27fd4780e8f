import { catalogue, nearest, selectTargets, type Target } from '@flatcar/core/engine';

/** Parses a comma-separated list of targets in a published tree, whose releases the catalogue of this checkout need not contain. */
export function treeTargets(text: string): Target[] {
  const known = new Set(catalogue().map(({ number }) => number));
  return text
    .split(',')
    .map((word) => word.trim())
    .flatMap((word): Target[] => {
      const like = /^\d+\.\d+\.\d+$/.test(word) && !known.has(word) ? nearest(word, catalogue()) : undefined;
      return like === undefined ? selectTargets(word) : [{ ...like, number: word }];
    });
}
