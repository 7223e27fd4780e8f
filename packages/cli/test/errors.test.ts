import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { REPOSITORY } from '@flatcar/workspace/select';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { createProgram } from '../src/program.ts';
import { run } from '../src/run.ts';

// errors.txt has what people read when they type something wrong, or when something is not there: to be read from top to bottom.
// `vitest -u` writes it. Every line is run by the real program, in a folder with the files below.
let dir: string;
const before = { cwd: process.cwd(), env: { ...process.env } };

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'errors-'));
  await mkdir(join(dir, 'empty'));
  await mkdir(join(dir, 'keys'));
  await writeFile(join(dir, 'text.raw'), 'not an image');
  await writeFile(join(dir, 'text.json'), '{"include": 1}');
  await writeFile(join(dir, 'broken.json'), '{');
  await writeFile(join(dir, 'text.gpg'), 'not a key');
  for (const name of Object.keys(process.env))
    if (/^(?:FLATCAR_EXT_(?!RELEASES$|CACHE$)|GITHUB_|AWS_|CI$|FORCE_COLOR)/.test(name)) delete process.env[name];
  process.chdir(dir);
});
afterAll(async () => {
  process.chdir(before.cwd);
  for (const name of Object.keys(process.env)) if (!(name in before.env)) delete process.env[name];
  Object.assign(process.env, before.env);
  await rm(dir, { recursive: true, force: true });
});

/** Words of a command line; single quotes hold words together, and '' is an empty one. */
const wordsOf = (line: string): string[] => [...line.matchAll(/'([^']*)'|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain ?? '');

