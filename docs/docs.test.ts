import { execFile } from 'node:child_process';
import { access, cp, glob, mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { lexer, type Token, type Tokens } from 'marked';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const REPOSITORY = resolve(import.meta.dirname, '..');
/** Pages whose command blocks are run, each in the order of the page, all in one copy of the repository. */
const PAGES = [
  ...(await Array.fromAsync(glob('docs/*.md', { cwd: REPOSITORY }))).toSorted(),
  'README.md',
  'CONTRIBUTING.md',
  'SECURITY.md',
];
const SHELL = new Set(['sh', 'bash', 'shell', 'console']);
const run = promisify(execFile);

/** All tokens, those inside lists and quotes too. */
function flat(tokens: readonly Token[]): Token[] {
  return tokens.flatMap((token) => {
    const { items = [], tokens: inner = [] } = token as { items?: Token[]; tokens?: Token[] };
    return [token, ...flat(items), ...flat(inner)];
  });
}

const tokensOf = async (page: string): Promise<Token[]> => flat(lexer(await readFile(join(REPOSITORY, page), 'utf8')));
const isCode = (token: Token): token is Tokens.Code => token.type === 'code';

/** Command blocks of a page: those that are run, and why the others are not. */
async function blocksOf(page: string): Promise<{ text: string; notRun?: string }[]> {
  return (await tokensOf(page)).filter(isCode).flatMap(({ lang = '', text }) => {
    const [word = '', ...rest] = lang.split(' ');
    if (!SHELL.has(word)) return [];
    const notRun = /^not-run: *(.*)$/.exec(rest.join(' '))?.[1];
    return [{ text, ...(notRun === undefined ? {} : { notRun }) }];
  });
}

describe('every command block is run, or says why it is not', () => {
  test.each(PAGES)('%s', async (page) => {
    const tokens = (await tokensOf(page)).filter(isCode);
    // A block without a language would be neither.
    for (const { lang, text } of tokens)
      if (/^(?:\$ |npm |npx |flatcar-ext |scripts\/run |systemctl )/m.test(text)) expect(SHELL, text).toContain((lang ?? '').split(' ')[0]);
    for (const { notRun, text } of await blocksOf(page)) if (notRun !== undefined) expect(notRun, text).toMatch(/\w+ \w+/);
  });
});

describe('links lead somewhere', () => {
  test.each(PAGES)('%s', async (page) => {
    const links = (await tokensOf(page)).filter((token): token is Tokens.Link => token.type === 'link').map(({ href }) => href);
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
      const script = ['set -euo pipefail', 'export PATH="$PWD/node_modules/.bin:$PATH"', ...blocks.map(({ text }) => text)].join('\n');
      const { stdout, stderr } = await run('scripts/run', ['bash', '-c', script], { cwd: copy, env, maxBuffer: 64 << 20 }).catch(
        (error: { stdout?: string; stderr?: string }) => {
          throw new Error(`a command of ${page} failed:\n${error.stdout ?? ''}\n${error.stderr ?? ''}`, { cause: error });
        },
      );
      expect(`${stdout}${stderr}`).not.toContain('this should not happen');
    });
  }
});
