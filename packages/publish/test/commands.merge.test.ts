import { cp, link, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cacheRoot, hashFile, hostArch } from '@flatcar/core/engine';
import { mergeTest, SYSUPDATES, updated, WITHOUT_VERITY, withHost, withNginx } from '@flatcar/testing';
import { execa } from 'execa';
import { afterAll, beforeAll, expect } from 'vitest';
import { initKeys, loadKeys } from '../src/index.ts';
import { keyringOf } from '../src/keys/openpgp.ts';

// Three real extensions on the way that a release takes, by the commands that it takes: plan, build, bind, publish; then the real nginx, and
// the real systemd-sysupdate and systemd-sysext. One architecture, since the other's images differ by nothing that is looked at here.
const PROGRAM = join(import.meta.dirname, '../../cli/bin/flatcar-ext');
const EXTENSIONS = ['containerd', 'debug-tools', 'kubernetes'];
const arch = hostArch();
/** Of each mergeStage one release that is planned for: the first takes squashfs, the second disk images. */
const ERAS = ['4593.2.5', '4790.0.0'];
let dir: string;
const at = (...path: string[]): string => join(dir, ...path);

/** Runs the program and gives what it prints; what it says besides goes where this test's goes. */
async function flatcarExt(...args: string[]): Promise<string> {
  const plain = Object.fromEntries(
    Object.entries(process.env).filter(([key]) => !/^(?:GITHUB_|FLATCAR_EXT_(?!RELEASES$)|FORCE_COLOR)/.test(key)),
  );
  const { stdout } = await execa(PROGRAM, args, {
    env: { ...plain, FLATCAR_EXT_CACHE: cacheRoot() },
    extendEnv: false,
    stderr: 'inherit',
    cwd: dir,
  });
  return stdout;
}

interface Job {
  id: string;
  extension: string;
  architecture: string;
  versions: string[];
  targets: string[];
}
interface Planned {
  images: { extension: string; targets: string[] }[];
}

/** Versions that are published of containerd, older first: a node updates from one to the other. */
let older: string;
let newer: string;
let jobs: Job[];

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'commands-'));
  await mkdir(at('served'));
  await flatcarExt('keys', 'init', at('keys'));
  await flatcarExt('ci', 'plan', ...EXTENSIONS, '--out', at('all.json'));
  const { include } = JSON.parse(await readFile(at('all.json'), 'utf8')) as { include: Job[] };
  // Two versions of containerd; of the others the newest, which is long enough to pack. Where upstream cannot be reached they are compiled,
  // which is planned for upstream's files: without a second builder.
  jobs = include
    .filter(({ architecture }) => architecture === arch)
    .map((job) => ({ ...job, second: 'off', versions: job.extension === 'containerd' ? job.versions : job.versions.slice(0, 1) }));
  expect(jobs.map(({ extension }) => extension)).toEqual(EXTENSIONS);
  for (const { targets } of jobs) expect(targets).toEqual(expect.arrayContaining(['portable', ...ERAS]));
  await writeFile(at('matrix.json'), JSON.stringify({ include: jobs }));
  const matrix = ['--matrix', at('matrix.json'), '--built', at('built')];
  await flatcarExt('ci', 'build', ...matrix, '--origin', 'auto');
  await flatcarExt('ci', 'bind', ...matrix, '--out', at('images'), '--keys', at('keys'));
  const versions = jobs[0]?.versions ?? [];
  [newer = '', older = ''] = versions;
  expect(versions).toHaveLength(2);
});
afterAll(() => rm(dir, { recursive: true, force: true }));

/** Images (without those of a version) and all records. */
async function paths(but?: string): Promise<string[]> {
  const names = (await readdir(at('images'), { recursive: true })).filter((name) => name.endsWith('.raw'));
  const chosen = names.filter((name) => but === undefined || !(name.includes('/containerd.') && name.includes(`_${but}_`)));
  return [
    ...chosen.map((name) => at('images', name)),
    ...jobs.map(({ id, extension }) => at('built', `payload-${id}`, 'payloads', extension, 'payload')),
  ];
}

/** A copy of the served tree that can be tampered with: images are links, and what is changed is written anew. */
async function copyTree(name: string): Promise<string> {
  const copied: [string, string][] = [];
  await cp(at('served/tree'), at('served', name), {
    recursive: true,
    verbatimSymlinks: true,
    filter: (from, to) => {
      if (!/\.(?:raw|gz)$/.test(from)) return true;
      copied.push([from, to]);
      return false;
    },
  });
  for (const [from, to] of copied) await link(from, to);
  return at('served', name);
}

