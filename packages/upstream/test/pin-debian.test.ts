import { readFile, rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ARCHES, debian, describePayload, loadExtension, packaged, readPins, upstreamVersion, type Arch } from '@flatcar/core/engine';
import * as openpgp from 'openpgp';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { checkPins } from '../src/pin/check.ts';
import { pinVersion, type PinRequest, type PinResult } from '../src/pin/pin.ts';
import { listVersions } from '../src/sources/versions.ts';
import { applyBump, findBumps } from '../src/update/bump.ts';
import { findOutdated } from '../src/update/outdated.ts';
import {
  controlOf,
  DATE,
  DAY,
  HOST,
  makePackage,
  NEXT_DATE,
  NEXT_STAMP,
  openFakeArchive,
  STAMP,
  type FakeArchive,
} from './fake-archive.ts';
import { extensionOf, openFakeInternet, sha, type FakeInternet } from './fake-internet.ts';

const PROOF = 'Debian archive index, signed by the archive key';
const core = pathToFileURL(join(import.meta.dirname, '../../core/src/engine.ts')).href;
const DEFINITION = `import { debian, defineExtension, packaged } from '${core}';
export default defineExtension({
  name: 'tool',
  summary: 'a tool',
  versions: { kind: 'debian', package: 'test/main/xz-utils', track: 'newest' },
  components: ({ version }) => [packaged('tool', version, debian(['xz-utils'], { programs: ['xz'], suite: 'test' }))],
});
`;
let internet: FakeInternet;
let archive: FakeArchive;
let dir: string;

function pin(more: Partial<PinRequest> = {}): Promise<PinResult> {
  const context = archive.context();
  const origin = debian(['xz-utils'], { programs: ['xz'], suite: 'test' });
  const extension = extensionOf([], { components: (v) => [packaged('tool', v['version'] ?? '', origin)] });
  return pinVersion({ dir, extension, version: '5.8.1', licenses: { tool: '0BSD' }, ...more }, context);
}
const pinned = async (): Promise<ReturnType<typeof readPins>[string]> => {
  const found = readPins(await readFile(join(dir, 'pins.json'), 'utf8'), '')['5.8.1'];
  if (found === undefined) throw new Error('not pinned');
  return found;
};

beforeAll(async () => {
  internet = await openFakeInternet();
  dir = join(internet.dir, 'tool');
  archive = await openFakeArchive(internet);
  const licensed = await makePackage(join(internet.dir, 'licensed'), {
    'DEBIAN/control': controlOf('licensed'),
    'usr/bin/licensed': '#!/bin/sh\n',
    'usr/share/doc/licensed/copyright':
      'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nLicense: ISC\n\nFiles: m4/*\nLicense: permissive\n\nFiles: debian/*\nLicense: GPL-2+\n',
  });
  for (const arch of ARCHES) archive.add(arch, 'licensed', '1.2-3', 'pool/main/l/licensed/licensed_1.2-3_all.deb', licensed);
});
afterAll(() => internet.close());
beforeEach(async () => {
  internet.events.length = 0;
  await rm(dir, { recursive: true, force: true });
});

test('packages are pinned with those that their programs need, for both architectures, by the signed index', async () => {
  await archive.serve();
  const { written, lines } = await pin();
  expect(written).toEqual([join(dir, 'pins.json')]);
  const wanted = ARCHES.flatMap((arch) => archive.paths.get(arch) ?? []);
  expect(wanted).toHaveLength(8);
  expect(lines.map(({ locator }) => locator).toSorted()).toEqual(wanted.map((path) => `debian:${path}`).toSorted());
  const { bytes, snapshot } = await pinned();
  expect(bytes).toEqual(
    Object.fromEntries(
      wanted.map((path) => [
        `debian:${path}`,
        { sha256: sha(archive.pool.get(path) ?? ''), size: archive.pool.get(path)?.length, proof: PROOF },
      ]),
    ),
  );
  expect(snapshot).toBe(STAMP);
  // The same again is the same, and writes nothing.
  expect((await pin()).written).toEqual([]);
});

test('a package that the definition names is pinned, whatever of it is in the image', async () => {
  await archive.serve();
  const origin = debian(['unneeded', 'xz-utils'], { programs: ['xz'], suite: 'test' });
  await pin({ extension: extensionOf([], { components: (v) => [packaged('tool', v['version'] ?? '', origin)] }), version: '2026.11.27' });
  const lock = readPins(await readFile(join(dir, 'pins.json'), 'utf8'), '')['2026.11.27'];
  expect(Object.keys(lock?.bytes ?? {})).toContain('debian:pool/main/u/unneeded/unneeded_1_all.deb');
});

