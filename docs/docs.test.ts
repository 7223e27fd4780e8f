import { execFile } from 'node:child_process';
import { access, cp, glob, mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { lexer, type Token, type Tokens } from 'marked';
import { createProgram } from '../packages/cli/src/program.ts';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const REPOSITORY = resolve(import.meta.dirname, '..');
/** Pages whose command blocks run, each in the order of the page, all in one copy of the repository. */
const PAGES = [
  ...(await Array.fromAsync(glob('docs/*.md', { cwd: REPOSITORY }))).toSorted(),
  'README.md',
  'CONTRIBUTING.md',
  'SECURITY.md',
];
/** Languages of command blocks. A `console` block is a terminal session: lines that begin with `$ ` are commands, the others their output. */
const SHELL = new Set(['sh', 'console']);
const run = promisify(execFile);

/** All tokens, including those inside lists and quotes. */
function flat(tokens: readonly Token[]): Token[] {
  return tokens.flatMap((token) => {
    const { items = [], tokens: inner = [] } = token as { items?: Token[]; tokens?: Token[] };
    return [token, ...flat(items), ...flat(inner)];
  });
}

const tokensOf = async (page: string): Promise<Token[]> => flat(lexer(await readFile(join(REPOSITORY, page), 'utf8')));
const isCode = (token: Token): token is Tokens.Code => token.type === 'code';

interface Block {
  readonly text: string;
  readonly isSession: boolean;
  /** Why the block does not run. */
  readonly notRun: string | undefined;
}

async function blocksOf(page: string): Promise<Block[]> {
  return (await tokensOf(page)).filter(isCode).flatMap(({ lang = '', text }) => {
    const [word = '', ...rest] = lang.split(' ');
    if (!SHELL.has(word)) return [];
    return [{ text, isSession: word === 'console', notRun: /^not-run: *(.*)$/.exec(rest.join(' '))?.[1] }];
  });
}

interface Command {
  readonly command: string;
  /** Lines that a session shows below the command. */
  readonly output: readonly string[];
}

/** The commands of a session, each with its output; a command goes on after a backslash at the end of a line. */
function commandsOf(session: string): Command[] {
  return session
    .split(/^\$ /m)
    .filter((part) => part !== '')
    .map((part) => {
      const [command = '', ...output] = part.replaceAll('\\\n', '').trimEnd().split('\n');
      return { command, output };
    });
}

/**
 * A line of output without what differs between two correct runs: numbers (versions, sizes, seconds), architectures, the width of columns, and
 * the prefix that turbo puts before the lines of a package.
 */
function withoutDetails(line: string): string {
  return line
    .replace(/^[\w-]+:build: ?/, '')
    .replaceAll(/x86[-_]64|aarch64|amd64|arm64/g, 'ARCH')
    .replaceAll(/\d+(?:[.-]\d+)*/g, 'N')
    .replaceAll(/\s+/g, ' ')
    .trim();
}

/** The first line of a session that the output of its command does not have, after the lines before it; `…` stands for any lines. */
function missingLine(expected: readonly string[], actual: string): string | undefined {
  const lines = actual.split('\n').map(withoutDetails);
  let from = 0;
  for (const line of expected.filter((one) => one.trim() !== '' && one !== '…')) {
    const index = lines.indexOf(withoutDetails(line), from);
    if (index === -1) return line;
    from = index + 1;
  }
  return undefined;
}

/** Runs a block; around the output of each command of a session are two lines, by which it is found again. */
function scriptOf({ text, isSession }: Block, index: number): string {
  if (!isSession) return text;
  return commandsOf(text)
    .map(({ command }, number) => `echo '@begin ${index} ${number}'\n{ ${command}\n} 2>&1\necho '@end ${index} ${number}'`)
    .join('\n');
}

describe('output of sessions', () => {
  const output = 'tool:build: tool  1.2.3  portable  x86-64  4.0 MiB\nsecond line\nthird line';

  test.for([
    ['other numbers, another architecture, other columns', ['tool 1.3.0-1 portable arm64 12.5 MiB'], undefined],
    ['lines left out', ['…', 'third line'], undefined],
    ['a line that was not printed', ['second line', 'fourth line'], 'fourth line'],
    ['another order', ['third line', 'second line'], 'second line'],
    ['another word', ['tool 1.2.3 bound x86-64 4.0 MiB'], 'tool 1.2.3 bound x86-64 4.0 MiB'],
  ] as const)('%s', ([, expected, missing]) => {
    expect(missingLine(expected, output)).toBe(missing);
  });

  test('commands are the lines that begin with a dollar sign', () => {
    expect(commandsOf('$ echo a \\\n  b\na b\n$ true\n')).toEqual([
      { command: 'echo a   b', output: ['a b'] },
      { command: 'true', output: [] },
    ]);
  });
});

describe('every command block runs, or has the reason why it does not', () => {
  test.each(PAGES)('%s', async (page) => {
    const tokens = (await tokensOf(page)).filter(isCode);
    // A block without a language would do neither.
    for (const { lang, text } of tokens)
      if (/^(?:\$ |npm |npx |flatcar-ext |scripts\/run |systemctl )/m.test(text)) expect(SHELL, text).toContain((lang ?? '').split(' ')[0]);
    for (const { notRun, text } of await blocksOf(page)) if (notRun !== undefined) expect(notRun, text).toMatch(/\w+ \w+/);
  });
});

describe('links and pictures lead somewhere', () => {
  test.each(PAGES)('%s', async (page) => {
    const links = (await tokensOf(page))
      .filter((token): token is Tokens.Link | Tokens.Image => token.type === 'link' || token.type === 'image')
      .map(({ href }) => href);
    for (const href of links.filter((one) => !/^[a-z]+:/.test(one))) {
      const [path = '', anchor] = href.split('#');
      const target = path === '' ? page : join(dirname(page), path);
      await access(join(REPOSITORY, target));
      if (anchor === undefined || !target.endsWith('.md')) continue;
      const headings = (await tokensOf(target)).filter((token): token is Tokens.Heading => token.type === 'heading');
      expect(
        headings.map(({ text }) =>
          text
            .toLowerCase()
            .replaceAll(/[^\w\- ]/g, '')
            .replaceAll(' ', '-'),
        ),
        href,
      ).toContain(anchor);
    }
  });
});

/** Options that a page passes to commands of `flatcar-ext` which do not have them; blocks that do not run count too. */
function unknownOptions(text: string): string[] {
  const calls = text.replaceAll('\\\n', ' ').matchAll(/\bflatcar-ext ([a-z][a-z-]*(?: [a-z][a-z-]*)*)([^\n|`]*)/g);
  return [...calls].flatMap(([call, words = '', rest = '']) => {
    let command = createProgram(AbortSignal.timeout(60_000));
    for (const word of words.split(' ')) command = command.commands.find((one) => one.name() === word) ?? command;
    const known = new Set([...command.options, ...(command.parent?.options ?? [])].map(({ long }) => long));
    return [...rest.matchAll(/(?<= )--[a-z][a-z-]*/g)].flatMap(([option]) => (known.has(option) ? [] : [`${option}: ${call.trim()}`]));
  });
}

describe('options that a page passes to flatcar-ext exist', async () => {
  const readmes = await Array.fromAsync(glob('extensions/*/README.md', { cwd: REPOSITORY }));
  test.each([...PAGES, ...readmes.toSorted()])('%s', async (page) => {
    expect(unknownOptions(await readFile(join(REPOSITORY, page), 'utf8'))).toEqual([]);
  });
  test('one that does not exist is found', () => {
    expect(unknownOptions('flatcar-ext keys init ~/keys\nflatcar-ext ci plan a --out x \\\n  --nothing y')).toEqual([
      '--nothing: flatcar-ext ci plan a --out x    --nothing y',
    ]);
  });
});

describe('files of the repository that a page names exist', () => {
  test.each(PAGES)('%s', async (page) => {
    const text = await readFile(join(REPOSITORY, page), 'utf8');
    const named = [...text.matchAll(/`((?:packages|scripts|extensions|docs|\.github|\.ci)\/[a-z0-9./*-]+)`/g)].map(([, path = '']) => path);
    const missing: string[] = [];
    for (const path of new Set(named)) if ((await Array.fromAsync(glob(path, { cwd: REPOSITORY }))).length === 0) missing.push(path);
    // What the operator of a repository makes (docs/releases.md).
    expect(missing.filter((path) => !['.github/keyring.gpg', '.github/root', '.github/root/'].includes(path))).toEqual([]);
  });
});

describe('command blocks work, page after page, in a fresh copy of the repository', () => {
  let copy: string;

  beforeAll(async () => {
    copy = await mkdtemp(join(tmpdir(), 'docs-'));
    const { stdout } = await run('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
      cwd: REPOSITORY,
      maxBuffer: 64 << 20,
    });
    for (const file of stdout.split('\0').filter((one) => one !== '')) {
      await mkdir(dirname(join(copy, file)), { recursive: true });
      // Deleted files are listed until they are committed.
      await cp(join(REPOSITORY, file), join(copy, file), { verbatimSymlinks: true }).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== 'ENOENT') throw error;
      });
    }
    // `new` and `bump` are used in a repository: the build record names its commit.
    await run('git', ['init', '--quiet'], { cwd: copy });
    await run('git', ['-c', 'user.name=docs', '-c', 'user.email=docs@example.org', 'commit', '--quiet', '--allow-empty', '-m', 'copy'], {
      cwd: copy,
    });
  });
  afterAll(async () => {
    if (copy !== undefined) await rm(copy, { recursive: true, force: true });
  });

  for (const page of PAGES) {
    test(page, async () => {
      const blocks = (await blocksOf(page)).filter(({ notRun }) => notRun === undefined);
      if (blocks.length === 0) return;
      const env = Object.fromEntries(
        Object.entries(process.env).filter(
          ([key]) => !/^(?:VITEST|NODE_ENV|FLATCAR_EXT_(?!CACHE|DEBIAN|RELEASES)|npm_|INIT_CWD)/.test(key),
        ),
      );
      const script = ['set -euo pipefail', 'export PATH="$PWD/node_modules/.bin:$PATH"', ...blocks.map(scriptOf)].join('\n');
      const { stdout, stderr } = await run('scripts/run', ['bash', '-c', script], { cwd: copy, env, maxBuffer: 64 << 20 }).catch(
        (error: { stdout?: string; stderr?: string }) => {
          throw new Error(`a command of ${page} failed:\n${error.stdout ?? ''}\n${error.stderr ?? ''}`, { cause: error });
        },
      );
      expect(`${stdout}${stderr}`).not.toContain('this should not happen');
      for (const [index, { text, isSession }] of blocks.entries())
        for (const [number, { command, output }] of (isSession ? commandsOf(text) : []).entries()) {
          const [, printed = ''] = stdout.split(new RegExp(`^@(?:begin|end) ${index} ${number}$`, 'm'));
          expect(missingLine(output, printed), `${command} printed:\n${printed}`).toBeUndefined();
        }
    });
  }
});
