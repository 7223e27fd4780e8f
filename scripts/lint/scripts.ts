// Lints what oxlint does not read: shell scripts (shellcheck) and GitHub workflows (actionlint, and zizmor for their security).
// All are pinned, and kept in the store: scripts/run node scripts/lint/scripts.ts
import { readFile, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { execa } from 'execa';
import { digestOf, exec, buildGoTool, hostArch, openStore, openTools, type Store } from '@flatcar/core/engine';
import { installWheels } from '@flatcar/testing/pip';

const root = resolve(import.meta.dirname, '../..');
const store = openStore();
const report = (event: { type: string; text?: string }): void => {
  if (event.type === 'step') console.error(event.text);
};
const tools = openTools(store, report);
let failed = false;

async function check(name: string, command: string, args: readonly string[], env: Record<string, string> = {}): Promise<void> {
  const { exitCode, all, shortMessage } = await execa(command, args, { cwd: root, all: true, reject: false, env });
  if (exitCode === 0) return console.log(`${name}: nothing found`);
  failed = true;
  console.error(`${name}:\n${all === '' ? shortMessage : all}`);
}

/** Scripts of the repository by their first line or suffix; those without a first line are run by sh. */
async function shellScripts(): Promise<Map<'sh' | 'bash', string[]>> {
  const files = (await exec('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], { cwd: root }))
    .split('\0')
    .filter(Boolean);
  const found = await Promise.all(
    files.map(async (file) => {
      const [first = ''] = (await readFile(join(root, file), 'utf8').catch(() => '')).split('\n', 1);
      const shell = /^#!.*\b(sh|bash|dash)\b/.exec(first)?.[1];
      if (shell === undefined && !file.endsWith('.sh')) return [];
      return [{ file, shell: shell === 'bash' ? ('bash' as const) : ('sh' as const) }];
    }),
  );
  return new Map([...Map.groupBy(found.flat(), ({ shell }) => shell)].map(([shell, group]) => [shell, group.map(({ file }) => file)]));
}

/** zizmor from its wheel, which requirements.txt pins; undefined if it is not available. */
async function zizmor(from: Store): Promise<string | undefined> {
  const requirements = join(import.meta.dirname, 'requirements.txt');
  const skip = (why: string): undefined => {
    if (process.env['GITHUB_ACTIONS'] !== undefined && hostArch() === 'x86-64') throw new Error(`zizmor is not available: ${why}`);
    console.log(`zizmor: skipped, ${why}`);
  };
  if (hostArch() !== 'x86-64') return skip('only its wheel for x86-64 is pinned; CI has that');
  const pip = await execa('python3', ['-m', 'pip', '--version'], { reject: false });
  if (pip.exitCode !== 0) return skip('this machine has no pip (python3-pip)');
  const { dir } = await from.result(
    'zizmor',
    digestOf({ number: 1, requirements: await readFile(requirements, 'utf8') }),
    async (fresh) => {
      console.error('fetching zizmor');
      await installWheels(requirements, fresh);
    },
  );
  return join(dir, 'bin/zizmor');
}

const { command, args, env } = await tools.command('shellcheck');
for (const [shell, files] of await shellScripts())
  await check(`shellcheck, ${files.length} scripts for ${shell}`, command, [...args, '--shell', shell, ...files], env);

const actionlint = await buildGoTool(import.meta.dirname, { store, tools, report });
await store.withTemp(async (temp) => {
  // actionlint checks the scripts of workflows too, by a shellcheck that is one file.
  const shellcheck = join(temp, 'shellcheck');
  const line = [command, ...(args ?? [])].map((word) => `'${word}'`).join(' ');
  await writeFile(shellcheck, `#!/bin/sh\nexec env OPENSSL_CONF=/dev/null ${line} "$@"\n`, { mode: 0o755 });
  await check('actionlint', actionlint, ['-shellcheck', shellcheck, '-pyflakes', '']);
});

const security = await zizmor(store);
// Offline: what it would ask GitHub for needs a token, and differs from day to day.
if (security !== undefined) await check('zizmor', security, ['--offline', '--no-progress', '--quiet', '.github']);
if (failed) process.exitCode = 1;
