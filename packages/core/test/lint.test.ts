import { chmod, copyFile, glob, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Arch, archWords, hostArch } from '../src/model/arch.ts';
import { debian } from '../src/definition/builders.ts';
import { lintImage, lintNeighbours, lintTree, ruleOf, type LintSubject } from '../src/lint/lint.ts';
import { chooseFiles } from '../src/origins/debian/choose.ts';
import { writeRelocated } from '../src/origins/debian/relocate.ts';
import { IMAGE_RULES, RULES } from '../src/lint/rules/table.ts';
import { openStore } from '../src/store/store.ts';
import { openTools } from '../src/tools/tools.ts';
import type { Finding } from '../src/model/finding.ts';
import type { TreeEntry } from '../src/model/payload.ts';
import type { Target } from '../src/model/target.ts';
import { waiveFindings } from '../src/lint/waivers.ts';
import { makeImage, type ImageContent } from './helpers/image.ts';
import { targetOf } from './helpers/targets.ts';

const store = openStore();
const tools = openTools(store);
const release = targetOf('4593.2.5');
const host = hostArch();
const other: Arch = host === 'arm64' ? 'x86-64' : 'arm64';
const unit = 'usr/lib/systemd/system/demo.service';

let dir: string;
/** A real dynamic program of this host's architecture, which needs a GLIBC of the pinned Debian. */
let program: string;
/** The same with a loader, or a search path, that exist on the build machine only. */
let foreignLoader: string;
let foreignPath: string;
/** Paths of a program and its libraries that are relocated, below `relocated/`; and a loader as it is. */
let relocated: string[];
let hostLoader: string;
/** A real static one. */
let staticProgram: string;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'lint-test-'));
  program = (await tools.command('patchelf')).args.at(-1) ?? '';
  staticProgram = (await tools.command(host === 'arm64' ? 'qemu-x86_64' : 'qemu-aarch64')).command;
  [foreignLoader, foreignPath] = [join(dir, 'loader'), join(dir, 'path')];
  for (const copy of [foreignLoader, foreignPath]) {
    await copyFile(program, copy);
    await chmod(copy, 0o755);
  }
  await tools.run('patchelf', ['--set-interpreter', '/home/builder/lib/ld.so', foreignLoader]);
  await tools.run('patchelf', ['--set-rpath', '/home/builder/lib', foreignPath]);
  // The same program, relocated.
  const root = program.slice(0, -'/usr/bin/patchelf'.length);
  const files = await chooseFiles([{ name: 'all', dir: root }], debian(['all'], { programs: ['patchelf'] }), 'demo', host);
  await writeRelocated(files, join(dir, 'relocated'), 'demo', host, tools);
  relocated = files.filter(({ link }) => link === undefined).map(({ to }) => to);
  hostLoader = join(root, 'usr/lib', archWords(host).triplet, basename(archWords(host).loader));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

/** A relocated program with its libraries, but for those that `without` picks. */
const relocatedImage = (without: (path: string) => boolean = () => false): ImageContent => ({
  files: Object.fromEntries(relocated.filter((path) => !without(path)).map((path) => [path, { copy: join(dir, 'relocated', path) }])),
});
const loaderPath = `usr/lib/demo/${basename(archWords(host).loader)}`;

/** An image that breaks one rule, and its twin that does not. */
interface Fixture {
  readonly rule: string;
  /** What is wrong, where a rule has several ways. */
  readonly case?: string;
  readonly bad: () => ImageContent;
  readonly good: () => ImageContent;
  readonly target?: Target;
  readonly definition?: LintSubject['definition'];
  readonly goodDefinition?: LintSubject['definition'];
  readonly kind?: 'confext';
  /** Architecture that the image says it is for. */
  readonly arch?: Arch;
  readonly goodArch?: Arch;
}
const files = (paths: Readonly<Record<string, string>>) => (): ImageContent => ({ files: paths });
const plain = files({ 'usr/share/demo/file': 'text' });
const text = 'text';
const definition = (about: Partial<NonNullable<LintSubject['definition']>>): NonNullable<LintSubject['definition']> => ({
  requiredPaths: [],
  replaces: [],
  waive: {},
  ...about,
});
const releaseText = (lines: readonly string[]) => (): ImageContent => ({ releaseFile: [...lines, ''].join('\n') });
const RIGHT = ['ID=_any', `ARCHITECTURE=${host}`, 'SYSEXT_ID=demo', 'SYSEXT_VERSION_ID=1.0'];
const without = (key: string): string[] => RIGHT.filter((line) => !line.startsWith(`${key}=`));

