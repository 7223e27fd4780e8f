// A server without keys serves the signed sums and images of one folder under the name of another. The signature is good, because it covers
// bare file names: only the pattern of the transfer file refuses them. Every attack runs against the real systemd-sysupdate.
import { cp, mkdir, mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { imageBase, imageVersion, linkName, selectTargets, targetName, type Target } from '@flatcar/core/engine';
import { mergeTest, SYSUPDATES, updated, withHost, withNginx, type Updated } from '@flatcar/testing';
import { afterAll, beforeAll, describe, expect } from 'vitest';
import { initKeys, loadKeys, localDestination, publish, targetFolder, transferText, type Channel } from '../src/index.ts';
import { buildDemo } from './helpers/demo.ts';

const RUNNING = '4593.2.5';
const OTHER = '4593.2.4';
const [running] = selectTargets(RUNNING) as [Target];
const [other] = selectTargets(OTHER) as [Target];
let dir: string;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'mix-and-match-'));
  const build = (name: string, version: string, targets: readonly Target[]): Promise<unknown> =>
    buildDemo(join(dir, 'images', `${name}-${version}`), { name, version, targets });
  await build('docker', '1.0.0', ['portable', running, other]);
  await build('docker-engine', '1.0.0', ['portable', running]);
  // A node would prefer the higher version, which only the folders that are served in place of another have.
  await build('docker', '1.0.5', [other]);
  await build('docker-engine', '1.0.5', ['portable', running]);
});
afterAll(() => rm(dir, { recursive: true, force: true }));

const CHANNELS: readonly Channel[] = [{ kind: 'latest' }, { kind: 'branch', version: '1.0' }, { kind: 'pinned', version: '1.0.0' }];

/** A folder that is served in place of another one, which a node follows. */
interface Attack {
  readonly what: string;
  readonly served: string;
  readonly name: string;
  readonly target: Target;
}

const ATTACKS: readonly Attack[] = [
  { what: 'a release as portable', served: `docker/${OTHER}`, name: 'docker', target: 'portable' },
  { what: 'portable as a release', served: 'docker/portable', name: 'docker', target: running },
  { what: 'another release', served: `docker/${OTHER}`, name: 'docker', target: running },
  { what: 'a longer name', served: `docker-engine/${RUNNING}`, name: 'docker', target: running },
  { what: 'a longer name, portable', served: 'docker-engine/portable', name: 'docker', target: 'portable' },
  { what: 'a shorter name', served: `docker/${RUNNING}`, name: 'docker-engine', target: running },
];

describe.each(SYSUPDATES)('systemd-sysupdate of systemd $systemd', ({ root }) => {
  mergeTest('refuses the signed images of another target or extension, and installs the right ones', async () => {
    const served = join(dir, 'served');
    for (const name of ['served', 'keys']) await rm(join(dir, name), { recursive: true, force: true });
    await mkdir(served);
    await initKeys(join(dir, 'keys'));
    const keys = await loadKeys(join(dir, 'keys'), {});
    const serve = async (tree: string): Promise<void> => {
      await rm(join(served, 'live'), { force: true });
      await symlink(tree, join(served, 'live'));
    };
    await withNginx(served, (url) =>
      withHost({ release: RUNNING, root }, async (host) => {
        const baseUrl = `${url}/live`;
        await publish({ paths: [join(dir, 'images')], destination: localDestination(join(served, 'tree')), keys, baseUrl });
        await host.setRelease(RUNNING);
        const keyring = join(served, 'tree/keys/import-pubring.gpg');
        for (const { what, served: from, name, target } of ATTACKS) {
          const evil = `evil ${what}`;
          await cp(join(served, 'tree', from), join(served, evil, targetFolder(name, targetName(target))), {
            recursive: true,
            dereference: true,
          });
          for (const channel of CHANNELS) {
            const about = `${what} (${channel.kind})`;
            const transfer = transferText({ name, kind: target === 'portable' ? 'portable' : 'release', channel, baseUrl });
            const refused = async (node: Updated, expected: readonly string[]): Promise<void> => {
              await serve(evil);
              const said = await node.sysupdate('update');
              expect(said, about).toContain('Signature verification succeeded');
              expect(said, about).toContain('No update needed');
              expect(await node.installed(), about).toEqual(expected);
            };
            const node = await updated(host, name, keyring, transfer);
            await refused(node, []);
            await serve('tree');
            await node.sysupdate('update');
            const newest = name === 'docker-engine' && channel.kind !== 'pinned' ? '1.0.5' : '1.0.0';
            const right = `${imageBase(name, imageVersion(newest, 0), targetName(target), 'x86-64')}.raw`;
            expect(await node.installed(), about).toEqual([right]);
            expect(await node.current(linkName(name, target)), about).toBe(right);
            await refused(node, [right]);
          }
          // A pattern that binds nothing installs the image: only the pattern of our transfer files refuses it.
          const loose = transferText({ name, kind: target === 'portable' ? 'portable' : 'release', channel: { kind: 'latest' }, baseUrl });
          const node = await updated(host, name, keyring, loose.replaceAll(/^MatchPattern=.*$/gm, 'MatchPattern=@v_%a.raw'));
          await serve(evil);
          await node.sysupdate('update');
          const [, folder = ''] = from.split('/');
          expect(await node.installed(), what).toEqual([expect.stringContaining(`.${folder}_`)]);
        }
      }),
    );
  });
});
