import { join } from 'node:path';
import { ARCHES } from '@flatcar/core/engine';
import { controlOf, makePackage, openFakeArchive, type FakeArchive } from '@flatcar/upstream/test/fake-archive';
import { openFakeInternet, type FakeInternet } from '@flatcar/upstream/test/fake-internet';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { definitionText } from '../src/new/definition-text.ts';
import { planNew } from '../src/new/plan-new.ts';
import type { PackagesRequest } from '../src/new/request.ts';
import { testText } from '../src/new/test-text.ts';

let internet: FakeInternet;
let archive: FakeArchive;

/** A package with what does not come into an image by itself: a service, a user, settings below /etc, plugins. */
const DAEMON: Readonly<Record<string, string>> = {
  'DEBIAN/control':
    'Package: daemon\nVersion: 1.2-3\nArchitecture: all\nMaintainer: a test\nDescription: server of nothing\n It is long.\n',
  'DEBIAN/postinst': '#!/bin/sh\nsetcap cap_net_raw+ep /usr/sbin/daemond\n',
  'usr/sbin/daemond': '#!/bin/sh\nexec /usr/libexec/daemon/start /usr/share/daemon\n',
  'usr/bin/daemonctl': '#!/bin/sh\n',
  'usr/bin/daemon-start': '#!/bin/sh\nexec env PLUGINS=/usr/lib/x86_64-linux-gnu/daemon daemond\n',
  'usr/bin/daemon-hook': '#!/bin/sh\nexec /usr/lib/x86_64-linux-gnu/hooks/5.40.1/run\n',
  'usr/lib/x86_64-linux-gnu/hooks/5.40.1/run': '#!/usr/bin/perl\n',
  'usr/bin/daemon-report': '#!/usr/bin/perl -w\n',
  'usr/lib/systemd/system/daemon.service':
    '[Unit]\nDescription=D\n[Service]\nExecStart=/usr/sbin/daemond -f /opt/x/sbin/y\nExecReload=/bin/kill $MAINPID\nExecStop=/usr/share/daemon/stop\nExecStopPost=-/sbin/absent --quiet\n',
  'usr/lib/tmpfiles.d/daemon.conf': 'd /run/daemon\n',
  'usr/lib/sysusers.d/daemon.conf': 'u! _d - "A daemon" /var/lib/daemon\n',
  'usr/libexec/daemon/start': '#!/bin/sh\n',
  'usr/share/daemon/rules': 'x',
  'usr/share/daemon/same': '-> rules',
  'usr/share/daemon/modules': '-> ../../lib/daemon/absent',
  'usr/share/daemon/stop': '#!/bin/sh\n',
  'usr/share/daemon-examples/x': 'x',
  'etc/daemon/main.conf': 'x\n',
  'etc/default/daemon': 'OPTIONS=\n',
  'etc/init.d/daemon': '#!/bin/sh\n',
  'usr/share/doc/daemon/copyright':
    'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nLicense: ISC\n\nFiles: m4/*\nLicense: permissive\n\nFiles: debian/*\nLicense: GPL-2+\n',
};

