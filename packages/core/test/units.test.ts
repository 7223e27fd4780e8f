import { expect, test } from 'vitest';
import { parseUnit, unitLines } from '../src/inspect/units.ts';

test('settings are given in order, with their section, also those that occur twice', () => {
  expect(parseUnit('[Unit]\nAfter=a.service\n\n[Service]\nExecStart=/usr/bin/a --key=value\nExecStart=\nExecStart=/usr/bin/b\n')).toEqual([
    { section: 'Unit', key: 'After', value: 'a.service' },
    { section: 'Service', key: 'ExecStart', value: '/usr/bin/a --key=value' },
    { section: 'Service', key: 'ExecStart', value: '' },
    { section: 'Service', key: 'ExecStart', value: '/usr/bin/b' },
  ]);
});

test('blanks around keys and values, line ends of Windows and a missing last line end do not matter', () => {
  expect(parseUnit('[Install]\r\n  WantedBy = multi-user.target \r\nAlias=x.service')).toEqual([
    { section: 'Install', key: 'WantedBy', value: 'multi-user.target' },
    { section: 'Install', key: 'Alias', value: 'x.service' },
  ]);
});

test('comments and blank lines are left out, and a text without `=` is not a setting', () => {
  expect(unitLines('# one\n; two\n\n  # three\nKey=a # part of the value\n')).toEqual(['Key=a # part of the value']);
  expect(parseUnit('[Service]\nno setting\n=value of nothing\n')).toEqual([{ section: 'Service', key: '', value: 'value of nothing' }]);
});

test('a line that ends in a backslash continues, across comments, as systemd.syntax(7) has it', () => {
  expect(parseUnit('[Service]\nExecStart=/usr/bin/a \\\n# a comment\n; another\n  --more \\\n  --last\nUser=a\n')).toEqual([
    { section: 'Service', key: 'ExecStart', value: expect.stringMatching(/^\/usr\/bin\/a\s+--more\s+--last$/) },
    { section: 'Service', key: 'User', value: 'a' },
  ]);
});

test('settings before the first section have none', () => {
  expect(parseUnit('Key=value\n')).toEqual([{ section: '', key: 'Key', value: 'value' }]);
});
