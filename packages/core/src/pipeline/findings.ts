import type { Finding } from '../model/finding.ts';
import { UserError, UserErrors } from '../util/errors.ts';
import type { Report } from '../util/events.ts';

/** Locates a finding in the checkout: `<file>:<line>` of the source that causes it. */
export type Locate = (finding: Finding) => Promise<string>;

interface LocatedFinding extends Finding {
  /** What is wrong, with the path in the image unless `where` contains it. */
  readonly text: string;
  readonly where: string | undefined;
}

async function locateFinding(finding: Finding, locate: Locate | undefined): Promise<LocatedFinding> {
  const { path, what } = finding;
  // A finding that cannot be located is reported all the same.
  const where = await locate?.(finding).catch(() => undefined);
  const inImage = path === undefined || where === undefined || where.includes(path) ? '' : `${path}: `;
  return { ...finding, text: `${inImage}${what}`, where: where ?? path };
}

/** Reports the warnings and throws all errors together, each with its fix and, with `locate`, the file and line to change. */
export async function reportFindings(findings: readonly Finding[], subject: string, report: Report, locate?: Locate): Promise<void> {
  const located = await Promise.all(findings.map((finding) => locateFinding(finding, locate)));
  for (const { level, rule, text, where, fix } of located) {
    if (level === 'warning')
      report({ type: 'notice', text: `${subject}: ${where === undefined ? '' : `${where}: `}${text} [${rule}]; ${fix}` });
  }
  const errors = located.filter(({ level }) => level === 'error');
  if (errors.length === 0) return;
  throw new UserErrors(
    `${subject}: lint found ${errors.length} error${errors.length === 1 ? '' : 's'}`,
    errors.map(({ rule, text, where, fix }) => new UserError(`${text} [${rule}]`, { where, next: fix })),
  );
}
