import type { Outcome } from '@flatcar/workspace/ci/outcome';
import { table } from './terminal.ts';

/** A table of outcomes: what failed first. */
export function summaryOf(outcomes: readonly Outcome[]): string {
  const failed = outcomes.filter(({ ok }) => !ok);
  return [
    table([
      ['extension', 'step', 'what', 'result'],
      ...[...failed, ...outcomes.filter(({ ok }) => ok)].map(({ extension, step, what, ok }) => [
        extension,
        step,
        what,
        ok ? 'ok' : 'FAILED',
      ]),
    ]),
    '',
    failed.length === 0 ? `${outcomes.length} steps, all well` : `${failed.length} of ${outcomes.length} steps failed`,
  ].join('\n');
}
