import { html } from '@flatcar/core/engine';
import type { Outcome } from './outcome.ts';
import type { JobPlan } from './plan.ts';

/** The most bytes of a table. GitHub drops a step's summary of more than 1 MiB; half of that leaves room for other text. */
const SUMMARY_LIMIT = 512 << 10;

/** Outcomes as HTML for the page of a run, failures first; entries over the limit are left out and counted. */
export function summaryHtml(title: string, outcomes: readonly Outcome[], limit = SUMMARY_LIMIT): string {
  const sorted = [...outcomes.filter(({ ok }) => !ok), ...outcomes.filter(({ ok }) => ok)];
  const head = `<h2>${html(title)}</h2>\n<table><tr><th>extension</th><th>step</th><th>what</th><th>result</th></tr>\n`;
  const rows = sorted.map(({ extension, step, what, ok }) => {
    const cells = [extension, step, what.length > 300 ? `${what.slice(0, 300)}…` : what, ok ? '✅' : '❌ failed'];
    return `<tr>${cells.map((cell) => `<td>${html(cell)}</td>`).join('')}</tr>\n`;
  });
  const details = sorted.flatMap(({ extension, step, what, error }) =>
    error === undefined
      ? []
      : [`<details><summary>${html(`${extension}: ${step} ${what}`)}</summary><pre>${html(error)}</pre></details>\n`],
  );
  let room = limit - Buffer.byteLength(head) - 500;
  const fitting = (parts: readonly string[]): string[] =>
    parts.filter((part) => {
      const size = Buffer.byteLength(part);
      if (size > room) return false;
      room -= size;
      return true;
    });
  const kept = { rows: fitting(rows), details: fitting(details) };
  const missing = rows.length - kept.rows.length + details.length - kept.details.length;
  const note =
    missing === 0 ? '' : `<p>${missing} entries are left out: the page would exceed GitHub's limit. The log of the step has them.</p>\n`;
  return `${head}${kept.rows.join('')}</table>\n${kept.details.join('')}${note}`;
}

/** Writes the outcomes to the page of the run (GITHUB_STEP_SUMMARY); nothing outside a workflow. */
export async function writeSummary(title: string, outcomes: readonly Outcome[]): Promise<void> {
  if ((process.env['GITHUB_STEP_SUMMARY'] ?? '') === '') return;
  const { summary } = await import('@actions/core');
  await summary.addRaw(summaryHtml(title, outcomes)).write();
}

/** Sets outputs of a workflow's step; nothing outside a workflow. */
export async function writeOutputs(outputs: Readonly<Record<string, string | number>>): Promise<void> {
  if ((process.env['GITHUB_OUTPUT'] ?? '') === '') return;
  const { setOutput } = await import('@actions/core');
  for (const [name, value] of Object.entries(outputs)) setOutput(name, value);
}

/** Writes the number of jobs to the page of the run; nothing outside a workflow. */
export async function writePlanSummary({ jobs, left, held }: JobPlan): Promise<void> {
  if ((process.env['GITHUB_STEP_SUMMARY'] ?? '') === '') return;
  const { summary } = await import('@actions/core');
  const builds = jobs.filter(({ from }) => from === 'build').length;
  const rest = left === 0 ? '' : ` ${left} jobs are left for the next run.`;
  const waiting =
    held.length === 0 ? '' : ` ${held.length} are held back: ${held.map(({ job, until }) => `${job.id} until ${until}`).join(', ')}.`;
  await summary
    .addHeading('Plan', 2)
    .addRaw(`${builds} jobs build, ${jobs.length - builds} only bind.${rest}${waiting}`, true)
    .write();
}
