import { spawnSync } from 'node:child_process';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { compareVersions, keep, newestFirst } from '../src/model/versions.ts';

/** What the real systemd says: its exit code is 11 for newer, 12 for older, 0 for equal (systemd-analyze(1)). */
function systemd(a: string, b: string): number {
  const { status } = spawnSync('systemd-analyze', ['compare-versions', a, b], { stdio: 'ignore' });
  const order = new Map([
    [0, 0],
    [11, 1],
    [12, -1],
  ]).get(status ?? -1);
  if (order === undefined) throw new Error(`systemd-analyze compare-versions '${a}' '${b}' ended with ${status}`);
  return order;
}

const hasSystemd = spawnSync('systemd-analyze', ['compare-versions', '1', '2']).status === 12;

/** Each older than the one after it; the last two groups are the examples of UAPI.10. */
const ASCENDING = [
  ['1.36.4', '1.36.4-1', '1.36.4-2', '1.36.4-10', '1.36.5', '1.37.0'],
  ['2026.11.9', '2026.11.23', '2026.12.1'],
  ['v1.36.4', '1.36.4'],
  ['1.36.4', '1.36.4-rc1'],
  ['122.1', '123~rc1-1', '123', '123-a', '123-a.1', '123-1', '123-1.1', '123^post1', '123.a-1', '123.1-1', '123a-1', '124-1'],
  ['9', '10', '00011', '12'],
];
const EQUAL = [
  ['1.0', '1.00'],
  ['1_2', '1_2'],
  ['1+', '1'],
  ['', '+'],
];

describe('compareVersions', () => {
  test.each(ASCENDING)('ranks %s and what follows in this order', (...versions) => {
    for (const [index, older] of versions.entries())
      for (const newer of versions.slice(index + 1)) {
        expect(Math.sign(compareVersions(older, newer)), `${older} < ${newer}`).toBe(-1);
        expect(Math.sign(compareVersions(newer, older)), `${newer} > ${older}`).toBe(1);
      }
  });

  test.each(EQUAL)("'%s' equals '%s'", (a, b) => expect(compareVersions(a, b)).toBe(0));

  test('says what the real systemd-analyze says, on the lists above', ({ skip }) => {
    skip(!hasSystemd, 'there is no systemd-analyze');
    for (const versions of ASCENDING)
      for (const [index, a] of versions.entries())
        for (const b of versions.slice(index)) expect(Math.sign(compareVersions(a, b)), `${a} ${b}`).toBe(systemd(a, b));
    for (const [a = '', b = ''] of EQUAL) expect(systemd(a, b)).toBe(0);
  });

  test('says what the real systemd-analyze says, on anything', ({ skip }) => {
    skip(!hasSystemd, 'there is no systemd-analyze');
    const text = (characters: string): fc.Arbitrary<string> =>
      fc.string({ unit: fc.constantFrom(...characters.split('')), maxLength: 8 }).filter((version) => !version.startsWith('-')); // would be an option
    // Few characters, so that equal beginnings are common; then pairs of which one is the other with something changed.
    const any = fc.tuple(text('019.-~^ab'), text('019.-~^ab'));
    const near = fc
      .tuple(text('01.-~^aZ_+é'), text('01.-~^a'), text('01.-~^aB'))
      .map(([head, one, other]) => [`1${head}${one}`, `1${head}${other}`] as const);
    fc.assert(
      fc.property(fc.oneof(any, near), ([a, b]) => {
        expect(Math.sign(compareVersions(a, b)), `'${a}' '${b}'`).toBe(systemd(a, b));
      }),
      { numRuns: 600 },
    );
  });

  test('does not mind numbers larger than a double holds', () => {
    expect(compareVersions('1.9007199254740993', '1.9007199254740992')).toBeGreaterThan(0);
  });
});

test('newestFirst sorts by that order, not by letters', () => {
  expect(newestFirst(['1.9.0', '1.10.0', '1.10.0-2', '1.10.0-10', '0.99'])).toEqual(['1.10.0-10', '1.10.0-2', '1.10.0', '1.9.0', '0.99']);
});

describe('keep', () => {
  const listed = ['1.37.0', '1.37.1-rc1', '1.36.4', '1.36.10', '1.35.8', '1.34.12', 'v1.38.0', '1.36.9'];

  test('newest is one, and never a pre-release or a name with a v', () => {
    expect(keep('newest', listed)).toEqual(['1.37.0']);
    expect(keep('newest', ['2.0.0-rc1'])).toEqual([]);
  });

  test('minors: the newest patch of each', () => expect(keep('3 minors', listed)).toEqual(['1.37.0', '1.36.10', '1.35.8']));

  test('more minors than there are give all', () => expect(keep('9 minors', listed)).toEqual(['1.37.0', '1.36.10', '1.35.8', '1.34.12']));

  test('branches: the newest of each major', () => {
    expect(keep('2 branches', ['28.5.1', '28.5.2', '29.0.4', '29.1.0', '27.0.0'])).toEqual(['29.1.0', '28.5.2']);
  });

  test('same minor follows the lead', () => expect(keep('same minor', listed, '1.36.4')).toEqual(['1.36.10']));

  test('same minor takes the newest older one until upstream has that minor', () => {
    expect(keep('same minor', ['1.36.0', '1.35.3', '2.0.0'], '1.37.0')).toEqual(['1.36.0']);
    expect(keep('same minor', ['2.0.0'], '1.37.0')).toEqual([]);
  });

  test.each(['3 minor', '0 minors', 'latest', ''])("refuses the policy '%s'", (policy) => {
    expect(() => keep(policy, listed)).toThrow(/unknown version policy/);
  });

  test('same minor without a lead says what is missing', () => expect(() => keep('same minor', listed)).toThrow(/needs a lead version/));
});
