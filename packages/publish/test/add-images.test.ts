// One version has one content on all architectures: images of files that were changed in between never share its name.
import { expect, test } from 'vitest';
import { addImages } from '../src/publish/add-images.ts';
import type { Input } from '../src/publish/inputs.ts';

const hex = (digit: string): string => digit.repeat(64);
const evidence = { manifest: hex('1'), sbom: hex('2'), provenance: hex('3'), record: hex('4') };
const input = (architecture: string, packaging: string | undefined): { input: Input; evidence: typeof evidence } => ({
  evidence,
  input: {
    file: `/tool-${architecture}.raw`,
    manifest: {
      name: 'tool',
      kind: 'sysext',
      summary: 'a tool',
      version: '1.0',
      upstream: '1.0',
      revision: 0,
      target: 'portable',
      architecture,
      format: 'squashfs',
      file: `tool.portable_1.0_${architecture}.raw`,
      payload: hex(architecture === 'arm64' ? 'a' : 'b'),
      components: [],
      replaces: [],
      conflicts: [],
      requires: [],
      packaging,
    },
  } as unknown as Input,
});

test('another digest of what decides bytes under a published version is refused', () => {
  const before = addImages(undefined, [input('x86-64', hex('c'))], '2026-11-26');
  expect(before.versions[0]?.packaging).toBe(hex('c'));
  expect(() => addImages(before, [input('arm64', hex('d'))], '2026-11-27')).toThrow('tool 1.0 is published with other bytes');
  expect(addImages(before, [input('arm64', hex('c'))], '2026-11-27').versions[0]?.images).toHaveLength(2);
});

test('a version was published on the day of its first image', () => {
  const before = addImages(undefined, [input('x86-64', hex('c'))], '2026-11-26');
  expect(addImages(before, [input('arm64', hex('c'))], '2026-11-27').versions.map(({ published }) => published)).toEqual(['2026-11-26']);
});
