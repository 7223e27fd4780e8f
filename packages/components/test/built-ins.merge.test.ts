import { join } from 'node:path';
import { channelHead, hostArch, linkName, loadExtension, newestFirst, openStore, type Release } from '@flatcar/core/engine';
import { buildImages, describe, expect, mergeTest, withHost, withUpstream, type Host, type Upstream } from '@flatcar/testing';
import { CONFIG, CONTAINERD_FLATCAR, DOCKER_FLATCAR, packBuiltIn, withContainerd17, type BuiltIn } from './flatcar.ts';

const EXTENSIONS = join(import.meta.dirname, '../../../extensions');
const stable = channelHead('stable');
const lts = channelHead('lts');

async function installBuiltIn(host: Host, builtIn: BuiltIn, release: Release): Promise<void> {
  await openStore().withTemp(async (temp) => {
    const file = join(temp, `${builtIn.name}.raw`);
    await packBuiltIn(builtIn, release.number, file);
    await host.run(['mkdir', '-p', '/etc/extensions', '/var/built-in']);
    await host.copyIn(file, `/var/built-in/${builtIn.name}.raw`);
  });
  await enable(host, builtIn.name);
}
/** As Flatcar has it, though there they lie in /usr/share/flatcar/sysext. */
const enable = (host: Host, name: BuiltIn['name']): Promise<string> =>
  host.run(['ln', '-sfn', `/var/built-in/${name}.raw`, `/etc/extensions/${name}.raw`]);
/** As the READMEs describe. */
const disable = (host: Host, name: BuiltIn['name']): Promise<string> =>
  host.run(['ln', '-sfn', '/dev/null', `/etc/extensions/${name}.raw`]);

/** An image of upstream's layout, quickly made: who ships what is the question here. */
async function installUpstream(host: Host, upstream: Upstream, name: string): Promise<void> {
  const dir = join(EXTENSIONS, name);
  const version = newestFirst(Object.keys((await loadExtension(dir)).pins))[0] ?? '';
  const { images } = await upstream.build(dir, version, hostArch());
  await host.install(images[0]?.file ?? '', linkName(name, 'portable'));
}

/** Which extensions are merged, by systemd's own words. */
async function merged(host: Host): Promise<string[]> {
  const said = await host.merge();
  return [...(said.split('\n').find((line) => line.startsWith('Using extensions')) ?? said).matchAll(/'([^']+?)(?:\.raw)?'/g)].map(
    ([, name]) => name ?? '',
  );
}
const CONTAINERD = ['containerd', 'containerd-shim-runc-v2', 'ctr', 'runc'];
const DOCKER = ['docker', 'dockerd', 'docker-proxy', 'docker-init'];
async function expectFrom(host: Host, programs: readonly string[], whose: 'Flatcar' | 'upstream'): Promise<void> {
  for (const program of programs) expect(await host.run([program]), program).toMatch(new RegExp(` of ${whose}`));
}
const unitOf = (host: Host, name: string): Promise<string> => host.run(['cat', `/usr/lib/systemd/system/${name}`]);

describe("Flatcar's built-in docker and containerd", () => {
  mergeTest('are swapped for others, one by one and both, and come back', () =>
    withUpstream((upstream) =>
      withHost({ release: stable.number }, async (host) => {
        for (const builtIn of [CONTAINERD_FLATCAR, DOCKER_FLATCAR]) await installBuiltIn(host, builtIn, stable);
        expect(await merged(host)).toEqual(['containerd-flatcar', 'docker-flatcar']);
        await expectFrom(host, [...CONTAINERD, ...DOCKER], 'Flatcar');

        // Both, by docker.
        await disable(host, 'docker-flatcar');
        await disable(host, 'containerd-flatcar');
        await installUpstream(host, upstream, 'docker');
        expect(await merged(host)).toEqual(['docker']);
        await expectFrom(host, [...CONTAINERD, ...DOCKER], 'upstream');
        for (const name of ['docker.service', 'docker.socket', 'containerd.service'])
          expect(await unitOf(host, name)).not.toContain('of Flatcar');

        // /opt is the host's own.
        expect(await host.run(['touch', '/opt/writable'])).toBe('');

        // Only docker, by docker-engine: containerd and runc stay Flatcar's.
        await host.run(['rm', '/etc/extensions/docker.raw']);
        await enable(host, 'containerd-flatcar');
        await installUpstream(host, upstream, 'docker-engine');
        expect(await merged(host)).toEqual(['containerd-flatcar', 'docker-engine']);
        await expectFrom(host, CONTAINERD, 'Flatcar');
        await expectFrom(host, DOCKER, 'upstream');
        expect(await unitOf(host, 'containerd.service')).toContain('of Flatcar');

        // Only containerd.
        await host.run(['rm', '/etc/extensions/docker-engine.raw']);
        await enable(host, 'docker-flatcar');
        await disable(host, 'containerd-flatcar');
        await installUpstream(host, upstream, 'containerd');
        expect(await merged(host)).toEqual(['containerd', 'docker-flatcar']);
        await expectFrom(host, CONTAINERD, 'upstream');
        await expectFrom(host, DOCKER, 'Flatcar');

        // As it was.
        await host.run(['rm', '/etc/extensions/containerd.raw']);
        await enable(host, 'containerd-flatcar');
        expect(await merged(host)).toEqual(['containerd-flatcar', 'docker-flatcar']);
        await expectFrom(host, [...CONTAINERD, ...DOCKER], 'Flatcar');
      }),
    ),
  );

  mergeTest('hide the files of an extension unless they are disabled', () =>
    withUpstream((upstream) =>
      withHost({ release: stable.number }, async (host) => {
        for (const builtIn of [CONTAINERD_FLATCAR, DOCKER_FLATCAR]) await installBuiltIn(host, builtIn, stable);
        await installUpstream(host, upstream, 'docker');
        expect((await merged(host)).toSorted()).toEqual(['containerd-flatcar', 'docker', 'docker-flatcar']);
        await expectFrom(host, DOCKER, 'Flatcar');
      }),
    ),
  );
});

