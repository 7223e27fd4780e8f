import { join } from 'node:path';
import { channelHead, hostArch, linkName, type Image } from '@flatcar/core/engine';
import { buildImages, expect, HELLO, mergeTest, runContainers, whyNoContainers, withHost } from '@flatcar/testing';

const EXTENSIONS = join(import.meta.dirname, '../../../extensions');
const arch = hostArch();
const ended = `ends with ${HELLO.ends}`;

/** The components of each that can be built from source. */
const built = {
  containerd: {},
  crun: { version: '1.21', origin: 'source' },
  docker: {},
  kubernetes: {},
  nerdctl: {},
  'wasm-shims': { only: ['containerd-shim-wasmtime-v1', 'wasmtime'] },
  youki: {},
} as const;

/** Merges extensions and has containers run by them. */
function merging(names: readonly (keyof typeof built)[], how: Omit<Parameters<typeof runContainers>[1], 'arch' | 'start'>) {
  return async (skip: (why: string) => never): Promise<void> => {
    const images: Image[] = [];
    for (const name of names) images.push(...(await buildImages(join(EXTENSIONS, name), arch, ['portable'], built[name])));
    await withHost({ release: channelHead('stable').number }, async (host) => {
      for (const image of images) await host.install(image.file, linkName(image.extension, 'portable'));
      const said = await host.merge();
      for (const name of names) expect(said.split('\n').find((line) => line.startsWith('Using'))).toContain(`'${name}`);
      const why = await whyNoContainers(host);
      if (why !== undefined) skip(`${why}; the machine tests run the same`);
      const { answers, log } = await runContainers(host, { ...how, arch, start: true });
      const hello = `${HELLO.program}\n${ended}`;
      for (const name of how.ctr ?? []) expect(answers[name], log).toBe(name === 'wasmtime' ? `${HELLO.wasm}\n${ended}` : hello);
      if (how.docker === true) {
        expect(answers['docker'], log).toBe(hello);
        // docker-init is the first process there.
        expect(answers['docker --init'], log).toMatch(new RegExp(`^hello from a container, pid [2-9]\\d*, root\n${ended}$`));
      }
      // It also says that the process, which has ended, takes no more signals.
      if (how.nerdctl === true) expect(answers['nerdctl']?.split('\n'), log).toEqual(expect.arrayContaining(hello.split('\n')));
    });
  };
}

mergeTest(
  'containerd runs containers by runc, crun, youki and a WebAssembly shim, and nerdctl has it run one',
  merging(['containerd', 'crun', 'nerdctl', 'wasm-shims', 'youki'], { ctr: ['runc', 'crun', 'youki', 'wasmtime'], nerdctl: true }),
);
mergeTest(
  'docker, wasm-shims, crun and kubernetes in one merge: dockerd and its containerd run containers',
  merging(['crun', 'docker', 'kubernetes', 'wasm-shims'], { ctr: ['runc', 'crun', 'wasmtime'], docker: true }),
);