mergeTest(
  'planned, built, bound and published: nodes list, install, merge and update three extensions, and refuse what was tampered with',
  () =>
    withNginx(at('served'), async (url) => {
      const to = ['--tree', at('served/tree'), '--keys', at('keys')];
      const origins = ['--origins', 'upstream,go,cargo,debian,source'];
      await flatcarExt('publish', ...(await paths(newer)), ...to, ...origins, '--base-url', `${url}/tree`);
      const plan = async (): Promise<Planned> =>
        JSON.parse(
          await flatcarExt('plan', 'containerd', '--arch', arch, '--tree', at('served/tree'), '--keys', at('keys'), '--json'),
        ) as Planned;
      expect((await plan()).images.length).toBeGreaterThan(0);
      // Their copies have what the tree has now.
      const badSums = await copyTree('sums');
      const badImage = await copyTree('image');

      const keyring = at('served/tree/keys/import-pubring.gpg');
      const transfer = (name: string): Promise<string> => readFile(at('served/tree', name, 'transfer/release/latest.transfer'), 'utf8');
      const imageOf = (name: string, version: string, release: string): string => `${name}.${release}_${version}_${arch}.raw`;
      for (const { systemd, root } of SYSUPDATES) {
        for (const release of ERAS) {
          await withHost({ release, root }, async (host) => {
            const link = (name: string): string => `${name}-${release}.raw`;
            for (const name of EXTENSIONS) {
              const node = await updated(host, name, keyring, await transfer(name));
              expect(await node.sysupdate('list'), `${systemd} ${name}`).toMatch(/candidate/);
              await node.sysupdate('update');
              const [image = ''] = await node.installed();
              expect(await node.current(link(name))).toBe(image);
              await host.copyOut(`/opt/extensions/${name}/${image}`, at('got.raw'));
              expect(await hashFile(at('got.raw'))).toBe(await hashFile(at('served/tree', name, release, image)));
            }
            // 254 knows no --no-reload; newer ones than 257 take no disk image where the kernel has no device mapper.
            if (systemd === '254' || (systemd !== '257' && release !== ERAS[0])) return;
            const merged = await host.merge(release === ERAS[0] ? {} : { policy: WITHOUT_VERITY });
            for (const name of EXTENSIONS) expect(merged).toContain(name);
            expect(await host.run(['/usr/bin/containerd', '--version'])).toContain(`v${older}`);
            expect(await host.run(['/usr/bin/kubeadm', 'version', '--output=short'])).toMatch(/^v1\.\d+\.\d+/);
            await host.unmerge();
          });
        }
      }

      // One flipped bit in sums, and one in an image; and a key that is not the publisher's.
      const [release = ''] = ERAS;
      const sums = join(badSums, 'kubernetes', release, 'SHA256SUMS');
      const text = await readFile(sums, 'utf8');
      await writeFile(sums, text.replace(/^./, text.startsWith('0') ? '1' : '0'));
      const kubernetes = (await readdir(join(badImage, 'kubernetes', release))).find((name) => name.endsWith('.raw')) ?? '';
      const image = join(badImage, 'kubernetes', release, kubernetes);
      const bytes = await readFile(image);
      bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
      await rm(image);
      await writeFile(image, bytes);
      await initKeys(at('others'));
      await writeFile(at('others.gpg'), keyringOf((await loadKeys(at('others'), {})).trusted));
      // The next version, and what is planned then.
      await flatcarExt('publish', ...(await paths()), ...to);
      expect((await plan()).images).toEqual([]);
      for (const { systemd, root } of SYSUPDATES)
        await withHost({ release, root }, async (host) => {
          const take = async (name: string, from: string, by: string): Promise<string> => {
            const node = await updated(host, name, by, (await transfer(name)).replace(`${url}/tree/`, `${url}/${from}/`));
            const said = await node.sysupdate('update');
            return (await node.installed()).filter((one) => !one.startsWith('.')).join(' ') || said;
          };
          expect(await take('kubernetes', 'sums', keyring)).toMatch(/signature verification failed/i);
          expect(await take('kubernetes', 'image', keyring)).toMatch(/hash|checksum|SHA256|invalid/i);
          expect(await take('kubernetes', 'tree', at('others.gpg'))).toMatch(/signature verification failed/i);
          expect(await take('kubernetes', 'tree', keyring)).toBe(kubernetes);
          // From one version to the next, on the same node: a tree as it was before serves the older one.
          expect(await take('containerd', 'sums', keyring)).toBe(imageOf('containerd', older, release));
          await host.run(['sed', '-i', `s|/sums/|/tree/|`, '/etc/sysupdate.containerd.d/containerd.conf']);
          expect(await host.run(['/usr/lib/systemd/systemd-sysupdate', '-C', 'containerd', 'list'])).toMatch(
            new RegExp(`${newer.replaceAll('.', '\\.')}.*candidate`),
          );
          await host.run(['/usr/lib/systemd/systemd-sysupdate', '-C', 'containerd', 'update']);
          expect(await host.run(['readlink', '-f', `/etc/extensions/containerd-${release}.raw`])).toContain(
            imageOf('containerd', newer, release),
          );
          if (systemd === '254') return;
          expect(await host.merge()).toContain('containerd');
          expect(await host.run(['/usr/bin/containerd', '--version'])).toContain(`v${newer}`);
          await host.unmerge();
        });
    }),
);
