import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hashFile, selectTargets, type Release } from '@flatcar/core/engine';
import { mergeTest, SYSUPDATES, updated, withHost, withNginx } from '@flatcar/testing';
import { afterAll, beforeAll, expect } from 'vitest';
import { githubDestination, initKeys, loadKeys, localDestination, publish, transferText } from '../src/index.ts';
import { buildDemo } from './helpers/demo.ts';
import { startGithub, type TestGithub } from './helpers/github.ts';

const [stable] = selectTargets('4593.2.5') as [Release];
// As long as any that there is: nginx has limits for the names in a map.
const NAME = 'hypervisor-cloud-hypervisor';
let dir: string;
let github: TestGithub;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'redirects-'));
  github = await startGithub();
  await initKeys(join(dir, 'keys'));
  await buildDemo(join(dir, 'one'), { name: NAME, version: '1.0.0', targets: [stable] });
});
afterAll(async () => {
  github.close();
  await rm(dir, { recursive: true, force: true });
});

mergeTest('images in releases of GitHub: nginx redirects by the map, systemd-sysupdate follows and verifies', async () => {
  const tree = join(dir, 'tree');
  const keys = await loadKeys(join(dir, 'keys'), {});
  const destination = githubDestination(localDestination(tree), 'o/r', { GITHUB_TOKEN: 'a token', GITHUB_API_URL: github.url });
  await publish({ paths: [join(dir, 'one')], destination, keys, baseUrl: 'https://one.example.org' });
  const image = `${NAME}.4593.2.5_1.0.0_x86-64.raw`;
  expect(existsSync(join(tree, NAME, '4593.2.5', image))).toBe(false);
  // What docs/publishing.md says.
  const [http = '', server = ''] =
    /```nginx\n([^`]+)\n(if [^`]+)\n```/.exec(await readFile(join(import.meta.dirname, '../../../docs/publishing.md'), 'utf8'))?.slice(1) ??
    [];
  expect(http).toContain('map $uri');
  await withNginx(
    tree,
    async (url) => {
      for (const { systemd, root } of SYSUPDATES)
        await withHost({ release: '4593.2.5', root }, async (host) => {
          const channel = { kind: 'latest' } as const;
          const node = await updated(
            host,
            NAME,
            join(tree, 'keys/import-pubring.gpg'),
            transferText({ name: NAME, kind: 'release', channel, baseUrl: url }),
          );
          const said = await node.sysupdate('update');
          expect(await node.installed(), `${systemd}: ${said}`).toEqual([image]);
          await host.copyOut(`/opt/extensions/${NAME}/${image}`, join(dir, 'got.raw'));
          expect(await hashFile(join(dir, 'got.raw'))).toBe(await hashFile(join(dir, 'one', NAME, '4593.2.5', image)));
        });
    },
    { http, server },
  );
});