const fixtures: readonly Fixture[] = [
  { rule: 'outside-usr', case: 'opt', bad: files({ 'opt/demo/file': text }), good: files({ 'usr/share/demo/opt/file': text }) },
  { rule: 'outside-usr', case: 'etc', bad: files({ 'etc/demo.conf': text }), good: plain },
  { rule: 'usr-sbin', case: 'sbin', bad: files({ 'usr/sbin/demo': text }), good: files({ 'usr/bin/demo': text }) },
  { rule: 'usr-lib64', bad: () => ({ links: { 'usr/lib64': 'lib' } }), good: files({ 'usr/lib/demo/lib': text }) },
  { rule: 'usr-local', bad: files({ 'usr/local/bin/demo': text }), good: files({ 'usr/bin/demo': text }) },
  {
    rule: 'modules-index',
    bad: files({ 'usr/lib/modules/6.12.102-flatcar/modules.dep': text }),
    good: files({ 'usr/lib/modules/6.12.102-flatcar/extra/demo.ko': text }),
  },
  { rule: 'special-file', case: 'device', bad: () => ({ pseudo: ['usr/share/demo/null c 666 root root 1 3'] }), good: plain },
  { rule: 'special-file', case: 'whiteout', bad: () => ({ pseudo: ['usr/share/demo/gone c 000 root root 0 0'] }), good: plain },
  { rule: 'special-file', case: 'fifo', bad: () => ({ pseudo: ['usr/share/demo/pipe i 644 root root f'] }), good: plain },
  {
    rule: 'ownership',
    bad: () => ({ pseudo: ['usr/share/demo/file m 644 1000 1000'] }),
    good: () => ({ pseudo: ['usr/share/demo/file m 644 root root'] }),
  },
  { rule: 'setuid', bad: () => ({ modes: { 'usr/share/demo/file': 0o4755 } }), good: () => ({ modes: { 'usr/share/demo/file': 0o755 } }) },
  { rule: 'world-writable', bad: () => ({ modes: { 'usr/share/demo/file': 0o666 } }), good: plain },
  { rule: 'xattr', case: 'another', bad: () => ({ pseudo: ['usr/share/demo/file x user.comment=hello'] }), good: plain },
  { rule: 'xattr', case: 'opaque', bad: () => ({ pseudo: ['usr/share/demo x trusted.overlay.opaque=y'] }), good: plain },
  {
    rule: 'broken-link',
    bad: () => ({ links: { 'usr/bin/demo': '../lib/demo/demo' } }),
    good: () => ({
      files: { 'usr/lib/demo/demo': text },
      links: { 'usr/bin/demo': '../lib/demo/demo', 'usr/share/demo/state': '/var/lib/demo' },
    }),
  },
  {
    rule: 'broken-link',
    case: 'through folders that are links, with blanks, colons, umlauts and percent signs',
    bad: () => ({ files: { 'usr/lib/demo/a': text }, links: { 'usr/bin/demo': '../lib/demo/a#missing' } }),
    good: () => ({
      files: { 'usr/lib/demo/1:2 ü%41#x?y/a b': text },
      links: {
        'usr/bin/demo': '../lib/demo/current/a b',
        'usr/lib/demo/current': '1:2 ü%41#x?y',
        'usr/share/demo/up': 'deep/../../../bin/demo',
        'usr/share/demo/deep': '/usr/lib/demo/current',
        'usr/share/demo/http:': '../../lib/demo/./current//a b',
        'usr/lib/demo/sh': '/bin/demo',
      },
    }),
  },
  { rule: 'broken-link', case: 'in a circle', bad: () => ({ links: { 'usr/lib/demo/a': 'b', 'usr/lib/demo/b': 'a' } }), good: plain },
  ...[
    ['.DS_Store', 'DS_Store'],
    ['Thumbs.db', 'Thumbs'],
    ['.demo.conf.swp', 'demo.swap'],
    ['demo.conf~', 'demo~x'],
    ['.#demo', 'demo#1'],
    ['demo.c.orig', 'orig'],
    ['demo.rej', 'demo.reject'],
    ['__MACOSX/x', 'MACOSX/x'],
    ['.git/config', 'git/config'],
    ['._demo', '_demo'],
    ['.gitkeep', '.demo'],
    ['demo.dpkg-new', 'demo.new'],
    ['a\nb', 'a b'],
    ['a\u001B[2Jb', 'ä'],
    ['a\u202Eb', 'a\\x2db'],
  ].map(([bad = '', good = '']): Fixture => ({
    rule: 'leftover',
    case: JSON.stringify(bad),
    bad: files({ [`usr/share/demo/${bad}`]: text }),
    good: files({ [`usr/share/demo/${good}`]: text }),
  })),
  ...(
    [
      ['Python by env', '#!/usr/bin/env python3', '#!/usr/bin/env bash'],
      ['Perl', '#!/usr/bin/perl -w', '#!/bin/sh -e'],
      ['CR', '#!/bin/sh\r', '#!/bin/sh'],
      ['CR after options', '#!/bin/sh -e\r', '#! /bin/sh -e'],
      ['env with several words', '#!/usr/bin/env bash -e', '#!/usr/bin/env -S bash -e'],
      ['env -S', '#!/usr/bin/env -S -i A=b python3 -u', '#!/usr/bin/env -S -i A=b bash -u'],
      ['env -S in one word', '#!/usr/bin/env -Spython3 -u', '#!/usr/bin/env -Sbash -u'],
      ['no path', '#!python3', '#!/usr/bin/busctl'],
      ['nothing', '#!', '#!/bin/bash'],
      ['too long', `#!/bin/sh ${'x'.repeat(260)}`, `#!/bin/sh ${'x'.repeat(200)}`],
      ['of the build machine', '#!/home/me/.local/bin/python3', '#!/usr/lib/demo/run'],
      ['not executable', '#!/usr/lib/demo/data', '#!/usr/lib/demo/link'],
      ['by env, not in the search path', '#!/usr/bin/env run', '#!/usr/bin/env runs'],
    ] as const
  ).map(([name, bad, good]): Fixture => {
    const image = (line: string) => (): ImageContent => ({
      files: {
        'usr/bin/demo': `${line}\nexit 0\n`,
        'usr/lib/demo/run': '#!/bin/sh\n',
        'usr/lib/demo/data': text,
        'usr/bin/runs': '#!/bin/sh\n',
        // Nobody runs this by itself.
        'usr/share/demo/module.py': '#!/usr/bin/python3\n',
      },
      modes: { 'usr/bin/demo': 0o755, 'usr/lib/demo/run': 0o755, 'usr/bin/runs': 0o755, 'usr/share/demo/module.py': 0o644 },
      links: { 'usr/lib/demo/link': 'run' },
    });
    return { rule: 'script-interpreter', case: name, bad: image(bad), good: image(good) };
  }),
  ...(
    [
      ['ExecStart', '[Service]\nExecStart=/usr/bin/demo\n', 0o644],
      ['ExecReload with a prefix', '[Service]\nExecReload=-+/usr/bin/demo --reload\n', 0o644],
      ['in quotes', '[Service]\nExecStart=@"/usr/bin/demo" demo\n', 0o644],
      ['the second of two', '[Service]\nType=oneshot\nExecStart=/bin/true ; /usr/bin/demo\n', 0o644],
      ['without a folder', '[Service]\nExecStart=demo\n', 0o644],
      ['by the old folder', '[Service]\nExecStopPost=/bin/demo\n', 0o644],
    ] as const
  ).map(([name, service, mode]): Fixture => {
    const image = (bits: number) => (): ImageContent => ({
      files: { [unit]: service, 'usr/bin/demo': '#!/bin/sh\n' },
      modes: { 'usr/bin/demo': bits },
    });
    return { rule: 'exec-mode', case: name, bad: image(mode), good: image(0o755) };
  }),
  {
    rule: 'exec-mode',
    case: 'of a socket, through a link',
    bad: () => ({
      files: { 'usr/lib/systemd/system/demo.socket': '[Socket]\nExecStartPre=/usr/bin/demo\n', 'usr/lib/demo/demo': '#!/bin/sh\n' },
      links: { 'usr/bin/demo': '../lib/demo/demo' },
      modes: { 'usr/lib/demo/demo': 0o644 },
    }),
    good: () => ({
      files: { 'usr/lib/systemd/system/demo.socket': '[Socket]\nExecStartPre=/usr/bin/demo\n', 'usr/lib/demo/demo': '#!/bin/sh\n' },
      links: { 'usr/bin/demo': '../lib/demo/demo' },
      modes: { 'usr/lib/demo/demo': 0o755 },
    }),
  },
  {
    rule: 'exec-mode',
    case: 'a text without #!',
    bad: () => ({
      files: { [unit]: '[Service]\nExecStart=/usr/bin/demo\n', 'usr/bin/demo': 'echo 1\n' },
      modes: { 'usr/bin/demo': 0o755 },
    }),
    good: () => ({
      files: { [unit]: '[Service]\nExecStart=/usr/bin/demo\n', 'usr/bin/demo': { copy: staticProgram } },
      modes: { 'usr/bin/demo': 0o755 },
    }),
  },
  ...['usr/bin/demo', 'usr/lib/systemd/system-generators/demo', 'usr/lib/systemd/system-shutdown/demo'].map((path): Fixture => ({
    rule: 'exec-mode',
    case: path,
    bad: () => ({ files: { [path]: '#!/bin/sh\n' }, modes: { [path]: 0o644 } }),
    good: () => ({ files: { [path]: '#!/bin/sh\n', 'usr/share/demo/script': '#!/bin/sh\n' }, modes: { [path]: 0o755 } }),
  })),
  ...(
    [
      ['shipped by nobody', 'EnvironmentFile=/etc/demo/env', 'EnvironmentFile=-/etc/demo/env', {}],
      ['in the image', 'EnvironmentFile=/usr/share/demo/other', 'EnvironmentFile=/usr/share/demo/env', { 'usr/share/demo/env': text }],
      [
        'a folder that tmpfiles copies',
        'EnvironmentFile=/etc/demo/other',
        'EnvironmentFile=/etc/demo/env',
        { 'usr/share/demo/etc/env': text, 'usr/lib/tmpfiles.d/demo.conf': 'C /etc/demo - - - - /usr/share/demo/etc\n' },
      ],
      [
        'a file that tmpfiles writes',
        'EnvironmentFile=/etc/demo/other',
        'EnvironmentFile=/etc/demo/env',
        { 'usr/lib/tmpfiles.d/demo.conf': 'f /etc/demo/env 0644 root root - A=b\n' },
      ],
      ['a glob', 'EnvironmentFile=/etc/demo/*.env', 'EnvironmentFile=/usr/share/demo/*.env', { 'usr/share/demo/x.env': text }],
      ["Flatcar's own", 'EnvironmentFile=/run/metadata/other', 'EnvironmentFile=/run/metadata/flatcar', {}],
      [
        'the condition of the unit',
        'EnvironmentFile=/etc/demo/env\n[Unit]\nConditionPathExists=/etc/demo/other',
        'EnvironmentFile=/etc/demo/env\n[Unit]\nConditionPathExists=/etc/demo/env',
        {},
      ],
    ] as const
  ).map(([name, bad, good, more]): Fixture => {
    const image = (line: string) => files({ ...more, [unit]: `[Service]\n${line}\n` });
    return { rule: 'environment-file', case: name, bad: image(bad), good: image(good) };
  }),
  ...(
    [
      ['Type=simpel', 'Type=simple'],
      ['Restart=never', 'Restart=no'],
      ['KillMode=all', 'KillMode=mixed'],
      ['RemainAfterExit=ja', 'RemainAfterExit=YES'],
      ['TimeoutStopSec=5 minuten', 'TimeoutStopSec=5min 20s'],
      ['RestartSec=-1', 'RestartSec=infinity'],
      ['WatchdogSec=30x', 'WatchdogSec=1.5h'],
      ['StateDirectoryMode=rwx', 'StateDirectoryMode=0750'],
      ['UMask=0888', 'UMask=0077'],
      ['Nice=20', 'Nice=-20'],
      ['OOMScoreAdjust=-1001', 'OOMScoreAdjust=+500'],
      ['KillSignal=hangup', 'KillSignal=SIGRTMIN+3'],
    ] as const
  ).map(([bad, good]): Fixture => ({
    rule: 'unit-value',
    case: bad,
    bad: files({ [unit]: `[Service]\n${bad}\n` }),
    // What systemd fills in is not judged, and an empty value takes back.
    good: files({ [unit]: `[Service]\n${good}\nNoNewPrivileges=%i\nRestart=\n` }),
  })),
  ...(
    [
      ['a working directory', 'WorkingDirectory=/var/lib/demo', 'WorkingDirectory=/var/lib/demo\nStateDirectory=demo', {}],
      [
        'a working directory of tmpfiles.d',
        'WorkingDirectory=/var/lib/other',
        'WorkingDirectory=/var/lib/demo/x/',
        { 'usr/lib/tmpfiles.d/demo.conf': 'd /var/lib/demo/x\n' },
      ],
      ['a working directory of the host', 'WorkingDirectory=/usr/share/absent', 'WorkingDirectory=/var/lib', {}],
      [
        'a working directory of the image',
        'WorkingDirectory=/usr/share/demos',
        'WorkingDirectory=/usr/share/demo',
        { 'usr/share/demo/file': text },
      ],
      ['one that may be missing', 'WorkingDirectory=/srv/demo', 'WorkingDirectory=-/srv/demo', {}],
      ['a root directory', 'RootDirectory=/var/lib/demo', 'RootDirectory=/run/demo', {}],
      ['a root image', 'RootImage=/usr/share/demo/root.raw', 'RootImage=/usr/share/demo/file', { 'usr/share/demo/file': text }],
      ['a credential', 'LoadCredential=key:/etc/demo/key', 'LoadCredential=key', {}],
      [
        'a credential of a condition',
        'LoadCredentialEncrypted=key:/etc/demo/key',
        'LoadCredentialEncrypted=key:/etc/demo/key\n[Unit]\nConditionPathExists=/etc/demo/key',
        {},
      ],
      ['bound paths', 'BindPaths=/run/x /srv/x:/srv/y', 'BindPaths=/run/x -/srv/x:/srv/y', {}],
      [
        'bound paths, read-only',
        'BindReadOnlyPaths=/etc/demo/a:/a:rbind',
        'BindReadOnlyPaths=/etc/demo/a:/a:rbind',
        { 'usr/lib/tmpfiles.d/demo.conf': 'f /etc/demo/a\n' },
      ],
    ] as const
  ).map(([name, bad, good, more]): Fixture => ({
    rule: 'unit-path',
    case: name,
    bad: files({ [unit]: `[Service]\n${bad}\n` }),
    good: files({ ...more, [unit]: `[Service]\n${good}\n` }),
  })),
  {
    rule: 'environment-file',
    case: 'in a drop-in for a unit of another extension',
    bad: files({ 'usr/lib/systemd/system/other.service.d/10-demo.conf': '[Service]\nEnvironmentFile=/etc/demo/env\n' }),
    good: files({ 'usr/lib/systemd/system/other.service.d/10-demo.conf': '[Service]\nEnvironmentFile=\nEnvironmentFile=-/etc/demo/env\n' }),
  },
  ...(
    [
      ['multi-user.target.d', '10-docker.conf', '10-demo-docker.conf'],
      ['multi-user.target.d', 'demonstration.conf', 'demo.conf'],
      ['containerd.service.d', '50-conf.conf', '50-demo.conf'],
      ['service.d', '10-all.conf', '10-demo-all.conf'],
      ['getty@.service.d', 'x.conf', 'demo-x.conf'],
    ] as const
  ).map(([folder, bad, good]): Fixture => {
    const image = (name: string) =>
      files({
        [`usr/lib/systemd/system/${folder}/${name}`]: '[Unit]\nDescription=x\n',
        [unit]: '[Unit]\n',
        // Drop-ins of one's own units have any name.
        'usr/lib/systemd/system/demo.service.d/10-any.conf': '[Unit]\nDescription=x\n',
        'usr/lib/systemd/system/demo@.service': '[Unit]\n',
        'usr/lib/systemd/system/demo@one.service.d/10-any.conf': '[Unit]\nDescription=x\n',
      });
    return { rule: 'dropin-owner', case: `${folder}/${bad}`, bad: image(bad), good: image(good) };
  }),
  ...(
    [
      ['L+ /opt/bin/demo - - - - /usr/bin/demo', 'L /opt/bin/demo - - - - /usr/bin/demo'],
      ['L+! /etc/demo - - - - /usr/share/demo', 'L? /etc/demo - - - - /usr/share/demo'],
      ['C+ /etc/demo - - - - /usr/share/demo/etc', 'C /etc/demo - - - - /usr/share/demo/etc'],
      ['R /var/lib/demo', 'R /run/demo'],
      ['r! /etc/demo.conf', 'r! /tmp/demo'],
      ['D /var/lib/demo 0755 root root -', 'd /var/lib/demo 0755 root root -'],
      ['F /etc/demo.conf 0644 root root - text', 'f /etc/demo.conf 0644 root root - text'],
      ['w /etc/hostname - - - - demo', 'w /proc/sys/kernel/x - - - - 1'],
      ['d= /var/lib/demo', 'D /run/demo'],
      ['L+ "/opt/a b" - - - - /usr/bin/demo', 'L "/opt/a b" - - - - /usr/bin/demo'],
    ] as const
  ).map(([bad, good]): Fixture => ({
    rule: 'tmpfiles-force',
    case: bad,
    bad: files({ 'usr/lib/tmpfiles.d/demo.conf': `${bad}\n` }),
    good: files({ 'usr/lib/tmpfiles.d/demo.conf': `# ${bad}\n${good}\n` }),
  })),
  ...(
    [
      ['a section', '[Servce]\nExecStart=/bin/true', '[Service]\nExecStart=/bin/true'],
      ['a key', '[Service]\nTyp=simple', '[Service]\nType=simple'],
      ['letters', '[Service]\nexecstart=/bin/true', '[Service]\nExecStart=/bin/true'],
      ['a key of another section', '[Service]\nAfter=x.service', '[Unit]\nAfter=x.service'],
      ['a section of another kind', '[Timer]\nOnCalendar=daily', '[X-Timer]\nOnCalendars=daily'],
      ['no setting', '[Service]\nExecStart', '[Service]\n# ExecStart\n; x\n'],
      ['before any section', 'Type=simple', '[Service]\nX-Demo=1'],
      [
        'on a second line',
        '[Service]\nExecStart=/bin/echo \\\n  Typ=1\nTyp=2',
        '[Service]\nExecStart=/bin/echo \\\n# comment\n  Typ=1\nType=exec',
      ],
      ['CR', '[Service]\r\nTyp=simple\r\n', '[Service]\r\nType=simple\r\n'],
    ] as const
  ).map(([name, bad, good]): Fixture => ({
    rule: 'unit-syntax',
    case: name,
    bad: files({ [unit]: bad }),
    good: files({ [unit]: good }),
  })),
  ...['demo.timer', 'demo.socket', 'demo.mount', 'demo.automount', 'demo.path', 'demo.swap', 'demo.slice', 'demo.target'].map(
    (name): Fixture => ({
      rule: 'unit-syntax',
      case: name,
      bad: files({ [`usr/lib/systemd/system/${name}`]: '[Service]\nType=simple\n' }),
      good: files({ [`usr/lib/systemd/system/${name}`]: '[Unit]\nDescription=x\n[Install]\nWantedBy=x.target\n' }),
    }),
  ),
  {
    rule: 'unit-syntax',
    case: 'a drop-in',
    bad: files({ 'usr/lib/systemd/system/other.service.d/10-demo.conf': '[Service]\nEnviroment=A=b\n' }),
    good: files({ 'usr/lib/systemd/system/other.service.d/10-demo.conf': '[Service]\nEnvironment=A=b\n' }),
  },
  {
    rule: 'unit-syntax',
    case: 'a drop-in of all units of a kind, and one of users',
    bad: files({ 'usr/lib/systemd/user/service.d/10-demo.conf': '[Services]\nType=simple\n' }),
    good: files({ 'usr/lib/systemd/user/service.d/10-demo.conf': '[Service]\nType=simple\n' }),
  },
  ...(
    [
      [
        'made by itself',
        'ExecStartPre=+/usr/bin/systemd-sysusers demo.conf',
        {},
        '',
        '[Service]\nExecStart=/usr/bin/systemd-sysusers demo.conf\n',
      ],
      ['not ordered', '', {}, '[Unit]\nRequires=demo-user.service\n', '[Service]\nExecStart=/usr/bin/systemd-sysusers demo.conf\n'],
      ['not required', '', {}, '[Unit]\nAfter=demo-user.service\n', '[Service]\nExecStart=/usr/bin/systemd-sysusers demo.conf\n'],
      [
        'of another file',
        '',
        {},
        '[Unit]\nRequires=demo-user.service\nAfter=demo-user.service\n',
        '[Service]\nExecStart=/usr/bin/systemd-sysusers other.conf\n',
      ],
    ] as const
  ).map(([name, pre, , unitSection, maker]): Fixture => {
    const image = (head: string, user: string) =>
      files({
        [unit]: `${head}[Service]\nUser=demo\n${pre}\n`,
        'usr/lib/systemd/system/demo-user.service': user,
        'usr/lib/sysusers.d/demo.conf': 'u demo - "Demo"\n',
      });
    const right = '[Unit]\nRequires=demo-user.service\nAfter=network.target demo-user.service\n';
    return {
      rule: 'sysusers-without-unit',
      case: name,
      bad: image(unitSection, maker),
      good: image(right, '[Service]\nType=oneshot\nExecStart=/usr/bin/systemd-sysusers /usr/lib/sysusers.d/demo.conf\n'),
    };
  }),
  {
    rule: 'sysusers-without-unit',
    case: 'that no unit runs as',
    bad: files({ 'usr/lib/sysusers.d/demo.conf': 'u demo - "Demo"\ng docker -\n' }),
    good: files({
      [unit]: '[Service]\nExecStartPre=/usr/bin/systemd-sysusers demo.conf\n',
      'usr/lib/sysusers.d/demo.conf': 'u demo - "Demo"\ng docker -\n',
    }),
  },
  { rule: 'required-path', bad: plain, good: files({ 'usr/bin/demo': text }), definition: definition({ requiredPaths: ['usr/bin/demo'] }) },
  { rule: 'empty', bad: files({}), good: plain },
  {
    rule: 'shadows-host',
    bad: files({ 'usr/bin/git': text }),
    good: files({ 'usr/bin/git': text }),
    goodDefinition: definition({ replaces: ['usr/bin/git'] }),
  },
  { rule: 'shadows-host', case: 'library', bad: files({ 'usr/lib64/libc.so.6': text }), good: files({ 'usr/lib/demo/libc.so.6': text }) },
  { rule: 'replaces-nothing', bad: plain, good: files({ 'usr/bin/git': text }), definition: definition({ replaces: ['usr/bin/git'] }) },
  {
    rule: 'elf-arch',
    bad: () => ({ files: { 'usr/bin/demo': { copy: staticProgram } } }),
    good: () => ({ files: { 'usr/bin/demo': { copy: staticProgram } } }),
    arch: other,
    goodArch: host,
  },
  {
    rule: 'interpreter',
    bad: () => ({ files: { 'usr/bin/demo': { copy: foreignLoader } } }),
    good: () => ({ files: { 'usr/bin/demo': { copy: program } } }),
    target: release,
  },
  {
    rule: 'runpath',
    bad: () => ({ files: { 'usr/bin/demo': { copy: foreignPath } } }),
    good: () => ({ files: { 'usr/bin/demo': { copy: program } } }),
    target: release,
  },
  {
    rule: 'build-path',
    case: 'loader',
    bad: () => ({ files: { 'usr/bin/demo': { copy: foreignLoader } } }),
    good: relocatedImage,
  },
  { rule: 'build-path', case: 'folder', bad: () => ({ files: { 'usr/bin/demo': { copy: foreignPath } } }), good: relocatedImage },
  { rule: 'foreign-library', bad: () => relocatedImage((path) => path.endsWith('/libstdc++.so.6')), good: relocatedImage },
  {
    rule: 'host-loader',
    bad: () => ({ files: { ...relocatedImage().files, [loaderPath]: { copy: hostLoader } } }),
    good: relocatedImage,
  },
  {
    rule: 'portable-needs-host',
    bad: () => ({ files: { 'usr/bin/demo': { copy: program } } }),
    good: () => ({ files: { 'usr/bin/demo': { copy: staticProgram } } }),
  },
  {
    rule: 'needs-glibc',
    bad: () => ({ files: { 'usr/bin/demo': { copy: program } } }),
    good: () => ({ files: { 'usr/bin/demo': { copy: staticProgram } } }),
    target: { ...release, glibc: '2.17' },
  },
  {
    rule: 'exec-path',
    bad: files({ [unit]: '[Service]\nExecStart=/usr/local/bin/demo --all\n' }),
    good: files({ [unit]: '[Service]\nExecStartPre=-/bin/mkdir -p /run/demo\nExecStart=/usr/bin/demo\n', 'usr/bin/demo': text }),
  },
  {
    rule: 'unit-user',
    bad: files({ [unit]: '[Service]\nUser=demo\n' }),
    good: files({ [unit]: '[Service]\nUser=demo\n', 'usr/lib/sysusers.d/demo.conf': 'u demo - "Demo"\n' }),
  },
  {
    rule: 'unit-user',
    case: 'group',
    bad: files({ [unit]: '[Service]\nGroup=demo\n' }),
    good: files({ [unit]: '[Service]\nUser=demo\nDynamicUser=yes\n' }),
  },
  {
    rule: 'dropin-name',
    bad: files({ 'usr/lib/systemd/system/multi-user.target.d/10-demo': '[Unit]\nUpholds=demo.service\n' }),
    good: files({ 'usr/lib/systemd/system/multi-user.target.d/10-demo.conf': '[Unit]\nUpholds=demo.service\n' }),
  },
  {
    rule: 'wants-link',
    bad: () => ({
      files: { [unit]: '[Unit]\n' },
      links: { 'usr/lib/systemd/system/multi-user.target.wants/demo.service': '../demo.service' },
    }),
    good: () => ({
      files: { [unit]: '[Unit]\n', 'usr/lib/systemd/system/multi-user.target.d/demo.conf': '[Unit]\nUpholds=demo.service\n' },
    }),
  },
  {
    rule: 'unit-mode',
    bad: () => ({ files: { [unit]: '[Unit]\n' }, modes: { [unit]: 0o755 } }),
    good: () => ({ files: { [unit]: '[Unit]\n' } }),
  },
  {
    rule: 'tmpfiles-line',
    bad: files({ 'usr/lib/tmpfiles.d/demo.conf': 'directory /var/lib/demo\n' }),
    good: files({ 'usr/lib/tmpfiles.d/demo.conf': '# state\nd /var/lib/demo 0755 root root -\nL+ /opt/demo - - - - /usr/lib/demo\n' }),
  },
  {
    rule: 'etc-copy',
    bad: files({ 'usr/share/demo/etc/demo.conf': text }),
    good: files({
      'usr/share/demo/etc/demo.conf': text,
      'usr/lib/tmpfiles.d/demo.conf': 'C /etc/demo.conf - - - - /usr/share/demo/etc/demo.conf\n',
    }),
  },
  // Confexts have the same below etc/.
  ...(
    [
      ['tmpfiles-line', { 'etc/tmpfiles.d/demo.conf': 'directory /var/lib/demo\n' }, { 'etc/tmpfiles.d/demo.conf': 'd /var/lib/demo\n' }],
      ['tmpfiles-force', { 'etc/tmpfiles.d/demo.conf': 'R /var/lib/demo\n' }, { 'etc/tmpfiles.d/demo.conf': 'd /var/lib/demo\n' }],
      [
        'unit-user',
        { 'etc/systemd/system/demo.service': '[Service]\nUser=demo\n' },
        { 'etc/systemd/system/demo.service': '[Service]\nUser=demo\n', 'etc/sysusers.d/demo.conf': 'u demo - "Demo"\n' },
      ],
      [
        'sysusers-without-unit',
        { 'etc/systemd/system/demo.service': '[Service]\nUser=demo\n', 'etc/sysusers.d/demo.conf': 'u demo - "Demo"\n' },
        { 'etc/systemd/system/demo.service': '[Service]\nUser=core\n' },
      ],
      [
        'environment-file',
        { 'etc/systemd/system/demo.service': '[Service]\nEnvironmentFile=/etc/demo/env\n' },
        { 'etc/systemd/system/demo.service': '[Service]\nEnvironmentFile=/etc/demo/env\n', 'etc/demo/env': text },
      ],
      [
        'exec-path',
        { 'etc/systemd/system/demo.service': '[Service]\nExecStart=/etc/demo/run\n' },
        { 'etc/systemd/system/demo.service': '[Service]\nExecStart=/bin/true\n' },
      ],
      ['unit-syntax', { 'etc/systemd/system/demo.service': '[Servce]\n' }, { 'etc/systemd/system/demo.service': '[Service]\n' }],
      [
        'dropin-owner',
        { 'etc/systemd/system/x.service.d/10-x.conf': '[Unit]\n' },
        { 'etc/systemd/system/x.service.d/10-demo.conf': '[Unit]\n' },
      ],
      ['dropin-name', { 'etc/systemd/system/x.service.d/demo': '[Unit]\n' }, { 'etc/systemd/system/x.service.d/demo.conf': '[Unit]\n' }],
      ['leftover', { 'etc/demo/x.orig': text }, { 'etc/demo/x': text }],
      ['outside-usr', { 'usr/share/demo/x': text }, { 'etc/demo/x': text }],
    ] as const
  ).map(([rule, bad, good]): Fixture => ({
    rule,
    case: 'of a confext',
    kind: 'confext',
    bad: files(bad),
    good: files({ 'etc/demo/file': text, ...good }),
  })),
  { rule: 'release-file', case: 'missing', bad: () => ({ releaseFile: null }), good: plain },
  { rule: 'release-file', case: 'another size', bad: () => ({ releaseFile: 'x'.repeat(5000) }), good: plain },
  { rule: 'release-strict', bad: () => ({ strict: false }), good: plain },
  { rule: 'sysext-level', bad: releaseText([...RIGHT, 'SYSEXT_LEVEL=1.0']), good: releaseText(RIGHT) },
  {
    rule: 'bound-id',
    case: '_any in a bound image',
    bad: releaseText([...RIGHT, `VERSION_ID=${release.number}`]),
    good: releaseText([...without('ID'), 'ID=flatcar', `VERSION_ID=${release.number}`]),
    target: release,
  },
  {
    rule: 'bound-id',
    case: 'another release',
    bad: releaseText([...without('ID'), 'ID=flatcar', 'VERSION_ID=4081.3.10']),
    good: plain,
    target: release,
  },
  { rule: 'bound-id', case: 'a portable one with a release', bad: releaseText([...RIGHT, 'VERSION_ID=4593.2.5']), good: plain },
  { rule: 'release-arch', case: 'another', bad: releaseText([...without('ARCHITECTURE'), `ARCHITECTURE=${other}`]), good: plain },
  { rule: 'release-arch', case: 'missing', bad: releaseText(without('ARCHITECTURE')), good: plain },
  { rule: 'release-version', bad: releaseText(without('SYSEXT_VERSION_ID')), good: plain },
];