/** A package whose scripts make users, folders and configuration, in the ways that Debian's do. */
const CLOCK: Readonly<Record<string, string>> = {
  'DEBIAN/control':
    'Package: clock\nVersion: 4.6-1\nArchitecture: all\nMaintainer: a test\nConflicts: time-daemon, other (<< 2)\nDescription: keeps time\n',
  'DEBIAN/postinst': [
    '#!/bin/sh',
    'USER="_clock"',
    'GROUP=clockers',
    'if [ "$1" = configure ]; then',
    '  addgroup --system $GROUP >/dev/null',
    '  adduser --system \\',
    '    --ingroup ${GROUP} --quiet --gecos "Clock daemon" \\',
    '    --home /var/lib/clock --no-create-home $USER',
    '  useradd --system --comment helper --home-dir /nonexistent --shell /usr/sbin/nologin clock-helper || true',
    '  adduser --quiet _clock adm',
    '  ucf --three-way /usr/share/clock/clock.conf /etc/clock/clock.conf',
    '  [ -e /etc/clock/clock.keys ] || cp /usr/share/clock/clock.keys /etc/clock/clock.keys',
    '  mkdir -p -m 700 /var/lib/clock/db; chown $USER:$GROUP /var/lib/clock/db',
    '  cp -a /var/log/old /var/log/clock',
    'fi',
    '',
  ].join('\n'),
  'usr/sbin/clockd': '#!/bin/sh\n',
  'usr/lib/systemd/system/clock.service':
    '[Unit]\nDescription=C\n[Service]\nUser=_clock\nEnvironmentFile=-/etc/default/clock\nLogsDirectory=clock\nExecStartPre=/usr/share/clock/helper check\nExecStart=!/usr/sbin/clockd\nExecStop=/usr/share/clock/helper stop\n',
  'usr/share/clock/helper': '#!/bin/sh\n',
  'usr/share/clock/clock.conf': 'x\n',
  'usr/share/clock/clock.keys': 'x\n',
  'etc/clock/clock.conf.sample': 'x\n',
  'etc/clock/conf.d/README': 'x\n',
  'etc/default/clock': 'x\n',
  'etc/logrotate.d/clock': 'x\n',
  'etc/init.d/clock': 'x\n',
  'var/lib/clock/': '',
  'var/log/clock/': '',
  'var/spool/clock/': '',
  'usr/share/doc/clock/copyright': 'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nLicense: ISC\n',
};

beforeAll(async () => {
  internet = await openFakeInternet();
  archive = await openFakeArchive(internet);
  const daemon = await makePackage(join(internet.dir, 'daemon'), {
    ...DAEMON,
    'usr/lib/x86_64-linux-gnu/daemon/two.so': 'a plugin that needs nothing',
    'usr/lib/x86_64-linux-gnu/daemon/one.so': await archive.fileOf('liblzma5', 'usr/lib/*/*.so.*.*'),
  });
  const clock = await makePackage(join(internet.dir, 'clock'), CLOCK);
  const doc = { [`usr/share/doc/x/copyright`]: DAEMON['usr/share/doc/daemon/copyright'] ?? '' };
  const meta = await makePackage(join(internet.dir, 'meta'), { 'DEBIAN/control': controlOf('meta'), ...doc });
  const common = await makePackage(join(internet.dir, 'server-common'), {
    'DEBIAN/control': controlOf('server-common'),
    'usr/bin/wrapped': '-> ../share/server-common/wrapper',
    'usr/share/server-common/wrapper': '#!/usr/bin/perl\n',
    'usr/bin/server-helper': '#!/bin/sh\n',
  });
  const server = await makePackage(join(internet.dir, 'server-17'), {
    'DEBIAN/control': controlOf('server-17'),
    'usr/lib/server/17/bin/wrapped': await archive.fileOf('xz-utils', 'usr/bin/xz'),
  });
  const web = await makePackage(join(internet.dir, 'web'), { 'DEBIAN/control': controlOf('web'), ...doc, 'usr/sbin/web': '#!/bin/sh\n' });
  // Its service and its configuration are in another package of the same source.
  const webCommon = await makePackage(join(internet.dir, 'web-common'), {
    'DEBIAN/control': controlOf('web-common'),
    'usr/lib/systemd/system/web.service': '[Unit]\nDescription=W\n[Service]\nExecStart=/usr/sbin/web\n',
    'etc/web/web.conf': '# user proxy;\nuser www-data;\nworkers auto;\n',
  });
  const lettered = await makePackage(join(internet.dir, 'lettered'), {
    'DEBIAN/control': controlOf('lettered'),
    'usr/bin/lettered': '#!/bin/sh\nexec /usr/libexec/lettered/start /usr/share/lettered\n',
    'usr/libexec/lettered/start': '#!/bin/sh\n',
    ...Object.fromEntries(['a', 'b', 'c', 'd', 'e'].map((name) => [`usr/share/lettered/${name}`, '#!/usr/bin/absent\n'])),
    'usr/share/lettered/f': 'x',
  });
  for (const arch of ARCHES) {
    archive.add(arch, 'daemon', '1.2-3', 'pool/main/d/daemon/daemon_1.2-3_all.deb', daemon, 'unneeded');
    archive.add(arch, 'meta', '17+278', 'pool/main/m/meta/meta_17+278_all.deb', meta, 'server-17');
    archive.add(arch, 'server-common', '278', 'pool/main/s/server-common/server-common_278_all.deb', common, '');
    archive.add(arch, 'server-17', '17.6-1', 'pool/main/s/server-17/server-17_17.6-1_all.deb', server, 'server-common, xz-utils');
    archive.add(arch, 'web', '1.26.3-1', 'pool/main/w/web/web_1.26.3-1_all.deb', web, 'web-common');
    archive.add(arch, 'web-common', '1.26.3-1', 'pool/main/w/web/web-common_1.26.3-1_all.deb', webCommon, '', 'web');
    archive.add(arch, 'lettered', '3.5a-1', 'pool/main/l/lettered/lettered_3.5a-1_all.deb', lettered, '');
    archive.add(arch, 'clock', '4.6-1', 'pool/main/c/clock/clock_4.6-1_all.deb', clock, '');
  }
});
afterAll(() => internet.close());