/** Runs a line, and gives all that it prints and its exit code; places and versions of the moment are replaced. */
async function printed(line: string): Promise<string> {
  let text = '';
  const write = (part: string | Uint8Array, done?: unknown): boolean => {
    text += String(part);
    if (typeof done === 'function') (done as () => void)();
    return true;
  };
  const spies = [vi.spyOn(process.stdout, 'write').mockImplementation(write), vi.spyOn(process.stderr, 'write').mockImplementation(write)];
  let code: number;
  try {
    code = await run(wordsOf(line));
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
  const plain = text
    .replaceAll(dir, '<folder>')
    .replaceAll(REPOSITORY, '<checkout>')
    .replaceAll(resolve(tmpdir()), '<temporary>')
    .replaceAll(/pinned versions: .*/g, 'pinned versions: <versions>');
  return `$ flatcar-ext ${line}\n${plain}exit code ${code}\n`;
}

/** Commands that need arguments or options, without any. */
function bare(): string[] {
  const program = createProgram(new AbortController().signal);
  const leaves = program.commands.flatMap((one) =>
    one.commands.length === 0 ? [[one.name(), one] as const] : one.commands.map((sub) => [`${one.name()} ${sub.name()}`, sub] as const),
  );
  return leaves.flatMap(([name, command]) =>
    command.registeredArguments.some(({ required }) => required) || command.options.some(({ mandatory }) => mandatory) ? [name] : [],
  );
}

const TITLES: Readonly<Record<string, () => readonly string[]>> = {
  'Commands and options that do not exist': () => [
    'bild',
    'build --relase stable',
    'cache status',
    'keys make',
    'build yq --profile fst',
    'build yq --origin mirror',
    'completion csh',
    'inspect one two',
    'build yq --arch x86-64 --arch arm64',
    "inspect ''",
  ],
  'Commands without what they need': bare,
  Names: () => [
    'build',
    'build btpo',
    'build xyzzy',
    'build yq@0.1',
    'build yq@',
    'build Yq',
    'list btpo',
    'lint btpo',
    'outdated btpo',
    'docs btpo',
    'plan btpo',
    'pin',
    'pin btpo',
    'pin yq@v9',
    'bump',
    'bump btpo',
    'bump yq --all',
    'test',
    'test btpo',
    'test yq@4.54.2',
    'test yq --all',
    'remove btpo',
    'explain usr-sbn',
    'explain xyzzy',
    'new yq --yes --summary x --files',
    'new Upper --yes --summary x --files',
    'new flatcar-x --yes --summary x --files',
  ],
  'Values of options': () => [
    'build yq --arch mips',
    'build yq --arch=',
    'build yq --release stabl',
    'build yq --release 4593.2.99',
    'build yq --release=',
    'build yq --only=,',
    'build yq --only yqq',
    'build yq --out=',
    'build yq --key key.pem',
    'build yq --keys nowhere',
    'build yq --pins nowhere.json',
    'build yq --pins broken.json',
    'build yq --out /proc/x',
    'cache prune --older-than 3d',
    'cache prune --max-size 10GB',
    'pin yq --coupled cri',
    'test yq --os windows',
    'test yq --release portable',
    'withdraw yq --content 1.0 --reason x --tree empty',
    'releases update --from nowhere.json',
    'releases update --from broken.json',
  ],
  'Files that are missing, or are something else': () => [
    'inspect nowhere.raw',
    'inspect text.raw',
    'diff nowhere.raw text.raw',
    'verify nowhere.raw',
    'verify text.raw',
    'verify https://extensions.example.org/yq.raw',
    'lint nowhere.raw',
    'bind nowhere --release stable --out out',
    'bind empty --release stable --out out',
    'bind broken.json --release stable --out out',
    'ci build',
    'ci build --matrix nowhere.json',
    'ci build --matrix text.json',
    'ci build --job broken',
    'ci report --workflow Release',
  ],
  'Published trees': () => [
    "plan --tree ''",
    'plan --tree empty',
    'plan --tree ftp://extensions.example.org',
    'plan --tree empty --root nowhere.json',
    'plan --tree empty --root text.gpg',
    'plan --tree nowhere --keys keys',
    'publish empty --tree https://extensions.example.org --keys keys',
    'publish empty --tree oci://registry.example.org/extensions --keys keys',
    'publish empty --tree out --assets gitlab:owner/name --keys keys',
    'publish empty --tree out',
    'publish empty --tree out --keys nowhere',
    'publish s3://bucket/images --tree out --keys keys',
    'publish --tree s3://Bucket --keys keys',
    'retire --tree nowhere',
    'withdraw yq@1.0 --content 1.1 --reason x --tree nowhere',
    'mirror --tree empty --to out',
    'mirror --tree oci://registry.example.org/extensions --to out --base-url https://mirror.example.org --trust-first-use',
    'mirror --tree empty --to gs://bucket --base-url https://mirror.example.org',
    'butane yq --release stable --base-url extensions.example.org',
    'butane yq --release stable --base-url https://extensions.example.org --tree empty',
    'butane yq --release stable --base-url https://extensions.example.org --tree empty --root nowhere.json',
    'keys init .',
    'keys show empty',
    'keys show keys-nowhere',
    'keys rotate keys --role sums',
    'keys revoke keys 00000000',
    'keys sign keys',
    'publish images --timestamp --tree out --keys keys',
    'keys rotate empty',
    'keys init https://extensions.example.org',
  ],
  'New extensions': () => [
    'new tool --yes',
    'new tool --yes --summary x',
    'new tool --yes --summary x --github tool',
    'new tool --yes --summary x --files nowhere',
    'new tool --yes --summary x --files empty --license GPL-9',
    'new tool --yes --summary x --go example.org/tool --sha256 abc',
  ],
};

test('the errors of the command line are what errors.txt has', async () => {
  const blocks: string[] = [];
  for (const [title, lines] of Object.entries(TITLES)) {
    blocks.push(`${'═'.repeat(80)}\n${title}\n${'═'.repeat(80)}\n`);
    for (const line of lines()) blocks.push(await printed(line));
  }
  const text = blocks.join('\n');
  expect(text).not.toMatch(/please report|\n\s+at .*\.ts:\d+/);
  // Usage errors print nothing else, and what is wrong comes first.
  for (const block of blocks) if (block.endsWith('exit code 2\n')) expect(block).toMatch(/^\$ .*\nerror: /);
  await expect(text).toMatchFileSnapshot(join(import.meta.dirname, 'errors.txt'));
}, 600_000);