async function lint(
  content: ImageContent,
  target: Target,
  arch: Arch,
  about: LintSubject['definition'],
  kind: 'sysext' | 'confext' = 'sysext',
): Promise<Finding[]> {
  const image = await makeImage(tools, dir, content, { name: 'demo', kind, arch, target });
  const subject = { name: 'demo', kind, arch, target, definition: about };
  return (await lintImage(image, 'squashfs', subject, { tools, store })).findings;
}

describe.each(fixtures.map((fixture) => ({ ...fixture, title: [fixture.rule, fixture.case].filter(Boolean).join(': ') })))(
  '$title',
  (fixture) => {
    const target = fixture.target ?? 'portable';
    test('fails its rule, with a fix', async () => {
      const findings = (await lint(fixture.bad(), target, fixture.arch ?? host, fixture.definition, fixture.kind)).filter(
        ({ rule }) => rule === fixture.rule,
      );
      expect(findings).not.toEqual([]);
      expect(findings[0]).toMatchObject({ level: IMAGE_RULES[fixture.rule]?.level, fix: IMAGE_RULES[fixture.rule]?.fix });
    });
    test('its twin passes it', async () => {
      const about = fixture.goodDefinition ?? fixture.definition;
      const findings = await lint(fixture.good(), target, fixture.goodArch ?? host, about, fixture.kind);
      expect(findings.filter(({ rule }) => rule === fixture.rule)).toEqual([]);
    });
  },
);

