import { selectTargets } from '@flatcar/core/engine';
import { Option, type Command } from 'commander';
import { archOption, arches, releaseOption, jsonOption } from '../options.ts';
import { treeTrust } from '@flatcar/workspace/given-keys';
import type { CheckoutPlan } from '@flatcar/workspace/plan-release';
import { firstUseOption, keysOption, rootOption } from '../published.ts';
import { addHelp } from '../help.ts';
import { show, table } from '../output/terminal.ts';
import { printJson, tell } from '../output/output.ts';

interface Flags {
  readonly tree?: string;
  readonly firstPublish?: boolean;
  readonly keys?: string;
  readonly root?: string;
  readonly trustFirstUse?: boolean;
  readonly release?: string;
  readonly arch?: string;
  readonly matrix?: boolean;
  readonly json?: boolean;
}

/** What a person reads of a plan. */
export function planText({ images, payloads, skipped, targets, serial }: CheckoutPlan, unpublishable: readonly string[]): string {
  if (images.length === 0 && unpublishable.length > 0) return unpublishable.join('\n');
  if (images.length === 0) return `nothing is missing: everything is published for ${targets.join(', ')} (index ${serial})`;
  const missing = new Set(payloads.map((one) => `${one.extension} ${one.version} ${one.architecture} ${one.format}`));
  return [
    table([
      ['extension', 'version', 'arch', 'format', 'payload', 'targets'],
      ...images.map((one) => [
        one.extension,
        one.version,
        one.architecture,
        one.format,
        missing.has(`${one.extension} ${one.version} ${one.architecture} ${one.format}`) ? 'build' : 'published',
        one.targets.join(', '),
      ]),
    ]),
    '',
    `${payloads.length} payloads to build, ${images.reduce((sum, one) => sum + one.targets.length, 0)} images to bind (index ${serial})`,
    ...unpublishable,
    ...skipped.map((one) => `not made: ${one.extension} ${one.version} ${one.architecture} for ${one.target}: ${one.why}`),
  ].join('\n');
}

/** `plan`: what is to be built and bound so that everything is published. */
export function addPlan(root: Command): void {
  const command = root
    .command('plan')
    .summary('list what a published tree lacks')
    .description('list what a published tree lacks: payloads to build and images to bind')
    .argument('[extensions...]', 'names (default: all)')
    .addOption(
      new Option('--tree <where>', 'the published tree: a folder, https://… or s3://bucket/prefix').default(undefined, 'an empty tree'),
    )
    .option('--first-publish', 'accept a tree without an index: nothing is published there yet')
    .addOption(keysOption())
    .addOption(rootOption())
    .addOption(firstUseOption())
    .addOption(releaseOption().default(undefined, 'portable and the newest of each channel'))
    .addOption(archOption().default(undefined, 'all'))
    .option('--matrix', 'print a matrix for GitHub Actions: a job for each extension, architecture and set of targets')
    .addOption(jsonOption())
    .action(async (names: string[], flags: Flags) => {
      const { matrixOf, parsePlace } = await import('@flatcar/publish');
      if (flags.tree !== undefined) parsePlace(flags.tree, '--tree');
      const { planRelease, unpublishableLines } = await import('@flatcar/workspace/plan-release');
      const tree =
        flags.tree === undefined
          ? undefined
          : { where: flags.tree, trust: await treeTrust(flags), firstPublish: flags.firstPublish === true };
      const targets = flags.release === undefined ? undefined : selectTargets(flags.release);
      const plan = await planRelease(names, { tree, targets, arches: flags.arch === undefined ? undefined : arches(flags.arch) });
      const unpublishable = unpublishableLines(plan);
      if (flags.matrix === true) for (const line of unpublishable) tell(line);
      if (flags.matrix === true) printJson(matrixOf(plan), 0);
      else show(plan, flags.json, (value) => planText(value, unpublishable));
    });
  addHelp(command, {
    text: [
      'The plan follows from the locks, the catalogue of Flatcar releases and the published index alone. Targets are portable and the newest release of every channel (for LTS, of each supported major).',
    ],
    examples: [
      'flatcar-ext plan',
      'flatcar-ext plan --tree https://extensions.example.org --root root.json',
      'flatcar-ext plan --tree /srv/extensions --keys ~/keys --matrix',
    ],
  });
}
