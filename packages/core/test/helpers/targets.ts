import { selectTargets } from '../../src/model/releases.ts';
import type { Release } from '../../src/model/target.ts';

/** A release of the catalogue, by its number. */
export function targetOf(number: string): Release {
  const [target] = selectTargets(number);
  if (target === undefined || target === 'portable') throw new Error(`${number} is no release`);
  return target;
}
