// The catalogue page of a tree with 100,000 images: how long it takes, and what it looks like. FLATCAR_EXT_SCREENSHOTS=docs/catalogue writes the
// pictures of docs/catalogue.md.
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import {
  ARCHES,
  asUpstreamVersion,
  catalogue,
  findExtensions,
  imageVersion,
  loadDefinition,
  openStore,
  type TargetName,
} from '@flatcar/core/engine';
import {
  entryOf,
  extensionIndexPath,
  extensionIndexText,
  imagePath,
  indexText,
  KEYS,
  packagesPath,
  packagesText,
  type ExtensionIndex,
  type Index,
} from '@flatcar/publish';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { buildPage } from '../src/page.ts';
import { browserPath, startBrowser, TreeServer, watch } from './browser.ts';

const VERSIONS = 100;
const EXTENSIONS = 50;
/** Milliseconds within which a view must be there, on a machine that is busy with other tests; docs/catalogue.md has what was measured. */
const LIMIT = 10_000;
const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

let dir: string;
let server: TreeServer;
let browser: Browser;
let url: string;

/** Versions 1.40.1, 1.40.0, 1.39.1 … with an image for portable and nine releases on both architectures; sizes grow over time. */
function indexOf(name: string, summary: string): ExtensionIndex {
  const targets = ['portable', ...catalogue().map(({ number }) => number)].slice(0, 10) as TargetName[];
  const versions = Array.from({ length: VERSIONS }, (_, at) => {
    const version = `1.${Math.floor((VERSIONS - 1 - at) / 2)}.${(VERSIONS - 1 - at) % 2}`;
    const image = { version: imageVersion(version, 0), name };
    return {
      version: image.version,
      upstream: asUpstreamVersion(version),
      revision: 0,
      needs: { 'x86-64': { systemd: '252', glibc: '2.36', libraries: [] } },
      components: [{ name, version, license: 'Apache-2.0', origin: 'go' }],
      replaces: [],
      conflicts: [],
      requires: [],
      payloads: {},
      published: new Date(Date.UTC(2026, 10, 20) - at * 9 * 86_400_000).toISOString().slice(0, 10),
      withdrawn: at === 2 ? { reason: 'its service does not start', by: '1.49.1', date: '2026-11-20' } : undefined,
      images: targets.flatMap((target) =>
        ARCHES.map((architecture, index) => {
          const path = imagePath({ ...image, target, architecture });
          const digest = sha256(path);
          const size = Math.round((60 - at / 3 + Math.sin(at) * 2 - index * 4) * 2 ** 20);
          const sidecars = { manifest: digest, sbom: digest, provenance: digest };
          return { target, architecture, format: 'squashfs' as const, path, size, sha256: digest, sha512: digest.repeat(2), ...sidecars };
        }),
      ),
    };
  });
  return { schema: 1, name, kind: 'sysext', summary, essential: false, follow: 'latest', versions };
}

/** Names and summaries of the extensions of this repository, and more until there are enough. */
async function names(): Promise<(readonly [name: string, summary: string])[]> {
  const dirs = await findExtensions(resolve(import.meta.dirname, '../../..'));
  const real = await Promise.all(dirs.map(async (one) => loadDefinition(one)));
  const more = Array.from({ length: EXTENSIONS }, (_, index) => [`z-example-${index}`, 'one more'] as const);
  return [...real.map(({ name, summary }) => [name, summary] as const), ...more].slice(0, EXTENSIONS);
}

async function put(path: string, text: string): Promise<{ path: string; size: number; sha256: string }> {
  await mkdir(dirname(join(dir, path)), { recursive: true });
  await writeFile(join(dir, path), text);
  return { path, size: Buffer.byteLength(text), sha256: sha256(text) };
}

beforeAll(async () => {
  if (browserPath === undefined) return;
  dir = await mkdtemp(join(tmpdir(), 'site-large-'));
  const extensions: Index['extensions'] = [];
  for (const [name, summary] of await names()) {
    const index = indexOf(name, summary);
    const text = extensionIndexText(index);
    extensions.push(entryOf(index, await put(extensionIndexPath(name, sha256(text)), text)));
  }
  const packages = packagesText([]);
  const listed = await put(packagesPath(sha256(packages)), packages);
  const about = { schema: 1, serial: 812, baseUrl: 'https://extensions.example.org', origins: 'preferred', superseded: [] } as const;
  await put(
    'index.json',
    indexText({ ...about, extensions, packages: listed, keys: [], sumsKeys: [], sumsUntil: '2099-01-01', changes: [], superseded: [] }),
  );
  await put(KEYS.keyring, 'keys');
  await put('index.html', (await buildPage(openStore())).toString());
  server = new TreeServer(dir);
  url = await server.start();
  browser = await startBrowser();
}, 600_000);
afterAll(async () => {
  if (browserPath === undefined) return;
  await browser.close();
  server.close();
  await rm(dir, { recursive: true, force: true });
});

/** Opens a view in a new page, and gives the milliseconds until a part of it is visible. */
async function open(view: string, part: string, use: (page: Page) => Promise<void> = async () => undefined): Promise<number> {
  const page = await browser.newPage({ viewport: { width: 1280, height: 800 }, colorScheme: 'light' });
  page.setDefaultTimeout(LIMIT);
  const problems = watch(page, url);
  const start = performance.now();
  await page.goto(`${url}#/${view}`);
  await page.locator(part).first().waitFor();
  const took = performance.now() - start;
  await use(page);
  const pictures = process.env['FLATCAR_EXT_SCREENSHOTS'];
  const name = { '': 'list', compose: 'compose' }[view.split('?')[0] ?? ''] ?? 'extension';
  if (pictures !== undefined) await page.screenshot({ path: join(pictures, `${name}.png`) });
  await page.close();
  expect(problems).toEqual([]);
  return took;
}

test.skipIf(browserPath === undefined)(
  'a tree of 100,000 images is searched, opened and composed from (skipped without: apt-get install chromium)',
  { tags: ['full'], timeout: 600_000 },
  async () => {
    const list = await open('', '.cards li', async (page) => {
      await page.getByText(`${EXTENSIONS} of ${EXTENSIONS} extensions`).waitFor();
    });
    const extension = await open('kubernetes', '.version table');
    const composer = await open('compose?x=kubernetes@1.49&x=docker', 'pre');
    console.info(`list ${list.toFixed()} ms, extension ${extension.toFixed()} ms, composer ${composer.toFixed()} ms`);
    for (const took of [list, extension, composer]) expect(took).toBeLessThan(LIMIT);
  },
);
