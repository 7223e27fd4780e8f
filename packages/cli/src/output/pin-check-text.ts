import type { CheckedPin } from '@flatcar/upstream';
import { table } from './terminal.ts';

/** What a person reads of checked pins: those that are as upstream has them are only counted. */
export function checkText(checked: readonly CheckedPin[]): string {
  const count = (state: CheckedPin['state']): number => checked.filter((one) => one.state === state).length;
  const notable = checked.filter(({ state }) => state !== 'same');
  const rows = notable.map(({ state, component, version, locator, proof, found }) => [state, component, version, locator, proof, found]);
  const title = { different: 'DIFFERENT', unreached: 'not reached', stronger: 'could record a stronger proof', same: '' } as const;
  const shown = rows.map(([state = 'same', ...row]) => [title[state as CheckedPin['state']], ...row]);
  return [
    ...(rows.length === 0 ? [] : [table([['', 'component', 'version', 'what', 'recorded', 'upstream has'], ...shown]), '']),
    checked.length === 0
      ? 'no pins to check'
      : `${checked.length} pins: ${count('same') + count('stronger')} as upstream has them, ${count('different')} different, ${count('unreached')} not reached`,
  ].join('\n');
}
