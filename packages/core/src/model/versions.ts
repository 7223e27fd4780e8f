import { UserError } from '../util/errors.ts';

const isDigit = (char: string | undefined): boolean => char !== undefined && char >= '0' && char <= '9';
const isAlpha = (char: string | undefined): boolean => char !== undefined && ((char >= 'a' && char <= 'z') || (char >= 'A' && char <= 'Z'));
/** All other characters only separate (UAPI.10). */
const isValid = (char: string): boolean => isDigit(char) || isAlpha(char) || '~-^.'.includes(char);

/**
 * Compares versions as systemd does (UAPI.10 Version Format Specification, `systemd-analyze compare-versions`):
 * `1.36.4` < `1.36.4-1` < `1.36.4-10` < `1.36.5`. Negative, zero or positive.
 */
export function compareVersions(a: string, b: string): number {
  let x = 0;
  let y = 0;
  for (;;) {
    while (x < a.length && !isValid(a.charAt(x))) x += 1;
    while (y < b.length && !isValid(b.charAt(y))) y += 1;
    const [p, q] = [a[x], b[y]];
    // `~` ranks below the end of the string, `-` below `^`, `^` below `.`, and each above the end.
    if (p === '~' || q === '~') {
      if (p !== q) return p === '~' ? -1 : 1;
      x += 1;
      y += 1;
    }
    if (x >= a.length || y >= b.length) return x >= a.length ? (y >= b.length ? 0 : -1) : 1;
    for (const separator of ['-', '^', '.']) {
      if (a[x] !== separator && b[y] !== separator) continue;
      if (a[x] !== b[y]) return a[x] === separator ? -1 : 1;
      x += 1;
      y += 1;
    }
    if (isDigit(a[x]) || isDigit(b[y])) {
      const [m, n] = [/^\d*/.exec(a.slice(x))?.[0] ?? '', /^\d*/.exec(b.slice(y))?.[0] ?? ''];
      if (m === '' || n === '') return m === '' ? -1 : 1;
      const difference = BigInt(m) - BigInt(n);
      if (difference !== 0n) return difference > 0n ? 1 : -1;
      x += m.length;
      y += n.length;
    } else {
      const [m, n] = [/^[a-zA-Z]*/.exec(a.slice(x))?.[0] ?? '', /^[a-zA-Z]*/.exec(b.slice(y))?.[0] ?? ''];
      const length = Math.min(m.length, n.length);
      const [left, right] = [m.slice(0, length), n.slice(0, length)];
      if (left !== right) return left < right ? -1 : 1;
      if (m.length !== n.length) return m.length > n.length ? 1 : -1;
      x += m.length;
      y += n.length;
    }
  }
}

/** Newest first. */
export function newestFirst(versions: readonly string[]): string[] {
  return versions.toSorted((a, b) => compareVersions(b, a));
}

/** Versions that may be built and listed: without a leading v, and no pre-releases, which systemd would rank above the release. */
export const PLAIN_VERSION = /^\d+(\.\d+)*(\+[0-9a-z]+)?$/;

/** The first `parts` numbers of a version: `1.36` of `1.36.4`. */
const branchOf = (version: string, parts: number): string => version.split('.').slice(0, parts).join('.');

/** The newest version of each of the newest `count` branches; newest first. */
function newestOfBranches(sorted: readonly string[], parts: number, count: number): string[] {
  const newest = new Map<string, string>();
  for (const version of sorted) {
    const branch = branchOf(version, parts);
    if (!newest.has(branch)) newest.set(branch, version);
  }
  return [...newest.values()].slice(0, count);
}

/**
 * The versions that a policy keeps of those that upstream lists, newest first; pre-releases never.
 * - `newest`: one.
 * - `3 minors`: the newest patch of each of the three newest minors (1.37, 1.36, 1.35).
 * - `2 branches`: the newest release of each of the two newest majors (29, 28).
 * - `same minor`: the newest patch of the lead version's minor; the newest older one while upstream has none yet.
 */
export function keep(policy: string, versions: readonly string[], lead?: string): string[] {
  const sorted = newestFirst(versions.filter((version) => PLAIN_VERSION.test(version)));
  if (policy === 'newest') return sorted.slice(0, 1);
  if (policy === 'same minor') {
    if (lead === undefined) throw new UserError("the policy 'same minor' needs a lead version");
    const minor = branchOf(lead, 2);
    return sorted.filter((version) => compareVersions(branchOf(version, 2), minor) <= 0).slice(0, 1);
  }
  const [, count, what] = /^([1-9]\d*) (minors|branches)$/.exec(policy) ?? [];
  if (count === undefined) {
    throw new UserError(`unknown version policy '${policy}'`, { next: "use 'newest', 'same minor', '3 minors' or '2 branches'" });
  }
  return newestOfBranches(sorted, what === 'minors' ? 2 : 1, Number(count));
}

/**
 * The oldest branch of which a policy keeps a version of those listed: `1.35` of three minors, `28` of two branches, the minor of the newest.
 * Undefined where nothing is kept.
 */
export function oldestBranch(policy: string, versions: readonly string[]): string | undefined {
  const oldest = keep(policy, versions).at(-1);
  return oldest === undefined ? undefined : branchOf(oldest, policy.endsWith('branches') ? 1 : 2);
}
