// What `plan` prints.
import { expect, test } from 'vitest';
import { unpublishableLines } from '@flatcar/workspace/plan-release';
import { planText } from '../src/commands/plan.ts';

test('the plan says what cannot be published as it is, and never that nothing is missing', () => {
  const problem = {
    extension: 'tool',
    version: '1.0',
    what: 'files or definition changed since 1.0 was pinned',
    where: '',
    next: 'flatcar-ext pin tool --revision',
    refresh: false,
  };
  const stale = [
    { extension: 'tool', version: '1.0' },
    { extension: 'other', version: '2.0' },
  ];
  expect(unpublishableLines({ changed: [problem], stale })).toEqual([
    'cannot be published: tool: files or definition changed since 1.0 was pinned; flatcar-ext pin tool --revision',
    'cannot be published: other: 2.0 is published with other bytes than those that are pinned; flatcar-ext pin other --revision',
  ]);
  const plan = { images: [], payloads: [], skipped: [], collisions: [], targets: ['portable'], serial: 3 };
  expect(planText({ ...plan, changed: [problem], stale: [] }, ['cannot be published: tool'])).not.toContain('nothing is missing');
  expect(planText({ ...plan, changed: [], stale: [] }, [])).toBe('nothing is missing: everything is published for portable (index 3)');
});
