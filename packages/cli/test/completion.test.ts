import { execFileSync } from 'node:child_process';
import { mkdtemp, mkdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { completionScript, SHELLS, type Shell } from '../src/completion/scripts.ts';
import { completionWords } from '../src/completion/words.ts';
import { createProgram } from '../src/program.ts';

// The scripts are run by the shells that they are for.
const words = completionWords(createProgram(new AbortController().signal));
let dir: string;
const script = (shell: Shell): string => join(dir, `completion.${shell}`);

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'completion-'));
  const extensions = join(dir, "the checkout's extensions");
  for (const name of ['kubernetes', 'kustomize', 'yq']) {
    await mkdir(join(extensions, name), { recursive: true });
    await writeFile(join(extensions, name, 'extension.ts'), '');
  }
  await mkdir(join(extensions, 'not-an-extension'));
  for (const shell of SHELLS) await writeFile(script(shell), completionScript(shell, words, extensions));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

const isInstalled = (shell: Shell): boolean => {
  try {
    execFileSync(shell, ['-c', 'true']);
    return true;
  } catch {
    return false;
  }
};

/** What bash proposes for a line, whose last word is the one that is completed. */
function bash(line: readonly string[]): string[] {
  const code = 'source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); compopt() { :; }; _flatcar_ext; printf "%s\\n" "${COMPREPLY[@]}"';
  const out = execFileSync('bash', ['--norc', '-c', code, script('bash'), 'flatcar-ext', ...line], { cwd: dir, encoding: 'utf8' });
  return out.split('\n').filter((word) => word !== '');
}

function fish(line: readonly string[]): string[] {
  const code = 'source $argv[1]; complete --do-complete $argv[2]';
  const typed = ['flatcar-ext', ...line].join(' ');
  const out = execFileSync('fish', ['--no-config', '-c', code, script('fish'), typed], { cwd: dir, encoding: 'utf8' });
  return out.split('\n').flatMap((one) => (one === '' ? [] : [one.split('\t')[0] ?? '']));
}

const CASES: readonly (readonly [line: readonly string[], expected: readonly string[]])[] = [
  [['bui'], ['build']],
  [
    ['build', 'ku'],
    ['kubernetes', 'kustomize'],
  ],
  [['build', 'kubernetes', 'y'], ['yq']],
  [
    ['build', '--profile', ''],
    ['fast', 'publish'],
  ],
  [['build', '--profile', 'fast', 'y'], ['yq']],
  [['build', '--arch', 'a'], ['arm64']],
  [['build', '--payl'], ['--payloads-only']],
  [['cache', 'pr'], ['prune']],
  [['cache', 'prune', '--max'], ['--max-size']],
  [['explain', 'usr-sb'], ['usr-sbin']],
  [['inspect', 'completion.ba'], ['completion.bash']],
  [
    ['completion', ''],
    ['bash', 'zsh', 'fish'],
  ],
];

test.each(CASES)('bash completes %s', (line, expected) => {
  expect(bash(line).toSorted()).toEqual([...expected].toSorted());
});

test.for(CASES)('fish completes %s', ([line, expected], { skip }) => {
  skip(!isInstalled('fish'), 'fish is not installed');
  expect(fish(line).toSorted()).toEqual([...expected].toSorted());
});

test('every command and every option of the program is completed', () => {
  const paths = words.map(({ path }) => path.join(' '));
  expect(paths).toEqual(expect.arrayContaining(['build', 'cache prune', 'ci plan', 'keys rotate']));
  for (const { path, options } of words) expect(bash([...path, '-'])).toEqual(options.flatMap(({ names }) => names));
});

test('the scripts have the syntax of their shells', ({ skip }) => {
  const installed = SHELLS.filter(isInstalled);
  for (const shell of installed) expect(() => execFileSync(shell, ['-n', script(shell)]), shell).not.toThrow();
  skip(installed.length < SHELLS.length, `not installed: ${SHELLS.filter((shell) => !installed.includes(shell)).join(', ')}`);
});
