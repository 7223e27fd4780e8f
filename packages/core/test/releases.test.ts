import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { UserError, UserErrors } from '../src/util/errors.ts';
import { CATALOGUE, catalogue, channelHead, selectTargets } from '../src/model/releases.ts';
import { nearest } from '../src/model/nearest.ts';
import type { Release } from '../src/model/target.ts';
import { compareVersions } from '../src/model/versions.ts';

const catalogueOfTests = resolve(import.meta.dirname, '../../testing/fixtures/releases.json');

/** Releases by number and channel, in no order; nothing else about them matters here. */
const RELEASES = Object.entries({
  '4081.3.10': 'lts',
  '4081.3.2': 'lts',
  '4593.2.9': 'stable',
  '4593.2.10': 'stable',
  '4593.2.1': 'stable',
  '4628.1.2': 'beta',
  '4790.0.0': 'alpha',
  '4850.0.0': 'alpha',
} as const).map(([number, channel]): Release => ({ ...catalogue()[0]!, number, channel }));

/** What a call throws, as far as a person sees it. */
function thrown(run: () => unknown): UserError {
  try {
    run();
  } catch (error) {
    if (error instanceof UserError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

// Whatever releases Flatcar has made: these hold for each of them. All other tests read packages/testing/fixtures/releases.json.
describe.each([
  ['embedded', fileURLToPath(CATALOGUE)],
  ['tests read', catalogueOfTests],
])('the catalogue that is %s', (_, file) => {
  const releases = JSON.parse(readFileSync(file, 'utf8')) as Release[];
  test('has all channels, and every fact of a release fits the others', () => {
    for (const channel of ['stable', 'beta', 'alpha', 'lts'] as const) expect(channelHead(channel, releases).channel).toBe(channel);
    for (const { number, format, mergeStage, filesystems, arches, systemd } of releases) {
      expect(mergeStage === 'initrd', number).toBe(format === 'ddi');
      expect(filesystems, number).toContain(format === 'ddi' ? 'erofs' : 'squashfs');
      expect(arches.length, number).toBeGreaterThan(0);
      // Least that the images ask for: ID=_any and links of other names.
      expect(compareVersions(systemd, '252'), number).toBeGreaterThan(0);
    }
  });
  test('has no release twice', () => expect(new Set(releases.map(({ number }) => number)).size).toBe(releases.length));
});
test('tests read the catalogue that no new release changes', () => {
  expect(process.env['FLATCAR_EXT_RELEASES']).toBe(catalogueOfTests);
  expect(catalogue()).toEqual(JSON.parse(readFileSync(catalogueOfTests, 'utf8')));
});

describe('selectTargets', () => {
  const name = (text: string): string[] => selectTargets(text, RELEASES).map((target) => (target === 'portable' ? target : target.number));

  test('reads numbers, channels and portable, each once and in the order given', () => {
    expect(name('portable, stable,4593.2.10,lts,portable,4628.1.2')).toEqual(['portable', '4593.2.10', '4081.3.10', '4628.1.2']);
  });

  test('names the nearest known release, and how to refresh', () => {
    const error = thrown(() => selectTargets('4593.2.8', RELEASES));
    expect(error.message).toMatch(/4593\.2\.8/);
    expect(error.next).toMatch(/4593\.2\.9; .*releases update/);
  });

  test.each([
    ['4593.2', '4593.2.10'],
    ['4593', '4593.2.10'],
    ['4081.3.11', '4081.3.10'],
    ['9999.0.0', '4850.0.0'],
    ['1.0.0', '4081.3.2'],
  ])('nearest to %s is %s', (unknown, known) => {
    expect(nearest(unknown, RELEASES)?.number).toBe(known);
  });

  test('says what is allowed for what is neither', () => {
    expect(thrown(() => selectTargets('nightly', RELEASES)).next).toMatch(/4593\.2\.10, stable, beta, alpha, lts, or portable/);
    expect(thrown(() => selectTargets(' , ', RELEASES)).message).toMatch(/no release was specified/);
  });

  test('shows all that is wrong at once', () => {
    const error = thrown(() => selectTargets('nightly,stable,1.2.3', RELEASES));
    expect(error).toBeInstanceOf(UserErrors);
    expect((error as UserErrors).errors).toHaveLength(2);
  });
});
