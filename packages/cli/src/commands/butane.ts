import { hostArch, parseArch, parseRef } from '@flatcar/core/engine';
import { Argument, Option, type Command } from 'commander';
import { addHelp } from '../help.ts';
import { releaseOption } from '../options.ts';
import { firstUseOption, rootOption } from '../published.ts';
import { writeRaw, tell } from '../output/output.ts';
import { treeTrust } from '@flatcar/workspace/given-keys';
import { treeTargets } from '@flatcar/workspace/tree-targets';

interface Flags {
  readonly release: string;
  readonly baseUrl: string;
  readonly arch?: string;
  readonly tree?: string;
  readonly root?: string;
  readonly trustFirstUse?: boolean;
  readonly minimal?: boolean;
  readonly stager: boolean;
}

/** `butane` and `ignition`: configs that put published extensions on a node at its first boot. */
export function addButane(root: Command): void {
  const forms = [
    ['butane', 'print a Butane config that puts published extensions on a node'],
    ['ignition', 'print the same as an Ignition config'],
  ] as const;
  for (const [form, description] of forms) {
    const command = root
      .command(form)
      .description(description)
      .addArgument(
        new Argument(
          '<extensions...>',
          'kubernetes: the newest version, then what the extension follows (kubernetes: its minor version); kubernetes@latest: every version; kubernetes@1.36: the newest of that branch; kubernetes@1.36.4: that version',
        ),
      )
      .addOption(releaseOption().makeOptionMandatory())
      .addOption(
        new Option('--base-url <url>', 'URL from which nodes fetch the published tree').env('FLATCAR_EXT_BASE_URL').makeOptionMandatory(),
      )
      .addOption(new Option('--arch <arch>', "the node's architecture: x86-64 or arm64").default(undefined, "this machine's"))
      .addOption(
        new Option('--tree <where>', 'read the published tree here: a folder, https://… or s3://bucket/prefix').default(
          undefined,
          '--base-url',
        ),
      )
      .addOption(rootOption())
      .addOption(firstUseOption())
      .option('--minimal', 'write images and links only: nothing is updated, and the next Flatcar release has no images')
      .option('--no-stager', 'do not add extension-stager to extensions that are bound to releases')
      .action(async (words: string[], flags: Flags) => {
        const { butaneText, ignitionConfig, nodeComment } = await import('@flatcar/publish');
        const { configureNode } = await import('@flatcar/workspace/configure-node');
        const { config, notices, serial } = await configureNode({
          wanted: words.map(parseRef),
          targets: treeTargets(flags.release),
          arch: flags.arch === undefined ? hostArch() : parseArch(flags.arch),
          baseUrl: flags.baseUrl,
          tree: flags.tree,
          trust: await treeTrust(flags),
          minimal: flags.minimal === true,
          stager: flags.stager,
        });
        for (const notice of notices) tell(`note: ${notice}`);
        writeRaw(
          form === 'butane'
            ? await butaneText(config, nodeComment(words, flags.release, { serial, baseUrl: flags.baseUrl }))
            : `${JSON.stringify(ignitionConfig(config), undefined, 2)}\n`,
        );
      });
    addHelp(command, {
      text: [
        "The config has each image by URL and sha512, a link for each release in /etc/extensions, transfer files for systemd-sysupdate, the keyring that verifies them, and extension-stager, which updates images and fetches those of the next Flatcar release before the node boots into it. Without the stager, a timer for each extension updates it. Flatcar's own docker and containerd are turned off if an extension replaces them.",
      ],
      examples: [
        `flatcar-ext ${form} kubernetes@1.36 debug-tools --release stable --base-url https://extensions.example.org`,
        `flatcar-ext ${form} docker --release stable --arch arm64 --base-url https://extensions.example.org --root root.json --minimal`,
        `flatcar-ext ${form} kubernetes --release stable,beta --base-url https://extensions.example.org --tree /srv/extensions`,
      ],
    });
  }
}
