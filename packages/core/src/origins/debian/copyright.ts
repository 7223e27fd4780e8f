import parseExpression, { type Info } from 'spdx-expression-parse';

// Names of licences in Debian's copyright files that SPDX calls otherwise (copyright-format 1.0, 7.1); versions follow.
const NAMES: Readonly<Record<string, string>> = {
  expat: 'MIT',
  mit: 'MIT',
  x11: 'X11',
  isc: 'ISC',
  zlib: 'Zlib',
  curl: 'curl',
  'apache-2': 'Apache-2.0',
  'apache-2.0': 'Apache-2.0',
  'artistic-2.0': 'Artistic-2.0',
  'bsd-2-clause': 'BSD-2-Clause',
  'bsd-3-clause': 'BSD-3-Clause',
  'bsd-4-clause': 'BSD-4-Clause',
  'bsd-4-clause-uc': 'BSD-4-Clause-UC',
  'boost-1.0': 'BSL-1.0',
  'bsl-1.0': 'BSL-1.0',
  'cc0-1.0': 'CC0-1.0',
  'mpl-2.0': 'MPL-2.0',
  openssl: 'OpenSSL',
  'psf-2': 'PSF-2.0',
  unicode: 'Unicode-DFS-2016',
  '0bsd': '0BSD',
};

/** `GPL-2+` is `GPL-2.0-or-later` in SPDX, `LGPL-2.1` is `LGPL-2.1-only`; undefined for a licence that SPDX does not have. */
function spdxOf(name: string): string | undefined {
  const known = NAMES[name.toLowerCase()];
  if (known !== undefined) return known;
  const gnu = /^(A?GPL|LGPL|GFDL)-(\d)(?:\.(\d))?(\+|-or-later|-only)?$/i.exec(name);
  if (gnu === null) return undefined;
  const [, family = '', major = '', minor = '0', more] = gnu;
  return `${family.toUpperCase()}-${major}.${minor}-${more === '+' || more === '-or-later' ? 'or-later' : 'only'}`;
}

/** A short name with `and`, `or`, commas and `with … exception`, as an expression; undefined when any part is not known. */
function expressionOf(spelled: string): string | undefined {
  // One blank for many: expressions below that looked for any number would take a time that grows with its square.
  const name = spelled.replaceAll(/\s+/g, ' ');
  if (/ with /i.test(name)) return undefined;
  const parts = name.split(/ ?,? (and\/or|and|or) | ?, /i).filter((part) => part !== undefined && part !== '');
  const words = parts.map((part) => (/^and$/i.test(part) ? 'AND' : /^(?:or|and\/or)$/i.test(part) ? 'OR' : spdxOf(part)));
  if (words.includes(undefined)) return undefined;
  const text = words.join(' ');
  return / OR /.test(text) ? `(${text})` : text;
}

/** The names of licences in a copyright file, without those of Debian's packaging. */
export function licenseNames(text: string): readonly string[] {
  const named = paragraphsOf(text).flatMap(({ license }) => (license === undefined ? [] : [license]));
  return [...new Set(named)].toSorted();
}

/** The short name of the licence in each paragraph about files, without those of Debian's packaging. */
function paragraphsOf(text: string): { readonly license: string | undefined }[] {
  return text.split(/\n(?:[ \t]*\n)+/).flatMap((paragraph) => {
    const files = /^Files:[ \t]*(.*(?:\n[ \t].*)*)/m.exec(paragraph)?.[1];
    if (files === undefined || files.split(/\s+/).every((one) => one === '' || one.startsWith('debian/'))) return [];
    return [{ license: /^License:[ \t]*(.+)$/m.exec(paragraph)?.[1]?.trim() }];
  });
}

/**
 * Reads a copyright file: an SPDX expression over the licences of all files but Debian's packaging, or the file's text if it is not
 * machine-readable (copyright-format 1.0) or SPDX lacks one of its licences.
 */
export function readCopyright(text: string): { readonly expression: string } | { readonly text: string } {
  if (!/^Format(?:-Specification)?:\s*http/m.test(text)) return { text };
  const expressions = new Set<string>();
  for (const { license } of paragraphsOf(text)) {
    const expression = license === undefined ? undefined : expressionOf(license);
    if (expression === undefined) return { text };
    expressions.add(expression);
  }
  const expression = [...expressions].toSorted().join(' AND ');
  return isLicense(expression) ? { expression } : { text };
}

/** True for an SPDX expression of licences that SPDX has (`LicenseRef-` for others). */
export function isLicense(text: string): boolean {
  try {
    parseExpression(text);
    return true;
  } catch {
    return false;
  }
}

/** The operands of a conjunction in an expression's tree: all of `a AND b AND c`, or of `a OR b`. */
const operands = (tree: Info, conjunction: 'and' | 'or'): Info[] =>
  'conjunction' in tree && tree.conjunction === conjunction
    ? [...operands(tree.left, conjunction), ...operands(tree.right, conjunction)]
    : [tree];

function formatExpression(tree: Info): string {
  if ('license' in tree)
    return `${tree.license}${tree.plus === true ? '+' : ''}${tree.exception === undefined ? '' : ` WITH ${tree.exception}`}`;
  return `(${operands(tree, tree.conjunction)
    .map(formatExpression)
    .join(tree.conjunction === 'or' ? ' OR ' : ' AND ')})`;
}

/** The SPDX expression for files under all of several expressions, with each licence once; undefined for no expressions. */
export function allOf(expressions: readonly string[]): string | undefined {
  const parts = expressions.flatMap((one) => operands(parseExpression(one), 'and')).map(formatExpression);
  return parts.length === 0 ? undefined : [...new Set(parts)].toSorted().join(' AND ');
}