test('an index that was changed, or that another key signed, pins nothing', async () => {
  const other = await openpgp.generateKey({ type: 'ecc', userIDs: [{ name: 'Another' }], format: 'object' });
  for (const about of [
    { tamper: (text: string): string => text.replace(DATE.toUTCString(), NEXT_DATE.toUTCString()) },
    { key: other.privateKey },
  ]) {
    await archive.serve(about);
    await expect(pin()).rejects.toThrow('the package index has no good signature');
    await expect(readFile(join(dir, 'pins.json'))).rejects.toThrow('ENOENT');
  }
});

test('a list of packages that is not the one of the signed index pins nothing', async () => {
  await archive.serve();
  const [url = '', list] = [...internet.served].find(([key]) => key.includes('binary-arm64/by-hash')) ?? [];
  const changed = Buffer.from(list as Buffer);
  changed.writeUInt8(changed.readUInt8(20) ^ 1, 20);
  internet.served.set(url, changed);
  await rm(join(internet.dir, 'store', 'blobs'), { recursive: true, force: true });
  await expect(pin()).rejects.toThrow('wrong digest');
  await expect(readFile(join(dir, 'pins.json'))).rejects.toThrow('ENOENT');
});

test('an index that has expired, is too old, or is older than the one that was pinned by, pins nothing and raises nothing', async () => {
  await archive.serve({ date: NEXT_DATE.toUTCString() });
  await pin();
  const before = await readFile(join(dir, 'pins.json'), 'utf8');
  const until = new Date(Date.now() - DAY).toUTCString();
  const old = new Date(Date.now() - 400 * DAY).toUTCString();
  for (const [about, message] of [
    [{ until }, `the package index expired on ${until}`],
    [{ date: old }, `the package index is of ${old}, more than 365 days ago`],
    [{}, `the index of test is of ${STAMP}, older than the pinned packages (${NEXT_STAMP})`],
  ] as const) {
    await archive.serve(about);
    await expect(pin({ revision: true })).rejects.toThrow(message);
  }
  expect(await readFile(join(dir, 'pins.json'), 'utf8')).toBe(before);
  // The positive control.
  await archive.serve({ date: NEXT_DATE.toUTCString() });
  expect((await pin({ revision: true })).lines.map(({ change }) => change)).not.toContain('other');
});

test('packages that changed under a pinned version need --revision', async () => {
  await archive.serve();
  await pin();
  const [first = ''] = Object.keys((await pinned()).bytes);
  const lock = JSON.parse(await readFile(join(dir, 'pins.json'), 'utf8')) as Record<string, { bytes: Record<string, { sha256: string }> }>;
  const there = lock['5.8.1']?.bytes[first];
  if (there !== undefined) there.sha256 = sha('what the archive had before');
  await writeFile(join(dir, 'pins.json'), JSON.stringify(lock));
  const refused = pin();
  await expect(refused).rejects.toThrow('tool 5.8.1 is pinned with other packages');
  await expect(refused).rejects.toThrow(basename(first, '.deb'));
  expect((await pin({ revision: true })).lines.find(({ locator }) => locator === first)?.change).toBe('other');
  expect(await pinned()).toMatchObject({ revision: 1 });
});

/** The list of a security suite in which a package has another version, under the bytes that are there. */
function withSecurity(name: string, version: string): (arch: Arch) => string[] {
  return (arch) =>
    (archive.index.get(arch) ?? [])
      .filter((entry) => entry.startsWith(`Package: ${name}\n`))
      .map((entry) => {
        const path = /^Filename: (.*)$/m.exec(entry)?.[1] ?? '';
        const to = `pool/updates/${path.replace(/^pool\//, '').replace(/_[^_]+_/, `_${version}_`)}`;
        internet.served.set(`${HOST}-security/${to}`, archive.pool.get(path) ?? '');
        return entry.replace(/^Version: .*$/m, `Version: ${version}`).replace(path, to);
      });
}

