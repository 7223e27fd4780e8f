import { ARCHES, channelHead, hostArch, linkName, type Arch } from '@flatcar/core/engine';
import { expect } from 'vitest';
import { extensionFolder } from '../folders.ts';
import type { Host } from '../hosts.ts';
import { describe, isCollected, mergeTest } from '../levels.ts';
import { withHost } from '../merge/host.ts';
import { expectHostCas } from '../server/tls.ts';
import type { RelocatedTest } from '../spec.ts';
import { checkSpec } from './check-spec.ts';
import { buildImages, expectedAnswer, installBeside, merged, pinnedVersions } from './images.ts';

/** Prefix of traces, one file per process. */
const TRACE = '/run/trace';
/** Lists the libraries that each host program would load, with its loader; one script, so that hundreds take a second. */
const LIST_LIBRARIES = `
for program in /usr/bin/* /usr/lib/systemd/systemd*; do
  [ -f "$program" ] && [ ! -L "$program" ] || continue
  echo "== $program"
  LD_TRACE_LOADED_OBJECTS=1 "$(echo /lib*/ld-linux-*.so.*)" "$program" 2>/dev/null | sed 's/ (0x[0-9a-f]*)//' | sort
done
`;

/** The output of a command, and what those of its processes load whose loader is in `folder`. */
export interface Traced {
  readonly said: string;
  /** Paths of shared objects, those that do not exist included. */
  readonly objects: readonly string[];
}

/**
 * Runs a command and collects every shared object that its processes load, as the loader itself reports (LD_DEBUG of ld.so(8)), for programs of
 * another architecture too. Processes of the host's programs do not count.
 */
export async function traced(
  host: Host,
  command: readonly string[],
  folder: string,
  options: { arch?: Arch; env?: Readonly<Record<string, string>> } = {},
): Promise<Traced> {
  const said = await host.run(command, { ...options, env: { ...options.env, LD_DEBUG: 'files,libs', LD_DEBUG_OUTPUT: TRACE } });
  const files = await host.run(['sh', '-c', `for file in ${TRACE}.*; do echo "== $file"; cat "$file"; done; rm -f ${TRACE}.*`]);
  const objects = files.split('== ').flatMap((process) => {
    // What it searched by name, opened by path, and initialized: not every object appears in each.
    const seen = process.matchAll(/(?:trying file=|calling init: |(?<!\S)file=)(\/[^\s;]+)/g);
    const loaded = [...seen].map(([, path = '']) => path);
    return loaded.some((path) => path.startsWith(`${folder}/ld-linux-`)) ? loaded : [];
  });
  return { said, objects: [...new Set(objects)].toSorted() };
}

/** Fails for any shared object outside of `folder`, and if there is none at all; name-service modules of the host are excepted by name. */
export function expectOwnObjects(objects: readonly string[], folder: string, command: string): void {
  expect(objects, `${command} runs on its own C library`).toContain(`${folder}/libc.so.6`);
  // The loader's folders of the host were replaced by one that no host has (`/___/`).
  const foreign = objects.filter((path) => !path.startsWith(`${folder}/`) && !/^\/_+\/|\/libnss_\w+\.so\.2$/.test(path));
  expect(foreign, `${command} loads nothing of the host`).toEqual([]);
}

/** What all programs of the host load, except those that an image replaces. */
export async function hostLibraries(host: Host, replaced: readonly string[] = []): Promise<string> {
  const listed = await host.run(['sh', '-c', LIST_LIBRARIES]);
  const programs = listed.split('== ').filter((one) => one.includes('=>'));
  return programs.filter((one) => !replaced.some((path) => one.startsWith(`/${path}\n`))).join('== ');
}

/** The tests of relocated programs: each runs, loads nothing of the host, and the host's programs load what they did before. */
export function testRelocated(from: string, about: RelocatedTest): void {
  checkSpec('testRelocated', from, about);
  const dir = extensionFolder(from);
  const { folder, target = 'portable' } = about;
  if (isCollected({ dir, about })) return;
  for (const arch of ARCHES) {
    mergeTest(`${arch}: programs run, and load no library of the host`, async () => {
      const [image] = await buildImages(dir, arch, [target], about);
      if (image === undefined) throw new Error('the build wrote no image');
      const versions = await pinnedVersions(dir, about);
      await withHost({ release: target === 'portable' ? channelHead('stable').number : target.number }, async (host) => {
        await host.install(image.file, linkName(image.extension, target));
        await installBeside(host, dir, arch, target);
        expect(await host.merge({ force: arch !== hostArch() })).toMatch(merged(linkName(image.extension, target)));
        for (const command of about.commands) {
          const { run, env = {} } = command;
          const { said, objects } = await traced(host, run, folder, { arch, env });
          expect(said, run.join(' ')).toMatch(expectedAnswer(command, versions));
          if (about.static?.includes(run[0] ?? '') !== true) expectOwnObjects(objects, folder, run.join(' '));
        }
        await about.also?.(host, arch);
        if (about.tls !== undefined) await expectHostCas(host, arch, about.tls);
      });
    });
  }
  describe(hostArch(), () => {
    mergeTest("the host's programs load the same libraries before and after", async () => {
      const images = await buildImages(dir, hostArch(), [target], about);
      await withHost({ release: target === 'portable' ? channelHead('stable').number : target.number }, async (host) => {
        const before = await hostLibraries(host);
        expect(before).toMatch(/^== \/usr\/bin\/bash\n(?:\t.*\n)*?\tlibc\.so\.6 => /m);
        for (const image of images) await host.install(image.file, linkName(image.extension, target));
        expect(await host.merge()).toContain('Using extensions');
        const there = new Set(before.split('== ').map((one) => one.split('\n')[0]));
        const after = (await hostLibraries(host)).split('== ').filter((one) => there.has(one.split('\n')[0]));
        expect(after.join('== ')).toBe(before);
      });
    });
  });
}
