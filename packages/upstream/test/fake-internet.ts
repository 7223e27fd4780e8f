import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  defineExtension,
  openStore,
  openToolchains,
  openTools,
  type Component,
  type Event,
  type Extension,
  type Origin,
} from '@flatcar/core/engine';
import type { UpstreamContext } from '../src/context.ts';

/** What is answered: content, a status, or a whole answer made from the request. */
export interface Answer {
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Buffer;
}
export type Served = string | Buffer | Answer | ((request: IncomingMessage, body: string) => Answer);

/** The internet, as far as a test knows it: one local server that stands in for all hosts. */
export interface FakeInternet {
  readonly dir: string;
  readonly mirror: string;
  /** By URL without `https://`. */
  readonly served: Map<string, Served>;
  readonly asked: { readonly url: string; readonly headers: IncomingMessage['headers'] }[];
  readonly events: Event[];
  /** For one run: nothing is remembered from before. */
  context(): UpstreamContext;
  close(): Promise<void>;
}

export const sha = (data: string | Buffer, algorithm = 'sha256'): string => createHash(algorithm).update(data).digest('hex');

export async function openFakeInternet(): Promise<FakeInternet> {
  const dir = await mkdtemp(join(tmpdir(), 'upstream-'));
  const served: FakeInternet['served'] = new Map();
  const asked: FakeInternet['asked'] = [];
  const events: Event[] = [];
  const server = createServer((request, response) => {
    const url = decodeURI((request.url ?? '').slice(1));
    asked.push({ url, headers: request.headers });
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const found = served.get(url) ?? { status: 404 };
      const made = typeof found === 'function' ? found(request, Buffer.concat(chunks).toString()) : found;
      const answer: Answer = typeof made === 'string' || Buffer.isBuffer(made) ? { body: made } : made;
      response.writeHead(answer.status ?? 200, answer.headers);
      response.end(answer.body ?? '');
    });
  });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  const mirror = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const store = openStore(join(dir, 'store'));
  // Tools come from the store of the test run: there may be no network.
  const shared = openStore();
  return {
    dir,
    mirror,
    served,
    asked,
    events,
    context: () => {
      const report = (event: Event): void => void events.push(event);
      return { store, tools: openTools(shared), toolchains: openToolchains(shared), report, mirror, pause: 1, cache: new Map() };
    },
    close: async () => {
      server.close();
      await rm(dir, { recursive: true, force: true });
    },
  };
}

/** A component `tool` of version 1.2.3. */
export function component(...origins: readonly Origin[]): Component {
  return { name: 'tool', version: '1.2.3', origins, install: [{ from: 'tool', to: 'usr/bin/' }] };
}

/** An extension of the component that `origins` gives for a version. */
export function extensionOf(origins: readonly Origin[], more: Partial<Parameters<typeof defineExtension<string>>[0]> = {}): Extension {
  return defineExtension<string>({
    name: 'tool',
    summary: 'a tool',
    versions: { kind: 'github', repo: 'example/tool', track: 'newest' },
    components: (v) => [{ ...component(...origins), version: v['version'] ?? '' }],
    ...more,
  });
}
