// The catalogue page of a real tree in a real browser.
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import { openStore, parseRef, selectTargets, type Release } from '@flatcar/core/engine';
import {
  butaneText,
  ignitionConfig,
  initKeys,
  KEYS,
  loadKeys,
  localDestination,
  nodeComment,
  nodeConfig,
  parseExtensionIndex,
  parseIndex,
  publish,
} from '@flatcar/publish';
import { buildButane } from '@flatcar/publish/test/helpers/butane';
import { buildDemo } from '@flatcar/publish/test/helpers/demo';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { buildPage } from '../src/page.ts';
import { browserPath, startBrowser, TreeServer, watch } from './browser.ts';

const AXE = createRequire(import.meta.url).resolve('axe-core/axe.min.js');
const STABLE = '4593.2.5';
const BETA = '4790.0.0';
const BASE_URL = 'https://one.example.org/tree';
const SECOND = 30_000;

let dir: string;
let browser: Browser;
let server: TreeServer;
let url: string;
let html: Buffer;

/** What axe finds wrong with the page as it is. */
async function violations(page: Page): Promise<string[]> {
  await page.evaluate(await readFile(AXE, 'utf8'));
  return page.evaluate(async () => {
    const { axe } = globalThis as unknown as { axe: { run: () => Promise<{ violations: { id: string; nodes: { html: string }[] }[] }> } };
    const { violations: found } = await axe.run();
    return found.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(' ')}`);
  });
}

/** Opens a view in a new page, and fails for anything that the page must not do. */
async function withPage(view: string, use: (page: Page) => Promise<void>, options: Parameters<Browser['newPage']>[0] = {}): Promise<void> {
  const page = await browser.newPage(options);
  page.setDefaultTimeout(SECOND);
  const problems = watch(page, url);
  try {
    await page.goto(`${url}#/${view}`);
    await page.locator('main h1').waitFor();
    await use(page);
    expect(problems).toEqual([]);
  } finally {
    await page.close();
  }
}

const texts = (page: Page, selector: string): Promise<string[]> => page.locator(selector).allInnerTexts();

/** Builds and publishes: demo 1.0.0 (withdrawn) and 1.0.1, other 3.0 for portable only. */
beforeAll(async () => {
  if (browserPath === undefined) return;
  dir = await mkdtemp(join(tmpdir(), 'site-'));
  await initKeys(join(dir, 'keys'));
  const all = ['portable', ...(selectTargets(`${STABLE},${BETA}`) as Release[])] as const;
  await buildDemo(join(dir, 'images'), { version: '1.0.0', targets: all });
  await buildDemo(join(dir, 'images-2'), { version: '1.0.1', targets: all, says: 'something longer than before' });
  await buildDemo(join(dir, 'images'), { name: 'other', version: '3.0', targets: ['portable'] });
  html = await buildPage(openStore());
  const options = {
    destination: localDestination(join(dir, 'tree')),
    keys: await loadKeys(join(dir, 'keys'), {}),
    unsigned: true,
    baseUrl: BASE_URL,
    page: html,
  };
  await publish({ ...options, paths: [join(dir, 'images')] });
  const withdraw = { name: 'demo', version: '1.0.0', reason: 'it eats disks', by: '1.0.1' };
  await publish({ ...options, paths: [join(dir, 'images-2')], withdraw });
  server = new TreeServer(join(dir, 'tree'));
  url = await server.start();
  browser = await startBrowser();
});
afterAll(async () => {
  if (browserPath === undefined) return;
  await browser.close();
  server.close();
  await rm(dir, { recursive: true, force: true });
});

test('the first view is below 100 kB compressed', async () => {
  expect(gzipSync(await buildPage(openStore())).length).toBeLessThan(100_000);
});

