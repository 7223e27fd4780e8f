import { basename } from 'node:path';
import { ARCHES, channelHead, hostArch, linkName, loadExtension, newestFirst, type Image } from '@flatcar/core/engine';
import { expect } from 'vitest';
import { extensionFolder } from '../folders.ts';
import { describe, isCollected, mergeTest } from '../levels.ts';
import { withHost } from '../merge/host.ts';
import type { UpstreamTest } from '../spec.ts';
import { checkSpec } from './check-spec.ts';
import { withUpstream } from './fake-upstream.ts';

/** Merges an image made of upstream's files, and runs the programs that a test lists. */
async function expectUpstreamPrograms(image: Image | undefined, about: UpstreamTest): Promise<void> {
  if (image === undefined) throw new Error('the build wrote no image');
  await withHost({ release: channelHead('stable').number }, async (host) => {
    await host.install(image.file, linkName(image.extension, 'portable'));
    expect(await host.merge()).toContain(`Using extensions '${image.extension}`);
    for (const path of about.programs) expect(await host.run([path]), path).toMatch(/ of upstream/);
    await host.run(['systemd-tmpfiles', '--create']);
    for (const path of about.paths ?? []) expect(await host.exists(path), path).toBe(true);
    await about.also?.(host);
  });
}

/**
 * Tests an extension made of upstream's own files from end to end, on both architectures: fetch, verify, unpack, stage, pack, merge, run. A test's
 * own files replace what upstream publishes, because a test reaches package registries only: its name says so, and its output lists the URLs.
 */
export function testUpstream(folder: string, about: UpstreamTest): void {
  checkSpec('testUpstream', folder, about);
  const dir = extensionFolder(folder);
  if (about.machine !== undefined && isCollected({ dir, about: { commands: [], machine: about.machine } })) return;
  describe("files of upstream's names and layouts (fixtures, not upstream's own)", () => {
    mergeTest(
      'are fetched, checked, unpacked and merged',
      () =>
        withUpstream(async (upstream) => {
          const version = about.version ?? newestFirst(Object.keys((await loadExtension(dir)).pins))[0] ?? '';
          for (const arch of ARCHES) {
            const { images, payloads, standIns } = await upstream.build(dir, version, arch);
            for (const url of standIns) console.error(`fixture: ${basename(dir)} ${arch}: a file of this test replaces ${url}`);
            expect(standIns.length).toBeGreaterThan(0);
            // Only the pins distinguish it from what is published.
            expect(payloads.map(({ publishBlockers }) => publishBlockers)).toEqual([
              [{ code: 'fixture', what: 'made with the pins of a fixture' }],
            ]);
            const files = payloads.flatMap(({ tree }) => tree.entries.filter(({ type }) => type !== 'dir').map(({ path }) => path));
            expect(files).toEqual(expect.arrayContaining(about.programs.map((path) => path.slice(1))));
            if (arch === hostArch()) await expectUpstreamPrograms(images[0], about);
          }
        }),
      about,
    );
  });
}
