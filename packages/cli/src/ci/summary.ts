import { table } from '../terminal.ts';
import type { Outcome } from './outcome.ts';

/** A table of outcomes: what failed first. */
export function summaryOf(outcomes: readonly Outcome[]): string {
  const failed = outcomes.filter(({ ok }) => !ok);
  return [
    table([['extension', 'step', 'what', 'result'], ...[...failed, ...outcomes.filter(({ ok }) => ok)].map(({ extension, step, what, ok }) => [extension, step, what, ok ? 'ok' : 'FAILED'])]), // prettier-ignore
    '',
    failed.length === 0 ? `${outcomes.length} steps, all well` : `${failed.length} of ${outcomes.length} steps failed`,
  ].join('\n');
}

/** Writes the same to the page of the run (GITHUB_STEP_SUMMARY); nothing outside of a workflow. */
export async function writeSummary(title: string, outcomes: readonly Outcome[]): Promise<void> {
  if (process.env['GITHUB_STEP_SUMMARY'] === undefined) return;
  const { summary } = await import('@actions/core');
  summary.addHeading(title, 2);
  summary.addTable([
    ['extension', 'step', 'what', 'result'].map((data) => ({ data, header: true })),
    ...outcomes.map(({ extension, step, what, ok }) => [extension, step, what, ok ? '✅' : '❌ failed']),
  ]);
  for (const { extension, step, what, error } of outcomes) {
    if (error === undefined) continue;
    const escaped = error.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
    summary.addDetails(`${extension}: ${step} ${what}`, `<pre>${escaped}</pre>`);
  }
  await summary.write();
}
