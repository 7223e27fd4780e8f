import { ARCHES, catalogue, channelHead, hostArch, linkName, targetName, type Arch, type Release, type Target } from '@flatcar/core/engine';
import { expect } from 'vitest';
import { extensionFolder } from '../folders.ts';
import type { Host } from '../hosts.ts';
import { isCollected, mergeTest } from '../levels.ts';
import { WITHOUT_VERITY, withHost } from '../merge/host.ts';
import { expectHostCas } from '../server/tls.ts';
import type { ExtensionTest, PinnedVersions } from '../spec.ts';
import { checkSpec } from './check-spec.ts';
import { buildImages, expectedAnswer, installBeside, merged, pinnedVersions } from './images.ts';

/** A release that no image of a test is bound to. */
const OTHER_RELEASE = '4081.3.10';

/** What the merge tests of an extension on one architecture have in common. */
interface Merging {
  readonly host: Host;
  readonly dir: string;
  readonly arch: Arch;
  readonly about: ExtensionTest;
  readonly versions: PinnedVersions;
  /** True for the other architecture, whose images systemd merges only if forced. */
  readonly force: boolean;
  readonly imageFor: (target: Target) => { readonly file: string; readonly link: string };
}

/** Runs the programs, verifies the units and checks the paths that a test lists. */
async function runPrograms({ host, arch, about, versions }: Merging): Promise<void> {
  for (const command of about.commands) {
    const { run, env = {} } = command;
    expect(await host.run(run, { arch, env }), run.join(' ')).toMatch(expectedAnswer(command, versions));
  }
  for (const unit of about.units ?? []) expect(await host.run(['systemd-analyze', 'verify', '--man=no', unit]), unit).toBe('');
  await host.run(['systemd-tmpfiles', '--create']);
  for (const path of about.paths ?? []) expect(await host.exists(path), path).toBe(true);
  await about.also?.(host, arch, versions);
}

/** Merges the image for one target by itself: it merges at its own release and architecture, and at no other. */
async function expectMergesAlone(merging: Merging, target: Target, { run }: { readonly run: boolean }): Promise<void> {
  const { host, dir, arch, about, force } = merging;
  const what = targetName(target);
  const policy = target !== 'portable' && target.format === 'ddi' ? WITHOUT_VERITY : undefined;
  const { file, link } = merging.imageFor(target);
  await host.setRelease(target === 'portable' ? channelHead('stable').number : target.number);
  await host.install(file, link);
  const beside = await installBeside(host, dir, arch, target);
  if (force) expect(await host.merge({ policy, force: false }), what).toMatch(/no suitable extensions found|ignored|incompatible/i);
  expect(await host.merge({ policy, force }), what).toMatch(merged(link));
  if (run) await runPrograms(merging);
  if (target === 'portable' && about.tls !== undefined) await expectHostCas(host, arch, about.tls);
  if (target !== 'portable' && !force) {
    await host.setRelease(OTHER_RELEASE);
    expect(await host.merge({ policy }), `${what} on ${OTHER_RELEASE}`).not.toContain('Using extensions');
    // The same image at its own release merges: the refusal was about the release and nothing else.
    await host.setRelease(target.number);
    expect(await host.merge({ policy }), what).toMatch(merged(link));
  }
  for (const one of [link, ...beside]) await host.remove(one);
}

/** Links the images of two releases at once: systemd merges the one of the running release, whichever it is. */
async function expectSideBySide({ host, dir, arch, imageFor }: Merging, one: Release, two: Release): Promise<void> {
  for (const release of [one, two]) {
    await host.install(imageFor(release).file, imageFor(release).link);
    await installBeside(host, dir, arch, release);
  }
  for (const [running, absent] of [
    [one, two],
    [two, one],
    [one, two],
  ] as const) {
    await host.setRelease(running.number);
    const said = await host.merge();
    expect(said, 'side by side').toMatch(merged(imageFor(running).link));
    expect(said.split('\n').find((line) => line.startsWith('Using'))).not.toContain(absent.number);
  }
}

/**
 * The merge tests of an extension, one host for each architecture: its portable image, its squashfs for a release and its disk image merge where
 * they must and are ignored elsewhere, the one for the running release merges if several are linked, and the programs run.
 */
export function testExtension(folder: string, about: ExtensionTest): void {
  checkSpec('testExtension', folder, about);
  const dir = extensionFolder(folder);
  if (isCollected({ dir, about })) return;
  const bound = channelHead('stable');
  const ddi = channelHead('beta');
  const previous = catalogue().filter(({ channel }) => channel === 'stable')[1] ?? ddi;
  for (const arch of ARCHES)
    mergeTest(
      `${arch}: merges where it must and nowhere else, and its programs run`,
      async () => {
        const images = await buildImages(dir, arch, ['portable', bound, previous, ddi], about);
        const imageFor: Merging['imageFor'] = (target) => {
          const image = images.find((one) => one.target === targetName(target));
          if (image === undefined) throw new Error(`the build wrote no image for ${targetName(target)}`);
          return { file: image.file, link: linkName(image.extension, target) };
        };
        const versions = await pinnedVersions(dir, about);
        await withHost({ release: bound.number, kind: about.kind }, async (host) => {
          const merging: Merging = { host, dir, arch, about, versions, force: arch !== hostArch(), imageFor };
          // A bound squashfs is the portable image except for its release file: its programs are not run again.
          for (const target of ['portable', bound, ddi] as const) await expectMergesAlone(merging, target, { run: target !== bound });
          if (!merging.force) await expectSideBySide(merging, bound, previous);
        });
      },
      about,
    );
}