/** The effective configuration, as containerd itself reports it. */
const dump = async (host: Host, config = '/run/containerd-conf/config.toml'): Promise<string> =>
  host.run(['containerd', '--config', config, 'config', 'dump']);
/** The handlers that CRI knows. */
const handlers = (config: string): string[] =>
  [...new Set([...config.matchAll(/runtimes\.['"]?([\w-]+)['"]?\]/g)].map(([, name]) => name ?? ''))].toSorted();
const ALL = ['crun', 'runc', 'runsc', 'spin', 'wasmedge', 'wasmtime', 'youki'];
const RUNTIMES = ['crun', 'gvisor', 'wasm-shims', 'youki'];
const sectionOf = (config: string, handler: string): string =>
  new RegExp(`runtimes\\.['"]?${handler}['"]?\\]([^]*?)(?=runtimes\\.['"]?(?!${handler})|$)`).exec(config)?.[1] ?? '';

describe("containerd's configuration", () => {
  mergeTest("of Flatcar LTS's containerd 1.7, which knows no merging imports: one generated file has all runtimes", () =>
    withContainerd17((containerd) =>
      withUpstream((upstream) =>
        withHost({ release: lts.number }, async (host) => {
          const { programs, ...rest } = CONTAINERD_FLATCAR;
          const files = { ...CONTAINERD_FLATCAR.files, 'usr/bin/containerd': { from: containerd } };
          await installBuiltIn(host, { ...rest, programs: programs.slice(1), files }, lts);
          for (const name of RUNTIMES) await installUpstream(host, upstream, name);
          expect(await merged(host)).toEqual(['containerd-flatcar', ...RUNTIMES]);
          expect(await host.run(['containerd', '--version'])).toMatch(/ 1\.7\./);
          expect(handlers(await dump(host, '/usr/share/containerd/config.toml'))).toEqual(['runc']);

          // systemd's own reading of the unit: our drop-in is what starts it.
          const unit = await host.run(['cat', '/usr/lib/systemd/system/containerd.service.d/50-conf.d.conf']);
          expect(unit).toContain('ExecStartPre=/usr/lib/containerd-conf/make-config');
          await host.run(['/usr/lib/containerd-conf/make-config']);
          const config = await dump(host);
          expect(handlers(config)).toEqual(expect.arrayContaining(ALL));
          expect(config).toMatch(/enable_selinux = true/);
          expect(sectionOf(config, 'crun')).toMatch(/BinaryName = "\/usr\/bin\/crun"/);
          expect(sectionOf(config, 'runc')).toMatch(/SystemdCgroup = true/);

          // Why not by imports: each would replace the whole section of the CRI plugin.
          const imports = `version = 2\nimports = ["/usr/share/containerd/config.toml", "/usr/share/containerd/conf.d/*.toml"]\n`;
          await host.run(['sh', '-c', `printf '%s' '${imports}' >/run/imports.toml`]);
          expect(handlers(await dump(host, '/run/imports.toml'))).not.toEqual(expect.arrayContaining(ALL));

          // What a node adds or replaces goes on top.
          await host.run([
            'sh',
            '-c',
            'mkdir -p /etc/containerd/conf.d && printf \'version = 2\\n[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.mine]\\n  runtime_type = "io.containerd.mine.v1"\\n\' >/etc/containerd/conf.d/mine.toml',
          ]);
          await host.run(['/usr/lib/containerd-conf/make-config']);
          expect(handlers(await dump(host))).toEqual(expect.arrayContaining([...ALL, 'mine']));
        }),
      ),
    ),
  );

  mergeTest("of containerd 2, our own and Flatcar's alike: drop-ins are imported and merge with each other", () =>
    withUpstream((upstream) =>
      withHost({ release: stable.number }, async (host) => {
        const [image] = await buildImages(join(EXTENSIONS, 'containerd'), hostArch(), ['portable']);
        await host.install(image?.file ?? '', linkName('containerd', 'portable'));
        for (const name of RUNTIMES) await installUpstream(host, upstream, name);
        expect(await merged(host)).toEqual(['containerd', ...RUNTIMES]);
        await host.run(['mkdir', '-p', '/etc/containerd/conf.d']);
        for (const original of ['ours', 'of Flatcar']) {
          if (original === 'of Flatcar') await host.run(['sh', '-c', `cat >/etc/containerd/config.toml <<'END'\n${CONFIG}END`]);
          await host.run(['/usr/lib/containerd-conf/make-config']);
          expect(await host.run(['cat', '/run/containerd-conf/config.toml'])).toMatch(/^imports = /m);
          const config = await dump(host);
          expect(handlers(config), original).toEqual(expect.arrayContaining(ALL));
          expect(config).toMatch(/enable_selinux = true/);
          expect(sectionOf(config, 'crun')).toMatch(/BinaryName = ['"]\/usr\/bin\/crun['"]/);
          expect(sectionOf(config, 'youki')).toMatch(/BinaryName = ['"]\/usr\/bin\/youki['"]/);
          expect(sectionOf(config, 'runc')).toMatch(/SystemdCgroup = true/);
        }
        await host.run([
          'sh',
          '-c',
          'printf \'version = 2\\n[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.mine]\\n  runtime_type = "io.containerd.mine.v1"\\n\' >/etc/containerd/conf.d/mine.toml',
        ]);
        expect(handlers(await dump(host))).toEqual(expect.arrayContaining([...ALL, 'mine']));
      }),
    ),
  );
});