test('where images are merged in the initrd, sysusers runs after it', async () => {
  const image = files({ [unit]: '[Service]\nUser=demo\n', 'usr/lib/sysusers.d/demo.conf': 'u demo - "Demo"\n' })();
  const about = definition({});
  const rules = async (target: Target): Promise<string[]> => (await lint(image, target, host, about)).map(({ rule }) => rule);
  expect(await rules('portable')).toContain('sysusers-without-unit');
  expect(await rules(release)).toContain('sysusers-without-unit');
  expect(await rules({ ...release, mergeStage: 'initrd' })).not.toContain('sysusers-without-unit');
});

test('a mistyped setting is reported with the closest one', async () => {
  const found = await lint(
    files({ [unit]: '[Servce]\nTyp=simple\n[Service]\nTyp=simple\nAfter=x.service\n' })(),
    'portable',
    host,
    undefined,
  );
  expect(found.map(({ what }) => what)).toEqual([
    "'[Servce]': systemd has no such section in a service unit (did you mean '[Service]'?)",
    "'Typ=simple': systemd has no setting 'Typ' in [Service] (did you mean 'Type'?)",
    "'After=x.service': systemd has no setting 'After' in [Service] (it belongs to [Unit])",
  ]);
});

test('an image of 2 GiB is too large, one byte less is not', () => {
  const context = {
    name: 'demo',
    kind: 'sysext',
    arch: host,
    entries: [],
    elfFiles: new Map(),
    loaders: new Map(),
    texts: new Map(),
    shebangs: new Map(),
    omissions: [],
    releaseFile: undefined,
    requiredPaths: [],
    replaces: [],
    beside: new Set<string>(),
    unread: new Set<string>(),
  } as const;
  expect(IMAGE_RULES['size']?.check({ ...context, size: 2 ** 31 })).toHaveLength(1);
  expect(IMAGE_RULES['size']?.check({ ...context, size: 2 ** 31 - 1 })).toEqual([]);
});

