import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { catalogue, digestOf, filesBelow, hashFile, mapParallel, type Store } from '@flatcar/core/engine';
import type { Plugin, Rolldown } from 'vite';

const APP = resolve(import.meta.dirname, '../app');
/** Raised if the page is composed in another way from the same sources. */
const FORMAT = 1;

/** The catalogue of Flatcar releases as a module. */
const releasesModule = (): Plugin => ({
  name: 'releases',
  resolveId: (id) => (id === 'virtual:releases' ? '\0releases' : undefined),
  load: (id) => (id === '\0releases' ? `export default ${JSON.stringify(catalogue())}` : undefined),
});

const hashOf = (text: string): string => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;

/**
 * The page as one file: nothing refers to another file, so that it can be replaced in one step and works in any folder. Its policy allows this
 * script and this style by their digests, and requests to its own host only.
 */
export function composePage(html: string, script: string, style: string): string {
  // The end of an element inside a script would end the script.
  const code = script.replaceAll('</script', '<\\/script');
  const policy = [
    "default-src 'none'",
    `script-src ${hashOf(code)}`,
    `style-src ${hashOf(style)}`,
    "connect-src 'self'",
    'img-src data:',
    "base-uri 'none'",
    "form-action 'none'",
  ].join('; ');
  return html
    .replace(/\s*<link rel="stylesheet"[^>]*>/, () => `\n    <style>${style}</style>`)
    .replace(/\s*<script type="module"[^>]*><\/script>/, () => `\n    <script type="module">${code}</script>`)
    .replace('<meta charset="utf-8" />', (first) => `${first}\n    <meta http-equiv="Content-Security-Policy" content="${policy}" />`);
}

/** Compiles the page. Throws if it does not become one script and one style. */
async function compile(): Promise<string> {
  const { build } = await import('vite');
  const output = (await build({
    root: APP,
    configFile: false,
    logLevel: 'error',
    plugins: [releasesModule()],
    oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
    build: {
      write: false,
      target: 'es2022',
      cssCodeSplit: false,
      modulePreload: false,
      rolldownOptions: { input: join(APP, 'main.tsx'), output: { codeSplitting: false } },
    },
  })) as Rolldown.RolldownOutput;
  const scripts = output.output.flatMap((one) => (one.type === 'chunk' ? [one.code] : []));
  const [script, ...more] = scripts;
  if (script === undefined || more.length > 0) throw new Error(`the page has ${scripts.length} scripts`);
  const style = await readFile(join(APP, 'style.css'), 'utf8');
  return composePage(await readFile(join(APP, 'index.html'), 'utf8'), script.trim(), style.trim());
}

/** Digest of everything that decides the page: its sources, the code that it shares with the commands, the locked packages, the catalogue. */
async function keyOf(): Promise<string> {
  const repository = resolve(import.meta.dirname, '../../..');
  const folders = [
    'packages/site/app',
    'packages/site/src',
    'packages/core/src/model',
    'packages/core/src/util',
    'packages/publish/src/node',
    'packages/publish/src/tree',
  ];
  const listed = await Promise.all(
    folders.map(async (folder) => (await filesBelow(join(repository, folder))).map(({ path }) => `${folder}/${path}`)),
  );
  const files = ['package-lock.json', ...listed.flat()].toSorted();
  const digests = await mapParallel(files, async (file) => [file, await hashFile(join(repository, file))]);
  return digestOf({ format: FORMAT, files: digests, releases: catalogue() });
}

/** The catalogue page, index.html of a published tree. It is compiled once for its sources and kept in the store. */
export async function buildPage(store: Store): Promise<Buffer> {
  const { dir } = await store.result('page', await keyOf(), async (fresh) => {
    await writeFile(join(fresh, 'index.html'), await compile());
  });
  return readFile(join(dir, 'index.html'));
}
