/** A change of an extension, for its CHANGELOG.md. */
export interface ChangelogEntry {
  readonly version: string;
  readonly revision: number;
  /** ISO date; today by default. */
  readonly date?: string;
  /** One change per line: `runc 1.5.1 → 1.5.2`. */
  readonly lines: readonly string[];
}

/** The text of a CHANGELOG.md with a new entry at the top, or with more lines in the entry of this image version. */
export function addChangelogEntry(name: string, before: string | undefined, { version, revision, lines, date }: ChangelogEntry): string {
  const head = `# Changes of ${name}\n`;
  const day = date ?? new Date().toISOString().slice(0, 10);
  const title = `## ${version}${revision === 0 ? '' : `-${revision}`} (`;
  const [first = '', ...entries] = (before ?? head).split(/^(?=## )/m);
  const own = entries.find((one) => one.startsWith(title));
  const known = (own ?? '').split('\n').flatMap((line) => (line.startsWith('- ') ? [line.slice('- '.length)] : []));
  const all = [...known, ...lines.filter((line) => !known.includes(line))];
  const entry = `${title}${day})\n\n${all.map((line) => `- ${line}`).join('\n')}\n`;
  const text = first.startsWith(head) ? first.slice(head.length) : first;
  const older = [text, ...entries.filter((one) => one !== own)].join('').trim();
  return `${head}\n${entry}${older === '' ? '' : `\n${older}\n`}`;
}