describe('a new extension from packages of Debian', () => {
  const plan = (more: Partial<PackagesRequest> = {}): { plan: ReturnType<typeof planNew>; notes: string[] } => {
    const notes: string[] = [];
    const ask = {
      text: async (question: string, flag: string, proposed?: string): Promise<string> =>
        proposed ?? Promise.reject(new Error(`${question} ${flag}`)),
      choose: () => Promise.reject(new Error('nothing to choose')),
      note: (text: string) => void notes.push(text),
    };
    const request: PackagesRequest = {
      name: 'daemon',
      origin: 'packages',
      track: 'newest',
      suite: 'test',
      packages: ['daemon'],
      version: '1.2',
      license: 'ISC',
      ...more,
    };
    return { plan: planNew(request, ask, archive.context()), notes };
  };
  beforeEach(() => archive.serve());

  test('programs and summary are found, and the rest of the packages is reported', async () => {
    const { plan: made, notes } = plan({ programs: ['daemonctl', 'daemond'] });
    expect(await made).toMatchObject({ programs: ['daemonctl', 'daemond'], summary: 'daemon, server of nothing' });
    expect(await made).not.toHaveProperty('unit');
    expect(notes).toContainEqual(expect.stringMatching(/have daemon\.service: pass one as --unit/));
  });
  test('folders that a chosen program reads are in the definition, and others are not', async () => {
    const { plan: made, notes } = plan({ programs: ['daemond'] });
    expect((await made).debian).toMatchObject({ data: ['usr/libexec/daemon/start', 'usr/share/daemon/**', '!usr/share/daemon/modules'] });
    expect(notes).toContainEqual("added: data: ['usr/libexec/daemon/start'] (1 files, 0.0 MiB), which usr/bin/daemond reads");
    expect((await plan({ programs: ['daemonctl'] }).plan).debian).toMatchObject({ data: [], plugins: [] });
    expect(definitionText(await made)).toContain("data: ['usr/libexec/daemon/start', 'usr/share/daemon/**', '!usr/share/daemon/modules']");
    expect(notes).toContainEqual("left out: usr/share/daemon/modules: is a link to '../../lib/daemon/absent', which no package has");
  });
  test('a plugin that needs a library of no dependency is left out, with a note', async () => {
    const { plan: made, notes } = plan({ programs: ['daemon-start'] });
    const of = (await made).debian;
    expect(of?.plugins).toEqual(['usr/lib/{triplet}/daemon/**', '!usr/lib/{triplet}/daemon/one.so']);
    expect(notes).toContainEqual(
      expect.stringMatching(/^left out: usr\/lib\/x86_64-linux-gnu\/daemon\/one\.so: needs libc\.so\.6, which no package/),
    );
  });
  test('a program that the named packages do not have is refused', async () => {
    await expect(plan({ programs: ['unneeded-tool'] }).plan).rejects.toMatchObject({
      message: 'neither the packages nor their dependencies have a program unneeded-tool',
      next: expect.stringContaining('daemonctl, daemond'),
    });
  });
  test('a package that only has dependencies is refused, with the package that has the program', async () => {
    await expect(plan({ packages: ['meta'], version: undefined, programs: ['wrapped'] }).plan).rejects.toMatchObject({
      message: 'the package meta only has dependencies: wrapped 17.6 is in server-17',
      next: 'name that package first: --debian server-17',
    });
  });
  test('the program behind a script that nothing can run is used; programs may be in dependencies', async () => {
    const { plan: made } = plan({ packages: ['server-17'], version: undefined, programs: ['wrapped', 'server-helper'] });
    const { version, programs, debian: of } = await made;
    expect(version).toBe('17.6');
    expect(programs).toEqual(['wrapped', 'server-helper']);
    expect(of?.programs).toEqual(['usr/lib/server/17/bin/wrapped', 'server-helper']);
  });
  test('packages with a version that no image can have become a dated extension, with a note', async () => {
    const { plan: made, notes } = plan({ packages: ['lettered'], version: undefined, programs: ['lettered'] });
    const of = await made;
    expect(of.version).toMatch(/^20\d\d\.\d\d\.\d\d$/);
    expect(of.debian).toMatchObject({ dated: true, versions: { lettered: '3.5a' } });
    expect(definitionText(of)).toContain("versions: { kind: 'date', track: 'newest' }");
    expect(notes).toContainEqual(expect.stringContaining('lettered is version 3.5a'));
    // One note for all files with the same problem.
    expect(notes.filter((note) => note.includes('interpreter'))).toEqual([
      expect.stringMatching(
        /^left out: usr\/share\/lettered\/a, usr\/share\/lettered\/b, usr\/share\/lettered\/c and 2 more: its interpreter/,
      ),
    ]);
    expect(testText(of, [{ run: ['lettered', '-V'], says: 'lettered ', numbered: true }])).toContain(
      String.raw`{ run: ['lettered', '-V'], says: /lettered \d/ }`,
    );
    // A date that somebody asks for does the same, of a package with a plain version too.
    expect(await plan({ version: '2026.11.27', programs: ['daemond'] }).plan).toMatchObject({
      version: '2026.11.27',
      debian: { dated: true },
    });
  });
  test('a name that is too long for the folder of libraries is shortened for the component', async () => {
    const long = await plan({ name: 'exporter-of-daemons', programs: ['daemonctl'] }).plan;
    expect(long.debian?.component).toBe('exporter-of');
    expect(definitionText(long)).toContain("packaged('exporter-of', version,");
    expect((await plan({ name: 'averyveryverylongname', programs: ['daemonctl'] }).plan).debian?.component).toBe('averyveryverylon');
    expect((await plan({ name: 'exporter-daemons', programs: ['daemonctl'] }).plan).debian?.component).toBe('exporter-daemons');
  });
  test('what is left out is waived for both architectures and for the next versions', async () => {
    const { plan: made } = plan({ programs: ['daemon-hook'] });
    expect((await made).debian?.waive).toEqual({
      'compiled-in-path:usr/lib/*/hooks/*/run': expect.stringMatching(/^left out: its interpreter/),
    });
  });
  test('a script that nothing can run is refused; lost file capabilities are reported', async () => {
    await expect(plan({ programs: ['daemonctl', 'daemon-report'] }).plan).rejects.toMatchObject({
      message: "'daemon-report' is a script for /usr/bin/perl, which is neither in the image nor on Flatcar",
    });
    const { plan: made, notes } = plan({ programs: ['daemond'] });
    await made;
    expect(notes).toContainEqual(expect.stringContaining('daemond the file capabilities cap_net_raw+ep'));
  });
  test("a package's own service comes with its user, a unit that makes it first, its folders and its configuration", async () => {
    const { plan: made, notes } = plan({ programs: ['daemonctl'], unit: { exec: 'daemon.service', condition: '/etc/daemon/main.conf' } });
    const { unit, files, programs, machine, debian: of } = await made;
    expect(programs).toEqual(['daemonctl', 'daemond']); // the unit runs it
    expect(of?.data).toContain('usr/share/daemon/**'); // and ExecStop is in there
    expect(machine).toEqual({ active: ['daemon.service'] });
    expect(unit).toEqual({
      name: 'daemon.service',
      text: '[Unit]\nRequires=daemon-user.service\nAfter=daemon-user.service\nConditionPathExists=/etc/daemon/main.conf\nDescription=D\n[Service]\nExecStart=/usr/bin/daemond -f /opt/x/sbin/y\nExecReload=/usr/bin/kill $MAINPID\nExecStop=/usr/share/daemon/stop\n',
    });
    const texts = new Map(files?.map(({ path, text }) => [path, text]));
    expect([...texts.keys()].toSorted()).toEqual([
      'usr/lib/systemd/system/daemon-user.service',
      'usr/lib/sysusers.d/daemon.conf',
      'usr/lib/tmpfiles.d/daemon.conf',
      'usr/share/daemon/etc/daemon/main.conf',
    ]);
    expect(texts.get('usr/lib/sysusers.d/daemon.conf')).toBe('u _d - "A daemon" /var/lib/daemon\n'); // `u!` is of systemd 257
    expect(texts.get('usr/lib/tmpfiles.d/daemon.conf')).toBe(
      'd /run/daemon\nd /var/lib/daemon 0755 _d _d -\nC /etc/daemon/main.conf - - - - /usr/share/daemon/etc/daemon/main.conf\n',
    );
    expect(texts.get('usr/lib/systemd/system/daemon-user.service')).toMatch(
      /^Type=oneshot\nRemainAfterExit=yes\nExecStart=\/usr\/bin\/systemd-sysusers daemon\.conf\nExecStart=\/usr\/bin\/systemd-tmpfiles --create daemon\.conf$/m,
    );
    expect(notes).toContainEqual('copied to /etc on the first boot, unless it exists there: /etc/daemon/main.conf');
    expect(notes).toContainEqual(
      'left out of daemon.service: ExecStopPost=-/usr/bin/absent --quiet, because nothing in the image or on Flatcar can run it',
    );
  });
  test('the image does what maintainer scripts do: users, groups, folders, configuration, and a conflict with the host', async () => {
    const { plan: made } = plan({ name: 'clock', packages: ['clock'], version: '4.6', unit: { exec: 'clock.service' } });
    const { unit, files, debian: of, license } = await made;
    expect(license).toBe('ISC');
    const texts = new Map(files?.map(({ path, text }) => [path, text]));
    expect(texts.get('usr/lib/sysusers.d/clock.conf')?.split('\n').slice(1)).toEqual([
      'g clockers -',
      'u _clock -:clockers "Clock daemon" /var/lib/clock',
      'u clock-helper - "helper" -',
      'm _clock adm',
      '',
    ]);
    expect(texts.get('usr/lib/tmpfiles.d/clock.conf')?.split('\n')).toEqual([
      'd /var/lib/clock 0755 _clock clockers -',
      'd /var/lib/clock/db 0700 _clock clockers -',
      'd /var/spool/clock 0755 _clock clockers -',
      'C /etc/clock/clock.conf - - - - /usr/share/clock/clock.conf',
      'C /etc/clock/clock.keys 0640 root clockers - /usr/share/clock/clock.keys',
      'C /etc/clock/conf.d/README - - - - /usr/share/clock/etc/clock/conf.d/README',
      'C /etc/default/clock - - - - /usr/share/clock/etc/default/clock',
      '',
    ]);
    // The unit runs the helper twice.
    expect(of?.data).toEqual(['usr/share/clock/clock.conf', 'usr/share/clock/clock.keys', 'usr/share/clock/helper']);
    expect(unit?.text).toMatch(
      /^\[Unit\]\nConflicts=systemd-timesyncd\.service\nAfter=systemd-timesyncd\.service\nRequires=clock-user\.service\nAfter=clock-user\.service\n/,
    );
    expect(testText(await made, [])).toContain("machine: { active: ['clock.service'], runsAs: { 'clock.service': '_clock' } }");
  });
  test('users that every Debian has are created if a configuration names one of them', async () => {
    const { files, unit } = await plan({
      packages: ['web'],
      version: '1.26.3',
      programs: ['web'],
      name: 'web',
      unit: { exec: 'web.service' },
    }).plan;
    const texts = new Map(files?.map(({ path, text }) => [path, text]));
    expect(texts.get('usr/lib/sysusers.d/web.conf')).toBe(
      '# Every Debian has it, and no Flatcar.\nu www-data - "A user of Debian" /var/www\n',
    );
    expect(unit?.text).toContain('Requires=web-user.service\n');
    expect([...texts.keys()]).toContain('usr/lib/systemd/system/web-user.service');
  });
  test('a missing service is an error that lists the existing ones', async () => {
    await expect(plan({ unit: { exec: 'other.service' } }).plan).rejects.toThrow('the packages have no other.service');
  });
});
