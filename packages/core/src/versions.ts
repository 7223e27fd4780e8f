import { UserError } from './errors.ts';

const isDigit = (char: string | undefined): boolean => char !== undefined && char >= '0' && char <= '9';
const isAlpha = (char: string | undefined): boolean => char !== undefined && ((char >= 'a' && char <= 'z') || (char >= 'A' && char <= 'Z'));
/** Characters outside of these only separate (UAPI.10). */
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

const minorOf = (version: string): string => version.split('.').slice(0, 2).join('.');

/** The newest version of each branch that a policy keeps: `newest`, `N minors`, or `same minor` as a lead version. Newest first. */
export function keep(policy: string, versions: readonly string[], lead?: string): string[] {
  const sorted = newestFirst(versions);
  if (policy === 'newest') return sorted.slice(0, 1);
  if (policy === 'same minor') {
    if (lead === undefined) throw new UserError("the policy 'same minor' needs a lead version");
    return sorted.filter((version) => minorOf(version) === minorOf(lead)).slice(0, 1);
  }
  const count = /^(\d+) minors$/.exec(policy)?.[1];
  if (count === undefined) throw new UserError(`unknown version policy '${policy}'`, { next: "use 'newest', 'same minor' or '3 minors'" });
  const minors = [...new Set(sorted.map(minorOf))].slice(0, Number(count));
  return minors.flatMap((minor) => sorted.find((version) => minorOf(version) === minor) ?? []);
}