describe('a version that security updates raised', () => {
  const raised = async (): Promise<void> => archive.serve({ security: withSecurity('xz-utils', '5.9.0-1~deb13u1') });

  test('the version source lists what would be pinned', async () => {
    await raised();
    const source = { kind: 'debian', package: 'test/main/xz-utils', track: 'newest' } as const;
    expect(await listVersions(source, archive.context())).toEqual(['5.9.0']);
  });
  test('a version with letters is an error that names it', async () => {
    await archive.serve({ security: withSecurity('xz-utils', '5.9a-1') });
    const source = { kind: 'debian', package: 'test/main/xz-utils', track: 'newest' } as const;
    await expect(listVersions(source, archive.context())).rejects.toThrow(
      'test has xz-utils 5.9a, which is not a version of digits and dots',
    );
  });
  test('pin refuses it under the older version, says which it is, and writes nothing', async () => {
    await raised();
    await expect(pin()).rejects.toMatchObject({
      message: 'tool 5.8.1 contains the package xz-utils 5.9.0-1~deb13u1, which is version 5.9.0',
      next: 'pin that version: flatcar-ext pin tool@5.9.0',
    });
    await expect(pin({ revision: true })).rejects.toThrow('which is version 5.9.0');
    await expect(readFile(join(dir, 'pins.json'))).rejects.toThrow('ENOENT');
    await pin({ version: '5.9.0' });
    expect(await readFile(join(dir, 'pins.json'), 'utf8')).toContain('pool/updates/');
  });
  test('pin takes the version that the error names, and bump finds it', async () => {
    await archive.serve();
    await pin();
    await writeFile(join(dir, 'extension.ts'), DEFINITION);
    await raised();
    const loaded = await loadExtension(dir);
    const { rows } = await findOutdated([loaded], archive.context());
    expect(rows[0]).toMatchObject({ of: 'version', current: '5.8.1', newest: '5.9.0', outdated: true });
    const { bumps, keep } = await findBumps(loaded, archive.context());
    expect(bumps.map(({ version }) => version)).toEqual(['5.9.0']);
    const [bump] = bumps;
    if (bump === undefined) throw new Error('no bump');
    await applyBump(dir, bump, { keep, keepOld: false }, archive.context());
    expect(Object.keys(readPins(await readFile(join(dir, 'pins.json'), 'utf8'), ''))).toEqual(['5.9.0']);
    // The package that was pinned before cannot be taken for another version.
    await expect(pin()).rejects.toThrow('which is version 5.9.0');
  });
  test('a lock whose packages are another version is not built', async () => {
    await archive.serve();
    await pin();
    const pins = JSON.parse(await readFile(join(dir, 'pins.json'), 'utf8')) as Record<string, unknown>;
    await writeFile(join(dir, 'pins.json'), JSON.stringify({ '5.7.0': pins['5.8.1'] }));
    await writeFile(join(dir, 'extension.ts'), DEFINITION);
    const request = { version: '5.7.0', arch: 'x86-64', format: 'squashfs', profile: 'fast' } as const;
    await expect(describePayload(await loadExtension(dir), request, 'x86-64')).rejects.toMatchObject({
      message: expect.stringMatching(/^tool 5\.7\.0 contains the package xz-utils 5\.8\.1-\S+, which is version 5\.8\.1$/),
      next: expect.stringContaining('flatcar-ext pin tool@5.8.1'),
    });
  });
});

test.each([
  ['1:2.17.6-0+deb13u1', '2.17.6'],
  ['5.4.9-1~deb13u1', '5.4.9'],
  ['1.9.3+dfsg-6+b2', '1.9.3'],
  ['1.9.3.ds1-2', '1.9.3'],
  ['20240203+deb13u1', '20240203'],
  ['1.2+b1', '1.2'],
  ['2.0+really1.9-1', '1.9'],
  ['10.0.13+ds-0+deb13u1', '10.0.13'],
])('%s is version %s of upstream', (version, upstream) => {
  expect(upstreamVersion(version)).toBe(upstream);
});

