import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { readTree } from '../src/image/tree.ts';
import { checkCompatibility, hostUsers, type HostSubject } from '../src/lint/compatibility.ts';
import { RULES } from '../src/lint/rules/table.ts';
import type { HostRequirements } from '../src/model/payload.ts';
import type { Release } from '../src/model/target.ts';

const RELEASE: Release = {
  number: '4593.2.5',
  channel: 'stable',
  date: '2026-08-13',
  arches: ['x86-64', 'arm64'],
  kernel: '6.12.102',
  systemd: '257.9',
  glibc: '2.41',
  containerd: '1.7.30',
  estimated: false,
  mergeStage: 'system',
  filesystems: ['squashfs'],
  format: 'squashfs',
};

const NOTHING: HostRequirements = { systemd: '252', libraries: [] };
const subject = (needs: Partial<HostRequirements>, more: Partial<HostSubject> = {}): HostSubject => ({
  needs: { ...NOTHING, ...needs },
  components: [{ name: 'tool', version: '1.0' }],
  ...more,
});
const kubelet = (version: string): Partial<HostSubject> => ({ components: [{ name: 'kubelet', version }] });

test.each<[string, HostSubject, Release, string | undefined, string | undefined]>([
  ['needs nothing', subject({}), RELEASE, undefined, undefined],
  ['needs the C library of the release', subject({ glibc: '2.41' }), RELEASE, undefined, undefined],
  ['needs a newer C library', subject({ glibc: '2.42' }), RELEASE, 'needs-glibc', 'needs glibc 2.42; Flatcar 4593.2.5 has 2.41'],
  ['needs a C library of two digits less', subject({ glibc: '2.9' }), RELEASE, undefined, undefined],
  ['needs the systemd of the release', subject({ systemd: '257.9' }), RELEASE, undefined, undefined],
  ['needs a newer systemd', subject({ systemd: '258' }), RELEASE, 'needs-systemd', 'needs systemd 258; Flatcar 4593.2.5 has 257.9'],
  ['has modules for the kernel of the release', subject({ kernel: '6.12.102-flatcar' }), RELEASE, undefined, undefined],
  [
    'has modules for another kernel',
    subject({ kernel: '6.12.10-flatcar' }),
    RELEASE,
    'needs-kernel',
    'has modules for kernel 6.12.10-flatcar; Flatcar 4593.2.5 has 6.12.102',
  ],
  ['needs libraries of the release', subject({ libraries: ['libz.so.1'] }), RELEASE, undefined, undefined],
  [
    'has a kubelet for containerd 2',
    subject({}, kubelet('1.38.0')),
    RELEASE,
    'needs-containerd',
    'kubelet 1.38.0 needs containerd 2.0; Flatcar 4593.2.5 has 1.7.30',
  ],
  ['has a kubelet for containerd 1', subject({}, kubelet('1.37.9')), RELEASE, undefined, undefined],
  ['has a kubelet, on containerd 2', subject({}, kubelet('1.38.0')), { ...RELEASE, containerd: '2.0.0' }, undefined, undefined],
  ['has a kubelet, on an unknown containerd', subject({}, kubelet('1.38.0')), { ...RELEASE, containerd: undefined }, undefined, undefined],
  ['requires the extension containerd', subject({}, { ...kubelet('1.38.0'), requires: ['containerd'] }), RELEASE, undefined, undefined],
])('on a release, an image that %s', (_, image, release, rule, what) => {
  expect(checkCompatibility(image, release)).toEqual(
    rule === undefined ? [] : [expect.objectContaining({ rule, what, level: 'error', fix: RULES[rule]?.fix })],
  );
});

test('all requirements that a release does not meet are reported together', () => {
  const found = checkCompatibility(subject({ glibc: '2.99', systemd: '999', kernel: '7.0.0' }, kubelet('1.40')), RELEASE);
  expect(found.map(({ rule }) => rule)).toEqual(['needs-glibc', 'needs-systemd', 'needs-containerd', 'needs-kernel']);
});

test.each<[string, HostSubject, string | undefined]>([
  ['needs nothing', subject({ glibc: '2.99', systemd: '999' }, kubelet('1.40')), undefined],
  ['needs libraries', subject({ libraries: ['libz.so.1', 'libc.so.6'] }), 'libz.so.1, libc.so.6'],
  ['has kernel modules', subject({ kernel: '6.12.102' }), '6.12.102'],
  ['needs libraries and has kernel modules', subject({ libraries: ['libz.so.1'], kernel: '6.12.102' }), 'libz.so.1, 6.12.102'],
])('a portable image that %s', (_, image, missing) => {
  const what = `a portable image must not need the host's libraries or kernel (${missing ?? ''})`;
  const wanted = missing === undefined ? [] : [expect.objectContaining({ rule: 'portable-needs-host', what })];
  expect(checkCompatibility(image, 'portable')).toEqual(wanted);
});

test('the kernel modules that keep an image from being portable are named, and not their folders', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'compatibility-test-'));
  try {
    const folder = 'usr/lib/modules/6.12.102-flatcar/extra';
    await mkdir(join(dir, folder), { recursive: true });
    await writeFile(join(dir, folder, 'x.ko'), 'not an ELF file');
    expect(await hostUsers(await readTree(dir, new Map()))).toEqual([
      expect.objectContaining({
        rule: 'portable-needs-host',
        path: `${folder}/x.ko`,
        what: 'is for kernel 6.12.102-flatcar; a portable image must not need one',
      }),
    ]);
  } finally {
    await rm(dir, { recursive: true });
  }
});
