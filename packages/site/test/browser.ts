import { createServer, type Server } from 'node:http';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { chromium, type Browser, type Page } from 'playwright-core';

/** Debian's Chromium, or the browser that CHROME_PATH names; undefined if there is none. */
export const browserPath = [process.env['CHROME_PATH'] ?? '', '/usr/bin/chromium'].find((path) => existsSync(path));

/** Starts the browser. Its own sandbox needs what a container does not have. */
export const startBrowser = (): Promise<Browser> =>
  chromium.launch({ executablePath: browserPath, args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu'], timeout: 120_000 });

/** A web server of a folder, below `/some/where/`: a tree need not be at the root of its host. */
export class TreeServer {
  readonly #server: Server;
  /** Bytes instead of those of a file. */
  readonly replaced = new Map<string, Buffer>();

  constructor(dir: string) {
    this.#server = createServer((request, response) => {
      const path = decodeURIComponent((request.url ?? '').split('?')[0] ?? '').replace(/^\/some\/where\//, '') || 'index.html';
      const replaced = this.replaced.get(path);
      const read = replaced === undefined ? readFile(join(dir, path)) : Promise.resolve(replaced);
      read.then(
        (bytes) =>
          response.writeHead(200, { 'content-type': path.endsWith('.html') ? 'text/html' : 'application/octet-stream' }).end(bytes),
        () => response.writeHead(404).end(),
      );
    });
  }

  /** Starts the server and returns the URL of the tree. */
  async start(): Promise<string> {
    await new Promise<void>((ready) => {
      this.#server.listen(0, '127.0.0.1', ready);
    });
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/some/where/`;
  }

  close(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}

/** What a page did that it must not do: errors, violations of its policy, requests to other hosts. */
export function watch(page: Page, url: string): string[] {
  const problems: string[] = [];
  page.on('console', (message) => message.type() === 'error' && problems.push(message.text()));
  page.on('pageerror', (error) => problems.push(String(error)));
  page.on('request', (request) => {
    if (!request.url().startsWith(url) && !request.url().startsWith('data:')) problems.push(`request: ${request.url()}`);
  });
  return problems;
}