describe.skipIf(browserPath === undefined)('in Chromium (skipped without: apt-get install chromium)', () => {
  test('search and filters find extensions, and the URL keeps them', async () => {
    await withPage('', async (page) => {
      await page.getByText('2 of 2 extensions').waitFor();
      expect(await texts(page, '.cards h2')).toEqual(['demo', 'other']);
      await page.getByLabel('Search').fill('3.0 demonstration');
      await page.getByText('1 of 2 extensions').waitFor();
      expect(await texts(page, '.cards h2')).toEqual(['other']);
      await page.getByLabel('Search').fill('');
      await page.getByLabel('Flatcar release').selectOption(BETA);
      await page.getByText('1 of 2 extensions').waitFor();
      expect(await texts(page, '.cards h2')).toEqual(['demo']);
      await page.reload();
      await page.getByText('1 of 2 extensions').waitFor();
      expect(page.url()).toContain(`release=${BETA}`);
    });
  });

  test('an extension shows images, why a version was withdrawn, components with their proof, and changes', { tags: ['full'] }, async () => {
    await withPage('demo', async (page) => {
      await page.getByText('Withdrawn on', { exact: false }).waitFor({ state: 'attached' });
      const versions = await texts(page, '.version > summary h2');
      expect(versions).toEqual(['1.0.1', '1.0.0']);
      const newest = page.locator('.version').first();
      expect(await newest.locator('tbody th').allInnerTexts()).toEqual(['portable', STABLE, BETA]);
      await newest.getByText('Components, their proof').click();
      await page.getByText('nothing published: as first downloaded').waitFor();
      await page.getByRole('cell', { name: 'usr/bin/demo' }).waitFor();
      await page.locator('.version').last().locator('summary').first().click();
      await page.getByText('it eats disks. Use 1.0.1.').waitFor();
      expect(await page.locator('svg circle').count()).toBeGreaterThanOrEqual(2);
    });
  });

  test('the composer prints what the commands print, and the real Butane accepts it', async () => {
    const index = parseIndex(await readFile(join(dir, 'tree/index.json'), 'utf8'), 'index.json');
    const words = ['demo@1.0', 'other'];
    const readExtension = async (name: string): Promise<ReturnType<typeof parseExtensionIndex> | undefined> => {
      const path = index.extensions.find((one) => one.name === name)?.path;
      return path === undefined ? undefined : parseExtensionIndex(await readFile(join(dir, 'tree', path), 'utf8'), path);
    };
    const { config } = await nodeConfig(
      { wanted: words.map(parseRef), targets: ['portable'], arch: 'x86-64', baseUrl: BASE_URL, minimal: false, stager: true },
      readExtension,
      await readFile(join(dir, 'tree', KEYS.keyring)),
    );
    await withPage('compose', async (page) => {
      await page.getByLabel('Add an extension').selectOption('demo');
      await page.getByLabel('demo follows').selectOption('1.0');
      await page.getByLabel('Add an extension').selectOption('other');
      // other has no image that is bound to the chosen release.
      await page.getByText('no version of other has an image').waitFor();
      await page.getByLabel('Flatcar release').selectOption('portable');
      await page.locator('pre').waitFor();
      const butane = (await page.locator('pre').textContent()) ?? '';
      expect(butane).toBe(await butaneText(config, nodeComment(words, 'portable', { serial: index.serial, baseUrl: BASE_URL })));
      await writeFile(join(dir, 'node.bu'), butane);
      const { stdout } = await promisify(execFile)(await buildButane(), ['--strict', join(dir, 'node.bu')]);
      await page.getByLabel('Form').selectOption('ignition');
      await page.getByRole('link', { name: 'Download node.ign' }).waitFor();
      const ignition = JSON.parse((await page.locator('pre').textContent()) ?? '') as unknown;
      expect(ignition).toEqual(JSON.parse(JSON.stringify(ignitionConfig(config))));
      expect((JSON.parse(stdout) as { ignition: unknown }).ignition).toEqual((ignition as { ignition: unknown }).ignition);
      await page.reload();
      await page.getByRole('link', { name: 'Download node.ign' }).waitFor();
      expect(await page.getByLabel('demo follows').inputValue()).toBe('1.0');
    });
  });

  test('a file that is not the one that the index lists is refused', async () => {
    const index = parseIndex(await readFile(join(dir, 'tree/index.json'), 'utf8'), 'index.json');
    const path = index.extensions.find(({ name }) => name === 'other')?.path ?? '';
    server.replaced.set(path, Buffer.from((await readFile(join(dir, 'tree', path), 'utf8')).replace('A demonstration', 'A lie')));
    try {
      await withPage('other', async (page) => {
        expect(await page.getByRole('alert').innerText()).toContain('its digest is');
        expect(await page.locator('body').innerText()).not.toContain('A lie');
      });
    } finally {
      server.replaced.clear();
    }
  });

  test('its policy lets no other script run and no other host be asked', { tags: ['full'] }, async () => {
    const page = await browser.newPage();
    try {
      await page.goto(url);
      await page.locator('.cards').waitFor();
      const ran = await page.evaluate(`(async () => {
        const script = document.createElement('script');
        script.textContent = 'globalThis.ran = true';
        document.body.append(script);
        const asked = await fetch('${url.replace('127.0.0.1', 'localhost')}').then(() => true, () => false);
        return { ran: 'ran' in globalThis, asked };
      })()`);
      expect(ran).toEqual({ ran: false, asked: false });
    } finally {
      await page.close();
    }
  });

  test.each(['', 'demo', 'compose?x=demo&release=portable'])(
    'axe finds nothing in #/%s, dark or light, narrow or wide',
    { tags: ['full'] },
    async (view) => {
      for (const [colorScheme, width] of [
        ['light', 400],
        ['dark', 1280],
        ['light', 3840],
      ] as const)
        await withPage(
          view,
          async (page) => {
            await page.locator('.cards, .version, pre').first().waitFor();
            await page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true");
            if (view === 'demo') await page.getByText('Changes since 1.0.0').waitFor();
            expect(await violations(page), `${colorScheme} ${width}`).toEqual([]);
            expect(await page.evaluate('document.documentElement.scrollWidth - innerWidth')).toBeLessThanOrEqual(0);
          },
          { colorScheme, viewport: { width, height: 900 } },
        );
    },
  );

  test('the keyboard reaches everything, in order', { tags: ['full'] }, async () => {
    await withPage('', async (page) => {
      await page.locator('.cards').waitFor();
      const reached: string[] = [];
      for (let count = 0; count < 8; count += 1) {
        await page.keyboard.press('Tab');
        reached.push(String(await page.evaluate('document.activeElement.innerText || document.activeElement.tagName')));
      }
      expect(reached.map((text) => text.split('\n')[0])).toEqual([
        'Skip to the content',
        'Flatcar extensions',
        'Compose a node',
        'INPUT',
        'any',
        'any',
        'demo',
        'other',
      ]);
      await page.keyboard.press('Enter');
      await page.getByRole('heading', { level: 1, name: 'other' }).waitFor();
      expect(await page.evaluate('document.activeElement.tagName')).toBe('H1');
    });
  });
});