test('every rule has a fixture that fails it', () => {
  // What a program names is judged with its packages at hand: compiled-in.test.ts.
  const covered = new Set([...fixtures.map(({ rule }) => rule), 'size', 'compiled-in-path']);
  expect(Object.keys(IMAGE_RULES).filter((rule) => !covered.has(rule))).toEqual([]);
});

describe('the table of rules', () => {
  test('has what each rule checks, why, and what to do', () => {
    for (const [id, { checks, reason, fix, fixed }] of Object.entries(RULES)) {
      expect(checks.length, id).toBeGreaterThan(15);
      expect(reason.length, id).toBeGreaterThan(20);
      expect(fix.length, id).toBeGreaterThan(5);
      expect(fixed ?? 'may be waived', id).not.toBe('');
    }
  });
  test('has everything that the sources of this repository report', async () => {
    const files = await Array.fromAsync(glob('packages/*/src/**/*.ts', { cwd: join(import.meta.dirname, '../../..') }));
    const reported = await Promise.all(
      files.map(async (file) => {
        const source = await readFile(join(import.meta.dirname, '../../..', file), 'utf8');
        return [...source.matchAll(/\brule: '([a-z-]+)'/g)].map(([, rule = '']) => rule);
      }),
    );
    expect(reported.flat().length).toBeGreaterThan(2);
    expect([...new Set(reported.flat())].filter((rule) => RULES[rule] === undefined)).toEqual([]);
  });
  test.each([
    ['exec-pat', 'exec-path'],
    ['Unit-User', 'unit-user'],
    ['sbin', 'usr-sbin'],
    ['need-glibc', 'needs-glibc'],
    ['colision', 'collision'],
    ['missing-pins', 'missing-pin'],
  ])('%s: it asks whether %s is meant', (typed, meant) => {
    expect(() => ruleOf(typed)).toThrow(expect.objectContaining({ next: expect.stringContaining(`'${meant}'`) as unknown }));
  });
  test.each(['zzz', 'constructor', ''])('%j: the error names the command that lists the rules', (typed) => {
    expect(() => ruleOf(typed)).toThrow(expect.objectContaining({ next: 'flatcar-ext explain lists the rules' }));
  });
});

