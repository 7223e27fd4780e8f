import { expect, test } from 'vitest';
import { indexedVersions } from '../src/sources/cargo.ts';

/** Cargo's copy of an index: a header, then a version and its entry of JSON, each between NULs (cargo::sources::registry::index::cache). */
const cached = (...entries: readonly object[]): string =>
  ['\u0003\u0002\0\0\0etag: "x"', ...entries.flatMap((entry) => ['1.0.0', JSON.stringify(entry)]), ''].join('\0');

test('versions of a crate that were not yanked are listed, with their date if the registry has it', () => {
  const text = cached(
    { name: 'tool', vers: '1.0.0', yanked: false, pubtime: '2026-01-02T03:04:05Z' },
    { name: 'tool', vers: '1.1.0', yanked: true },
    { name: 'tool', vers: '1.2.0', yanked: false },
    { name: 'tool-extra', vers: '9.0.0', yanked: false },
  );
  expect(indexedVersions(text, 'tool', 'index')).toEqual([
    { version: '1.0.0', date: '2026-01-02T03:04:05Z' },
    { version: '1.2.0', date: undefined },
  ]);
});

test('an entry of another shape is an error with its place', () => {
  expect(() => indexedVersions(cached({ name: 'tool', vers: 1, yanked: false }), 'tool', '/cache/tool')).toThrow(
    expect.objectContaining({
      message: expect.stringContaining('vers') as string,
      where: expect.stringContaining('/cache/tool') as string,
    }),
  );
});
