import { chmod, lstat, mkdir, mkdtemp, readlink, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { InstallRule } from '../src/definition/types.ts';
import { stage } from '../src/image/stage.ts';

let temp: string;
beforeAll(async () => {
  temp = await mkdtemp(join(tmpdir(), 'stage-test-'));
});
afterAll(() => rm(temp, { recursive: true, force: true }));

/** A folder with files by path; an executable one ends in `*`, a link is `path -> target`. */
async function folder(...paths: readonly string[]): Promise<string> {
  const dir = await mkdtemp(join(temp, 'part-'));
  for (const text of paths) {
    const [path = '', target] = text.replace('*', '').split(' -> ');
    const file = join(dir, path);
    await mkdir(dirname(file), { recursive: true });
    if (target !== undefined) await symlink(target, file);
    else await writeFile(file, path);
    if (text.endsWith('*')) await chmod(file, 0o755);
  }
  return dir;
}

const dest = (): Promise<string> => mkdtemp(join(temp, 'out-'));
const one = (component: string, dir: string, ...install: readonly InstallRule[]) => ({ component, dir, install });

async function refusal(dir: string, rule: InstallRule): Promise<unknown> {
  return stage([one('tool', dir, rule)], await dest()).catch((error: unknown) => error);
}

test('files are installed by path, by name and by globs, with their owners and modes', async () => {
  const dir = await folder('bin/tool*', 'share/a.conf', 'share/deep/b.conf', 'lib/run*', 'lib/link -> run');
  const out = await dest();
  const rules = [
    { from: 'tool', to: 'usr/bin/' },
    { from: 'share/a.conf', to: 'usr/share/tool/first.conf', mode: 0o600 },
    { from: 'share/**', to: 'usr/share/all/' },
    { from: 'lib/*', to: 'usr/lib/tool/' },
  ];
  const owners = await stage([one('tool', dir, ...rules)], out);
  expect([...owners.keys()].toSorted()).toEqual([
    'usr/bin/tool',
    'usr/lib/tool/link',
    'usr/lib/tool/run',
    'usr/share/all/a.conf',
    'usr/share/all/deep/b.conf',
    'usr/share/tool/first.conf',
  ]);
  expect(new Set(owners.values())).toEqual(new Set(['tool']));
  const mode = async (path: string): Promise<string> => ((await lstat(join(out, path))).mode & 0o7777).toString(8);
  expect(await Promise.all(['usr/bin/tool', 'usr/lib/tool/run', 'usr/share/all/a.conf', 'usr/share/tool/first.conf'].map(mode))).toEqual([
    '755',
    '755',
    '644',
    '600',
  ]);
  expect(await readlink(join(out, 'usr/lib/tool/link'))).toBe('run');
});

test('a whole path comes before file names that are the same', async () => {
  const dir = await folder('tool*', 'debug/tool*');
  const out = await dest();
  expect([...(await stage([one('tool', dir, { from: 'tool', to: 'usr/bin/' })], out)).keys()]).toEqual(['usr/bin/tool']);
});

test('two components that install a file at one path are refused, whatever its content', async () => {
  const [first, second] = [await folder('tool'), await folder('tool')];
  const rule = { from: 'tool', to: 'usr/bin/tool' };
  await expect(stage([one('first', first, rule), one('second', second, rule)], await dest())).rejects.toMatchObject({
    message: "'usr/bin/tool' comes from both 'first' and 'second'",
    next: 'install one of the files at another path in extension.ts',
  });
});

test('so are two rules of one component', async () => {
  const dir = await folder('a/tool', 'b/tool');
  await expect(stage([one('tool', dir, { from: '*/tool', to: 'usr/bin/' })], await dest())).rejects.toThrow(
    "'usr/bin/tool' comes from both 'tool' and 'tool'",
  );
});

test.each<[string, readonly string[], InstallRule, string, RegExp | undefined]>([
  [
    'no file of the name',
    ['bin/tol', 'doc/README'],
    { from: 'tool', to: 'usr/bin/' },
    "component 'tool' has no file 'tool'",
    /its files: bin\/tol, doc\/README$/,
  ],
  ['no file at all', [], { from: 'tool', to: 'usr/bin/' }, "component 'tool' has no file 'tool'", /its files: none$/],
  [
    'several files of the name',
    ['a/tool', 'b/tool'],
    { from: 'tool', to: 'usr/bin/' },
    "component 'tool' has several files 'tool': a/tool, b/tool",
    /whole path/,
  ],
  ['a glob without a match', ['a/tool'], { from: '*.conf', to: 'etc/' }, "component 'tool' has no file that matches '*.conf'", undefined],
  [
    'a glob and a path that is not a folder',
    ['a'],
    { from: '*', to: 'usr/bin/tool' },
    "component 'tool': '*' may match several files, so 'usr/bin/tool' must end in '/'",
    /extension\.ts/,
  ],
])('%s', async (_, paths, rule, message, next) => {
  expect(await refusal(await folder(...paths), rule)).toMatchObject({
    name: 'UserError',
    message,
    next: next === undefined ? undefined : (expect.stringMatching(next) as unknown),
  });
});
