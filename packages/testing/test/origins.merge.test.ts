// The origins of which the extensions of this repository take minutes to compile: a crate of the registry, a crate of a repository with a
// dependency, and C out of a Debian source package, each as small as there is.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import {
  ARCHES,
  binary,
  buildExtension,
  cargo,
  channelHead,
  defineExtension,
  hostArch,
  linkName,
  openStore,
  openTools,
  readPins,
  source,
} from '@flatcar/core/engine';
import { expect } from 'vitest';
import { withHost } from '../src/merge/host.ts';
import { mergeTest } from '../src/levels.ts';

const extension = defineExtension({
  name: 'origins',
  summary: 'one small program of each origin that compiles',
  versions: { kind: 'date', track: 'newest' },
  components: () => [
    binary('shellharden', '4.3.2', cargo('shellharden', ['shellharden'])),
    binary('counter', '1.0.0', cargo('./counter', ['counter'])),
    binary('nyancat', '1.5.2', source('pool/main/n/nyancat/nyancat_{version}.orig.tar.gz', 'build.sh')),
  ],
});
const pins = {
  '2026.11.27': {
    licenses: { shellharden: 'MPL-2.0', counter: 'Apache-2.0', nyancat: 'NCSA' },
    bytes: {
      'cargo:shellharden@4.3.2': {
        sha256: '3314a0d9051fe21f4b2c356ff7711eabff56460938d0c1c81f9cad916f74245c',
        proof: 'crates registry index',
      },
      'debian:pool/main/n/nyancat/nyancat_1.5.2.orig.tar.gz': {
        sha256: '88cdcaa9c7134503dd0364a97fa860da3381a09cb555c3aae9918360827c2032',
        size: 15126,
        proof: 'Debian archive index, signed by the archive key',
      },
    },
  },
};

mergeTest(
  'programs of the origins cargo and source are compiled for both architectures, and run where they are merged',
  async () => {
    const out = await mkdtemp(join(tmpdir(), 'origins-'));
    const store = openStore();
    const stable = channelHead('stable');
    try {
      for (const arch of ARCHES) {
        const { images } = await buildExtension(
          {
            dir: resolve(import.meta.dirname, '../fixtures/origins'),
            extension,
            fixture: true,
            pins: readPins(JSON.stringify(pins), 'pins.json'),
          },
          {
            version: '2026.11.27',
            arch,
            targets: ['portable'],
            profile: 'fast',
            origin: 'source',
            out,
            store,
            tools: openTools(store),
            report: () => undefined,
          },
        );
        await withHost({ release: stable.number }, async (host) => {
          await host.install(images[0]?.file ?? '', linkName('origins', 'portable'));
          expect(await host.merge({ force: arch !== hostArch() })).toContain("Using extensions 'origins");
          expect(await host.run(['shellharden', '--version'], { arch })).toContain('4.3.2');
          expect(await host.run(['counter'], { arch })).toBe('counted to 10');
          expect(await host.run(['nyancat', '--help'], { arch })).toMatch(/Nyancat/i);
        });
      }
    } finally {
      await rm(out, { recursive: true, force: true });
    }
  },
  { small: true },
);
