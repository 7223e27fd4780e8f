import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openStore, selectTargets, type Release } from '@flatcar/core/engine';
import { freePort, mergeTest, untilAnswers, withHost } from '@flatcar/testing';
import { afterAll, beforeAll, expect } from 'vitest';
import {
  initKeys,
  loadKeys,
  localDestination,
  openTree,
  publish,
  pushOci,
  readPublished,
  type PublishedImage,
  type PublishKeys,
} from '../src/index.ts';
import { buildDemo } from './helpers/demo.ts';
import { trustOf } from './helpers/trust.ts';

const store = openStore();
const [stable] = selectTargets('4593.2.5') as [Release];
let dir: string;
let tree: string;
let keys: PublishKeys;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'oci-'));
  tree = join(dir, 'tree');
  await initKeys(join(dir, 'keys'));
  keys = await loadKeys(join(dir, 'keys'), {});
  for (const version of ['1.0.0', '1.0.1']) await buildDemo(join(dir, version), { version, targets: ['portable', stable] });
  await publish({
    paths: [join(dir, '1.0.0'), join(dir, '1.0.1')],
    destination: localDestination(tree),
    keys,
    baseUrl: 'https://one.example.org',
  });
});
afterAll(() => rm(dir, { recursive: true, force: true }));

/** Debian's docker-registry, which knows no referrers: the fallback of the spec is what is tested here. */
async function withRegistry(use: (address: string) => Promise<void>): Promise<void> {
  const port = await freePort();
  await withHost({ release: '0.0.0', root: { packages: ['docker-registry'] } }, async (host) => {
    const config = join(dir, 'registry.yml');
    await writeFile(
      config,
      `version: 0.1\nlog: { level: error }\nstorage: { filesystem: { rootdirectory: /var/lib/registry } }\nhttp: { addr: "127.0.0.1:${port}" }\n`,
    );
    await host.copyIn(config, '/etc/registry.yml');
    await host.run(['sh', '-c', 'docker-registry serve /etc/registry.yml >/run/registry.log 2>&1 & echo $! >/run/registry.pid']);
    try {
      await untilAnswers(`http://127.0.0.1:${port}/v2/`, () => host.run(['cat', '/run/registry.log']));
      await use(`127.0.0.1:${port}`);
    } finally {
      await host.run(['sh', '-c', 'kill $(cat /run/registry.pid)']);
    }
  });
}

interface Manifest {
  artifactType: string;
  subject?: { digest: string };
  layers: { digest: string; size: number; annotations: Record<string, string> }[];
  manifests: { digest: string; artifactType: string }[];
}
const get = async (url: string): Promise<{ bytes: Buffer; digest: string | null }> => {
  const response = await fetch(url, {
    headers: { accept: 'application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json' },
  });
  expect(response.status, url).toBe(200);
  return { bytes: Buffer.from(await response.arrayBuffer()), digest: response.headers.get('docker-content-digest') };
};

mergeTest('images are artifacts of a real registry, with SBOM and provenance as referrers; tags are never moved', () =>
  withRegistry(async (address) => {
    const push = (from = tree): ReturnType<typeof pushOci> =>
      pushOci({
        tree: openTree(from, store),
        to: `${address}/flatcar/extensions`,
        trust: trustOf(keys),
        targets: [stable.number],
        env: {},
      });
    const { images } = await push();
    expect(images).toEqual(['1.0.1', '1.0.0'].map((version) => `${address}/flatcar/extensions/demo:${version}-4593.2.5-x86-64`));
    const base = `http://${address}/v2/flatcar/extensions/demo`;
    const { bytes, digest } = await get(`${base}/manifests/1.0.1-4593.2.5-x86-64`);
    const manifest = JSON.parse(bytes.toString()) as Manifest;
    expect(manifest.artifactType).toBe('application/vnd.flatcar.extension.v1');
    const index = await (await readPublished(openTree(tree, store), trustOf(keys))).extension('demo');
    const image = index?.versions[0]?.images.find(({ target }) => target === stable.number) as PublishedImage;
    expect(manifest.layers).toMatchObject([
      {
        digest: `sha256:${image.sha256}`,
        size: image.size,
        annotations: { 'org.opencontainers.image.title': 'demo.4593.2.5_1.0.1_x86-64.raw' },
      },
    ]);
    const { sha256Of } = await import('../src/tree/digest.ts');
    expect(sha256Of((await get(`${base}/blobs/sha256:${image.sha256}`)).bytes)).toBe(image.sha256);

    const referrers = JSON.parse((await get(`${base}/manifests/${digest?.replace(':', '-') ?? ''}`)).bytes.toString()) as Manifest;
    expect(referrers.manifests.map(({ artifactType }) => artifactType)).toEqual(['application/spdx+json', 'application/vnd.in-toto+json']);
    for (const [position, sha256] of [image.sbom, image.provenance].entries()) {
      const evidence = JSON.parse(
        (await get(`${base}/manifests/${referrers.manifests[position]?.digest ?? ''}`)).bytes.toString(),
      ) as Manifest;
      expect(evidence.subject?.digest).toBe(digest);
      expect(evidence.layers[0]?.digest).toBe(`sha256:${sha256}`);
      expect(sha256Of((await get(`${base}/blobs/sha256:${sha256}`)).bytes)).toBe(sha256);
    }

    // Again: nothing new. Another tree with other bytes under the same version: refused.
    expect((await push()).images).toEqual(images);
    expect((await get(`${base}/manifests/1.0.1-4593.2.5-x86-64`)).digest).toBe(digest);
    await buildDemo(join(dir, 'other'), { version: '1.0.1', targets: [stable], says: 'something else' });
    const other = join(dir, 'other-tree');
    await publish({ paths: [join(dir, 'other')], destination: localDestination(other), keys, baseUrl: 'https://two.example.org' });
    await expect(push(other)).rejects.toThrow('published with other bytes');
    expect((await get(`${base}/manifests/1.0.1-4593.2.5-x86-64`)).digest).toBe(digest);
  }),
);