describe('waivers', () => {
  const setuid: ImageContent = { modes: { 'usr/share/demo/file': 0o4755 } };
  const waived = (waive: Record<string, string>, content: ImageContent = setuid): Promise<Finding[]> =>
    lint(content, 'portable', host, definition({ waive }));

  test('with a reason a rule does not apply', async () => {
    expect(await waived({ setuid: 'newuidmap is of no use without it' })).toEqual([]);
  });
  test('without a reason it is an error', async () => {
    const found = await waived({ setuid: ' ' });
    expect(found).toContainEqual(
      expect.objectContaining({ rule: 'waiver', level: 'error', what: expect.stringContaining('no reason') as string }),
    );
    expect(found.map(({ rule }) => rule)).toContain('setuid');
  });
  test('of a rule that does not exist it is an error, which names the nearest one', async () => {
    expect(await waived({ setui: 'why' })).toContainEqual(
      expect.objectContaining({ rule: 'waiver', level: 'error', fix: "did you mean 'setuid'?" }),
    );
  });
  test('of a rule that cannot be waived is an error with the reason, and waives nothing', async () => {
    const found = await waived({ 'usr-sbin': 'we like it there' }, { files: { 'usr/sbin/demo': text } });
    expect(found).toContainEqual(
      expect.objectContaining({ rule: 'waiver', what: expect.stringMatching(/'usr-sbin'.*cannot be waived: .+/) as string }),
    );
    expect(found.map(({ rule }) => rule)).toContain('usr-sbin');
  });
  describe('of some paths', () => {
    const two: ImageContent = {
      modes: { 'usr/bin/one': 0o4755, 'usr/bin/two': 0o4755 },
      files: { 'usr/bin/one': text, 'usr/bin/two': text },
    };
    test.each([
      ['setuid:usr/bin/one', ['usr/bin/two']],
      ['setuid:/usr/bin/one', ['usr/bin/two']],
      ['setuid:usr/bin/t*', ['usr/bin/one']],
      ['setuid:usr/**', []],
      ['setuid:usr/bin', ['usr/bin/one', 'usr/bin/two']],
    ])('%s', async (key, left) => {
      expect((await waived({ [key]: 'why' }, two)).filter(({ rule }) => rule === 'setuid').map(({ path }) => path)).toEqual(left);
    });
    test('a name that is not a glob is compared literally', () => {
      const finding = { rule: 'setuid', level: 'error', what: '', fix: '', path: 'usr/bin/[' } as const;
      expect(waiveFindings([finding], { 'setuid:usr/bin/[': 'why' }).left).toEqual([]);
    });
    test('they may name what the finding is about instead of its path', () => {
      const finding = {
        rule: 'exec-path',
        level: 'error',
        what: '',
        fix: '',
        path: 'usr/lib/x.service',
        subject: '/opt/bin/demo',
      } as const;
      expect(waiveFindings([finding], { 'exec-path:/opt/bin/*': 'why' }).left).toEqual([]);
      expect(waiveFindings([finding], { 'exec-path:/opt/other': 'why' })).toEqual({ left: [finding], unused: ['exec-path:/opt/other'] });
    });
    test('without a path after the colon it is an error', async () => {
      expect(await waived({ 'setuid:': 'why' })).toContainEqual(expect.objectContaining({ rule: 'waiver' }));
    });
  });
  test('that waives nothing is reported when the tree is staged', async () => {
    const tree = { dir, digest: '', entries: [] };
    const findings = await lintTree(tree, {
      name: 'demo',
      kind: 'sysext',
      arch: host,
      definition: definition({ waive: { setuid: 'why' } }),
    });
    expect(findings).toContainEqual(
      expect.objectContaining({ rule: 'unused-waiver', level: 'warning', what: "'setuid' under 'waive' waives nothing" }),
    );
  });
});

describe('images side by side', () => {
  const file = (path: string, sha256: string): TreeEntry => ({ path, type: 'file', mode: 0o755, size: 1, sha256, component: '' });
  const one = { name: 'one', conflicts: [], entries: [file('usr/bin/runc', 'a'), file('usr/bin/one', 'a')] };

  test('may bring the same bytes under one path', () => {
    expect(lintNeighbours([one, { name: 'two', conflicts: [], entries: [file('usr/bin/runc', 'a')] }])).toEqual([]);
  });
  test('must not bring different ones', () => {
    const found = lintNeighbours([one, { name: 'two', conflicts: [], entries: [file('usr/bin/runc', 'b')] }]);
    expect(found).toEqual([expect.objectContaining({ rule: 'collision', path: 'usr/bin/runc', level: 'error' })]);
  });
  test('unless both say that they conflict', () => {
    const two = { name: 'two', conflicts: ['one'], entries: [file('usr/bin/runc', 'b')] };
    expect(lintNeighbours([one, two])).toHaveLength(1);
    expect(lintNeighbours([{ ...one, conflicts: ['two'] }, two])).toEqual([]);
  });
});