describe('packages that the archive has in newer versions', () => {
  const listed = new Map<Arch, string[]>();
  /** Another version of a package in the list; its bytes are those that are there. */
  const replace = (name: string, version: string): void => {
    for (const arch of ARCHES) {
      const entries = (archive.index.get(arch) ?? []).map((entry) => {
        if (!entry.startsWith(`Package: ${name}\n`)) return entry;
        const path = /^Filename: (.*)$/m.exec(entry)?.[1] ?? '';
        const to = path.replace(/_[^_]+_/, `_${version}_`);
        archive.pool.set(to, archive.pool.get(path) ?? Buffer.of());
        return entry.replace(/^Version: .*$/m, `Version: ${version}`).replace(path, to);
      });
      archive.index.set(arch, entries);
    }
  };
  beforeEach(async () => {
    for (const arch of ARCHES) listed.set(arch, archive.index.get(arch) ?? []);
    await archive.serve();
    await pin();
    await writeFile(join(dir, 'extension.ts'), DEFINITION);
  });
  afterEach(() => {
    for (const arch of ARCHES) archive.index.set(arch, listed.get(arch) ?? []);
  });

  test('nothing is outdated while the archive has what is pinned', async () => {
    const { rows, errors } = await findOutdated([await loadExtension(dir)], archive.context());
    expect(errors).toEqual([]);
    expect(rows.map(({ of, outdated }) => [of, outdated])).toEqual([
      ['version', false],
      ['packages', false],
    ]);
    expect((await findBumps(await loadExtension(dir), archive.context())).bumps).toEqual([]);
  });
  test('a fixed library is a revision of the same version, and in the changelog', async () => {
    replace('liblzma5', '99.1-1+deb13u1');
    await archive.serve({ date: NEXT_DATE.toUTCString() });
    const { rows } = await findOutdated([await loadExtension(dir)], archive.context());
    const [, row] = rows;
    expect(row).toMatchObject({ of: 'packages', lead: '5.8.1', current: STAMP, newest: NEXT_STAMP, outdated: true });
    expect(row?.packages).toEqual([{ name: 'liblzma5', from: expect.any(String), to: '99.1-1+deb13u1' }]);
    const { bumps, keep } = await findBumps(await loadExtension(dir), archive.context());
    const [bump, ...more] = bumps;
    if (bump === undefined) throw new Error('no bump');
    expect(more).toEqual([]);
    const { changes, pinned: result } = await applyBump(dir, bump, { keep, keepOld: false }, archive.context());
    expect(changes).toEqual([expect.stringMatching(/^liblzma5 \S+ → 99\.1-1\+deb13u1$/)]);
    expect(result.revision).toBe(1);
    expect(await pinned()).toMatchObject({ revision: 1, snapshot: NEXT_STAMP });
    expect(await readFile(join(dir, 'CHANGELOG.md'), 'utf8')).toMatch(/^# Changes of tool\n\n## 5\.8\.1-1 \(.*\)\n\n- liblzma5 /);
    expect((await findBumps(await loadExtension(dir), archive.context())).bumps).toEqual([]);
    // Another one before this is released: the revision is not raised again, and the changelog has one entry with both.
    replace('libgcc-s1', '99.1-1');
    await archive.serve({ date: NEXT_DATE.toUTCString() });
    const again = await findBumps(await loadExtension(dir), archive.context());
    const [second] = again.bumps;
    if (second === undefined) throw new Error('no bump');
    const options = { keep: again.keep, keepOld: false, revision: 1 };
    expect((await applyBump(dir, second, options, archive.context())).pinned.revision).toBe(1);
    const text = await readFile(join(dir, 'CHANGELOG.md'), 'utf8');
    expect(text.match(/^## /gm)).toHaveLength(1);
    expect(text).toMatch(/^# Changes of tool\n\n## 5\.8\.1-1 \(.*\)\n\n- liblzma5 .*\n- libgcc-s1 .*\n$/);
  });
  test('indexes that have expired, or are older than the pins, are an error of outdated and bump, and no verdict of a check', async () => {
    const until = new Date(Date.now() - DAY).toUTCString();
    const old = new Date(DATE.getTime() - DAY).toUTCString();
    for (const [about, message] of [
      [{ until }, `the package index expired on ${until}`],
      [{ date: old, securityDate: old }, 'older than the pinned packages'],
    ] as const) {
      await archive.serve(about);
      const loaded = await loadExtension(dir);
      const { rows, errors } = await findOutdated([loaded], archive.context());
      expect(JSON.stringify(errors)).toContain(message);
      expect(rows.some(({ of }) => of === 'packages')).toBe(false);
      await expect(findBumps(loaded, archive.context())).rejects.toThrow(message);
    }
    await archive.serve({ until });
    const { extension } = await loadExtension(dir);
    const checked = await checkPins({ dir, extension, version: '5.8.1' }, archive.context());
    expect(checked.map(({ state }) => state)).toEqual(checked.map(() => 'unreached'));
    await archive.serve();
    const again = await checkPins({ dir, extension, version: '5.8.1' }, archive.context());
    expect(again.map(({ state }) => state)).toEqual(checked.map(() => 'same'));
  });
  test('an older archive, such as a stale mirror, changes nothing', async () => {
    replace('liblzma5', '0.1-1');
    await archive.serve();
    const { rows } = await findOutdated([await loadExtension(dir)], archive.context());
    expect(rows.at(-1)).toMatchObject({ of: 'packages', outdated: false, packages: [] });
  });
});

test('an unclear license is an error with the names in the copyright file', async () => {
  const extension = extensionOf([], {
    components: (v) => [packaged('tool', v['version'] ?? '', debian(['licensed'], { programs: ['licensed'], suite: 'test' }))],
  });
  await archive.serve();
  const pinning = pinVersion({ dir, extension, version: '1.2' }, archive.context());
  await expect(pinning).rejects.toThrow(
    'the licence of tool is unknown: usr/share/doc/licensed/copyright of the package names ISC, permissive,',
  );
});
