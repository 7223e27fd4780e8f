/** Compares one part of a version by its numbers and texts: letters sort before other signs, and `~` before the end. */
function compareParts(a: string, b: string): number {
  const weight = (sign: string | undefined): number =>
    sign === undefined ? 0 : sign === '~' ? -1 : /[a-z]/i.test(sign) ? sign.charCodeAt(0) : sign.charCodeAt(0) + 256;
  // Texts are at even indexes, since a version may begin with either.
  const [x, y] = [a, b].map((text): string[] => [...(/^\d/.test(text) ? [''] : []), ...(text.match(/\d+|\D+/g) ?? [])]);
  for (let index = 0; index < Math.max(x?.length ?? 0, y?.length ?? 0); index += 1) {
    const [one, other] = [x?.[index] ?? '', y?.[index] ?? ''];
    if (index % 2 === 1) {
      const difference = BigInt(one || 0) - BigInt(other || 0);
      if (difference !== 0n) return difference > 0n ? 1 : -1;
      continue;
    }
    for (let at = 0; at < Math.max(one.length, other.length); at += 1) {
      const difference = weight(one[at]) - weight(other[at]);
      if (difference !== 0) return difference;
    }
  }
  return 0;
}

/** Compares two versions as dpkg does: epoch, upstream's version, Debian's revision (deb-version(7)). */
export function compareDebianVersions(a: string, b: string): number {
  const [x, y] = [a, b].map((text) => /^(?:(\d+):)?(.*?)(?:-([^-]*))?$/.exec(text) ?? []);
  return (
    compareParts(x?.[1] ?? '0', y?.[1] ?? '0') || compareParts(x?.[2] ?? '', y?.[2] ?? '') || compareParts(x?.[3] ?? '0', y?.[3] ?? '0')
  );
}

/**
 * The upstream version in a Debian version (deb-version(7)): without the epoch, Debian's revision, marks of a repacked source, and
 * suffixes of builds and updates of native packages. `2.0+really1.9-1` is 1.9.
 */
export function upstreamVersion(version: string): string {
  return version
    .replace(/^\d+:/, '')
    .replace(/-[^-]*$/, '')
    .replace(/^.*\+really/, '')
    .replace(/[+~.](?:dfsg|ds|repack).*$/, '')
    .replace(/\+(?:b\d+|deb\d+u\d+)$/, '');
}
