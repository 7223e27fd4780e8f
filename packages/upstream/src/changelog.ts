/** What happened to an extension, for its CHANGELOG.md. */
export interface ChangelogEntry {
  readonly version: string;
  readonly revision: number;
  /** ISO date; today unless said. */
  readonly date?: string;
  /** One change each: `runc 1.5.1 → 1.5.2`. */
  readonly lines: readonly string[];
}

/** The text of a CHANGELOG.md with an entry more on top; versions as images have them. */
export function addChangelogEntry(name: string, before: string | undefined, { version, revision, lines, date }: ChangelogEntry): string {
  const head = `# Changes of ${name}\n`;
  const day = date ?? new Date().toISOString().slice(0, 10);
  const entry = `## ${version}${revision === 0 ? '' : `-${revision}`} (${day})\n\n${lines.map((line) => `- ${line}`).join('\n')}\n`;
  const older = (before ?? head).startsWith(head) ? (before ?? head).slice(head.length).trim() : (before ?? '').trim();
  return `${head}\n${entry}${older === '' ? '' : `\n${older}\n`}`;
}
