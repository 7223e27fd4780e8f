import { LEDGER, type LedgerEntry } from '@flatcar/testing/ledger';
import type { Report } from './reporter.ts';

export { LEDGER, type LedgerEntry };

/** Seconds from which on something made is worth a line. */
const NOTABLE = 3;

const seconds = (value: number): string => (value < 90 ? `${Math.round(value)} s` : `${Math.round(value / 60)} min`);
const line = (time: number, project: string, name: string): string => `  ${seconds(time).padStart(6)}  ${project.padEnd(9)} ${name}`;
const block = (title: string, lines: readonly string[]): string[] => (lines.length === 0 ? [] : [`${title}:`, ...lines]);

/** What the store had and what was made, from the ledger that the tests wrote. */
export function readLedger(text: string): LedgerEntry[] {
  return text
    .split('\n')
    .filter((one) => one !== '')
    .map((one) => JSON.parse(one) as LedgerEntry);
}

/** Where the time went, what was skipped or left out, and the counts, the last of them alone on the last line. */
export function summarize(reports: readonly Report[], ledger: readonly LedgerEntry[], absent: readonly string[], wall: number): string {
  const projects = new Map<string, number>();
  for (const report of reports)
    for (const [name, time] of Object.entries(report.projects)) projects.set(name, (projects.get(name) ?? 0) + time);
  const slowest = reports
    .flatMap((report) => report.slowest)
    .toSorted((a, b) => b.seconds - a.seconds)
    .slice(0, 10);
  const cached = ledger.filter((entry) => entry.cached);
  const made = ledger.filter((entry) => !entry.cached && entry.seconds >= NOTABLE).toSorted((a, b) => b.seconds - a.seconds);
  const leftOut = new Map<string, number>();
  for (const report of reports)
    for (const [name, count] of Object.entries(report.leftOut)) leftOut.set(name, (leftOut.get(name) ?? 0) + count);
  // A second run of vitest with the tests that the first left out.
  const failed = reports.flatMap((report) => report.failed);
  const skipped = reports.flatMap((report) => report.skipped);
  const rest = [...[...leftOut].map(([name, count]) => `${count} of ${name}`), ...absent.map((name) => `all of ${name}`)];
  return [
    '',
    `where the time went: ${seconds(wall)} in all; ${[...projects].map(([name, time]) => `${name} ${seconds(time)}`).join(', ')}`,
    ...block(
      'slowest tests',
      slowest.map((one) => line(one.seconds, one.project, one.name)),
    ),
    ...block(
      'made',
      made.map((one) => `  ${seconds(one.seconds).padStart(6)}  ${one.what}`),
    ),
    ...(cached.length === 0 ? [] : [`from the store: ${[...new Set(cached.map(({ what }) => what))].join(', ')}`]),
    ...block(
      'skipped',
      skipped.map((one) => `  ${one.project.padEnd(9)} ${one.name}: ${one.why}`),
    ),
    ...(rest.length === 0
      ? []
      : [`left out: ${rest.join(', ')}; npm run test:all runs them, npm run test:affected those that a change has an effect on`]),
    ...block(
      'failed',
      failed.map((one) => `  ${one.project.padEnd(9)} ${one.name}`),
    ),
    `${reports.reduce((sum, report) => sum + report.passed, 0)} passed, ${failed.length} failed, ${skipped.length} skipped`,
  ].join('\n');
}
