import { createHash } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import {
  binary,
  buildExtension,
  defineExtension,
  openStore,
  openTools,
  readPins,
  upstream,
  type Arch,
  type BuildResult,
  type OriginChoice,
  type Target,
} from '@flatcar/core/engine';

const hash = (body: Buffer): string => createHash('sha256').update(body).digest('hex');

export interface Demo {
  readonly name?: string;
  readonly version: string;
  readonly revision?: number;
  readonly targets: readonly Target[];
  readonly arches?: readonly Arch[];
  /** Stands in the program: another text is another image. */
  readonly says?: string;
  readonly fixture?: boolean;
  readonly localOnly?: string;
  readonly profile?: 'fast' | 'publish';
  readonly origin?: OriginChoice;
}

/**
 * A real build of a small extension, whose upstream is a server of this test: its origin is the one that the definition prefers, so the
 * images are as publishable as any. Writes into `out`.
 */
export async function buildDemo(out: string, demo: Demo): Promise<BuildResult[]> {
  const {
    name = 'demo',
    version,
    revision = 0,
    targets,
    arches = ['x86-64'],
    says = version,
    profile = 'publish',
    origin = 'upstream',
  } = demo;
  const body = Buffer.from(`#!/bin/sh\necho demo ${says}\n`);
  const server = createServer((request, response) => void response.end(request.url?.includes('/demo-') === true ? body : undefined));
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  const url = (arch: string): string => `https://dl.example.org/v${version}/demo-${arch}`;
  const bytes = Object.fromEntries(
    ['amd64', 'arm64'].map((arch) => [
      url(arch),
      { sha256: hash(body), size: body.length, proof: 'nothing published: as first downloaded' },
    ]),
  );
  const store = openStore();
  try {
    const results: BuildResult[] = [];
    for (const arch of arches) {
      results.push(
        await buildExtension(
          {
            dir: join(out, 'none'),
            fixture: demo.fixture ?? false,
            pins: readPins(JSON.stringify({ [version]: { revision, licenses: { demo: 'MIT' }, bytes } }), 'pins.json'),
            extension: defineExtension({
              name,
              summary: 'A demonstration',
              localOnly: demo.localOnly,
              versions: { kind: 'page', url: 'https://dl.example.org', track: 'newest' },
              components: (versions) => [binary('demo', versions.version, upstream('https://dl.example.org/v{version}/demo-{arch}'))],
            }),
          },
          {
            version,
            arch,
            targets,
            profile,
            origin,
            out: join(out, name),
            store,
            tools: openTools(store),
            report: () => undefined,
            mirror: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
          },
        ),
      );
    }
    return results;
  } finally {
    server.close();
  }
}
