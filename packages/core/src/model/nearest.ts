import type { Release } from './target.ts';
import { compareVersions } from './versions.ts';

/** Newest number first. */
export const byNumber = (a: Release, b: Release): number => compareVersions(b.number, a.number);

/** The known release with the number nearest to an unknown one; if the number has fewer parts, the newest of that branch. */
export function nearest(number: string, releases: readonly Release[]): Release | undefined {
  const wanted = number.split('.').map(Number);
  const distances = (release: Release): number[] =>
    release.number.split('.').map((part, index) => Math.abs(Number(part) - (wanted[index] ?? Number(part))));
  return releases.toSorted(byNumber).toSorted((a, b) => {
    const [x, y] = [distances(a), distances(b)];
    return (x[0] ?? 0) - (y[0] ?? 0) || (x[1] ?? 0) - (y[1] ?? 0) || (x[2] ?? 0) - (y[2] ?? 0);
  })[0];
}
