import { selectTargets, targetName, UsageError } from '@flatcar/core/engine';
import type { Command } from 'commander';
import { chooseExtensions } from '@flatcar/workspace/select';
import { addHelp } from '../help.ts';
import { arches, archOption, releaseOption } from '../options.ts';
import { printJson } from '../output/output.ts';

interface Flags {
  readonly release?: string;
  readonly arch?: string;
  readonly os: string;
  readonly all?: boolean;
  readonly json?: boolean;
}

/** `test`: boots machines with extensions merged. */
export function addTest(root: Command, signal: AbortSignal): void {
  const command = root
    .command('test')
    .summary('boot virtual machines with extensions merged')
    .description('boot virtual machines with extensions merged, and check their units and programs')
    .argument('[extensions...]', 'names (default: the extension of this folder)')
    .addOption(releaseOption().default(undefined, 'stable; with --all stable and beta'))
    .addOption(archOption().default(undefined, "this machine's"))
    .option('--os <os>', 'what to boot: stand-in, flatcar (fetched and verified), or the path of a Flatcar image for QEMU', 'stand-in')
    .option('--all', 'test all extensions, and what systemd does with images')
    .option('--json', "print vitest's results as JSON")
    .action(async (names: string[], flags: Flags) => {
      if (flags.all === true && names.length > 0) throw new UsageError('--all takes no names', { next: 'leave out the names, or --all' });
      const versioned = names.find((name) => name.includes('@'));
      if (versioned !== undefined)
        throw new UsageError(`'${versioned}' names a version`, {
          next: 'leave out the version: machines run the newest, or the one in test/extension.test.ts',
        });
      const releases = selectTargets(flags.release ?? (flags.all === true ? 'stable,beta' : 'stable'))
        .filter((target) => target !== 'portable')
        .map(targetName);
      if (releases.length === 0)
        throw new UsageError('machines boot a Flatcar release, not portable', {
          where: '--release',
          next: 'pass a channel or a release number',
        });
      const extensions = flags.all === true ? undefined : (await chooseExtensions(names)).map(({ loaded }) => loaded.extension.name);
      const { parseOs, runMachineTests } = await import('@flatcar/workspace/machine-tests');
      const tests = { extensions, releases, arches: arches(flags.arch), os: await parseOs(flags.os) };
      await runMachineTests(tests, flags.json === true ? printJson : undefined, signal);
    });
  addHelp(command, {
    text: [
      'Extensions that can be merged together share a machine, one for each release and architecture; confexts boot apart from sysexts. Machines run by QEMU, with KVM if this machine has it. The tests are those in the folder test/ of each extension: extension.test.ts and machine tests.',
      'The stand-in is Debian 13 for releases up to 4593, where systemd merges in the final system, and Debian unstable from 4628 on, where the initrd merges. Making one needs root and some minutes; the store keeps both. --os flatcar fetches the image for QEMU of each release, verified by its signing key; an image of your own (--os PATH) must be of the release that is tested.',
      'An extension is skipped, with the reason, if its upstream cannot be reached and it cannot be compiled; with CI set that is a failure. A test that only works on a stand-in is skipped on others. Logs of a failed machine are kept in the cache folder.',
    ],
    examples: [
      'flatcar-ext test kubernetes',
      'flatcar-ext test kubernetes containerd --release stable,beta',
      'flatcar-ext test hardening --release beta --arch arm64',
      'flatcar-ext test kubernetes --os flatcar --release stable,lts',
      'flatcar-ext test --all',
    ],
  });
}
