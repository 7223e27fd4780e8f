import { chmod, copyFile, glob, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { archWords, hostArch } from '../src/arch.ts';
import { debian } from '../src/extension.ts';
import { lintImage, lintNeighbours, lintTree, ruleOf, type LintSubject } from '../src/lint.ts';
import { chooseFiles, writeRelocated } from '../src/relocate.ts';
import { IMAGE_RULES, RULES } from '../src/rules/table.ts';
import { openStore } from '../src/store.ts';
import { openTools } from '../src/tools.ts';
import type { Arch, Finding, Target, TreeEntry } from '../src/types.ts';
import { waiveFindings } from '../src/waivers.ts';
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
  /** Architecture that the image says it is for. */
  readonly arch?: Arch;
  readonly goodArch?: Arch;
}
const files = (paths: Readonly<Record<string, string>>) => (): ImageContent => ({ files: paths });
const plain = files({ 'usr/share/demo/file': 'text' });
const text = 'text';
const definition = (about: Partial<NonNullable<LintSubject['definition']>>): NonNullable<LintSubject['definition']> => ({
  promises: [],
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
  { rule: 'promise', bad: plain, good: files({ 'usr/bin/demo': text }), definition: definition({ promises: ['usr/bin/demo'] }) },
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
    rule: 'portable-dynamic',
    bad: () => ({ files: { 'usr/bin/demo': { copy: program } } }),
    good: () => ({ files: { 'usr/bin/demo': { copy: staticProgram } } }),
  },
  {
    rule: 'glibc',
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

async function lint(content: ImageContent, target: Target, arch: Arch, about: LintSubject['definition']): Promise<Finding[]> {
  const image = await makeImage(tools, dir, content, { name: 'demo', arch, target });
  const subject = { name: 'demo', kind: 'sysext', arch, target, ...(about === undefined ? {} : { definition: about }) } as const;
  return (await lintImage(image, 'squashfs', subject, { tools, store })).findings;
}

describe.each(fixtures.map((fixture) => ({ ...fixture, title: [fixture.rule, fixture.case].filter(Boolean).join(': ') })))(
  '$title',
  (fixture) => {
    const target = fixture.target ?? 'portable';
    test('fails its rule, with a fix', async () => {
      const findings = (await lint(fixture.bad(), target, fixture.arch ?? host, fixture.definition)).filter(
        ({ rule }) => rule === fixture.rule,
      );
      expect(findings).not.toEqual([]);
      expect(findings[0]).toMatchObject({ level: IMAGE_RULES[fixture.rule]?.level, fix: IMAGE_RULES[fixture.rule]?.fix });
    });
    test('its twin passes it', async () => {
      const about = fixture.goodDefinition ?? fixture.definition;
      const findings = await lint(fixture.good(), target, fixture.goodArch ?? host, about);
      expect(findings.filter(({ rule }) => rule === fixture.rule)).toEqual([]);
    });
  },
);

test('an image of 2 GiB is too large, one byte less is not', () => {
  const context = { name: 'demo', kind: 'sysext', arch: host, entries: [], elves: new Map(), loaders: new Map(), texts: new Map(), shebangs: new Map(), omissions: [], releaseFile: undefined, promises: [], replaces: [], beside: new Set<string>() } as const; // prettier-ignore
  expect(IMAGE_RULES['size']?.check({ ...context, size: 2 ** 31 })).toHaveLength(1);
  expect(IMAGE_RULES['size']?.check({ ...context, size: 2 ** 31 - 1 })).toEqual([]);
});

test('every rule has a fixture that fails it', () => {
  // What a program names is judged with its packages at hand: compiled-in.test.ts.
  const covered = new Set([...fixtures.map(({ rule }) => rule), 'size', 'compiled-in-path']);
  expect(Object.keys(IMAGE_RULES).filter((rule) => !covered.has(rule))).toEqual([]);
});

describe('the table of rules', () => {
  test('says of each what is checked, why, and what to do', () => {
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
  test.each(['zzz', 'constructor', ''])('%j: it says where the rules are listed', (typed) => {
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
  test('of a rule that cannot be waived it is an error that says why, and waives nothing', async () => {
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
    test('a name that is no glob is taken as it is', () => {
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
  test('that waives nothing is told when the tree is staged', async () => {
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
