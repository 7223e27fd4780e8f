import { catalogue, selectTargets } from '@flatcar/core/engine';
import type { ReleasePlan } from '@flatcar/publish';
import { Option, type Command } from 'commander';
import { addHelp } from '../help.ts';
import { arches, archOption, jsonOption, releaseOption } from '../options.ts';
import { packagingProblems, type PackagingProblem } from '@flatcar/workspace/packaging-check';
import { keyringOption, keysOption, loadNamed, plannedExtensions, trustedKeys } from '../published.ts';
import { show, table } from '../output/terminal.ts';
import { printJson, tell } from '../output/output.ts';

interface Flags {
  readonly tree?: string;
  readonly firstPublish?: boolean;
  readonly keys?: string;
  readonly keyring?: string;
  readonly release?: string;
  readonly arch?: string;
  readonly matrix?: boolean;
  readonly json?: boolean;
}

/** A plan, and the versions that were changed since they were pinned. */
export interface Planned extends ReleasePlan {
  readonly changed: readonly PackagingProblem[];
}

/** The lines that name what cannot be published as it is, with what to do. */
export function changedLines({ changed, stale }: Pick<Planned, 'changed' | 'stale'>): string[] {
  const known = new Set(changed.map(({ extension }) => extension));
  return [
    ...changed.map(({ extension, what, next }) => `${extension}: ${what}; ${next}`),
    ...stale
      .filter(({ extension }) => !known.has(extension))
      .map(
        ({ extension, version }) =>
          `${extension}: ${version} is published with other bytes than those that are pinned; flatcar-ext pin ${extension} --revision`,
      ),
  ].map((line) => `cannot be published as it is: ${line}`);
}

/** What a person reads of a plan. */
export function planText({ images, payloads, skipped, targets, serial, changed, stale }: Planned): string {
  const lines = changedLines({ changed, stale });
  if (images.length === 0 && lines.length > 0) return lines.join('\n');
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
    ...lines,
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
    .addOption(keyringOption())
    .addOption(releaseOption().default(undefined, 'portable and the newest of each channel'))
    .addOption(archOption().default(undefined, 'all'))
    .option('--matrix', 'print a matrix for GitHub Actions: a job for each extension, architecture and set of targets')
    .addOption(jsonOption())
    .action(async (names: string[], flags: Flags) => {
      const { ARCHES, openStore } = await import('@flatcar/core/engine');
      const { matrixOf, openTree, plan, readPublished, supportedTargets } = await import('@flatcar/publish');
      const published =
        flags.tree === undefined
          ? { index: undefined, extension: async () => undefined, packages: async () => [] }
          : await readPublished(openTree(flags.tree, openStore(), { flag: '--tree' }), await trustedKeys(flags), {
              firstPublish: flags.firstPublish === true,
            });
      const targets = flags.release === undefined ? supportedTargets(catalogue()) : selectTargets(flags.release);
      const loaded = await loadNamed(names);
      const changed = (await Promise.all(loaded.map((one) => packagingProblems(one)))).flat();
      const found = await plan(plannedExtensions(loaded), targets, published, flags.arch === undefined ? ARCHES : arches(flags.arch));
      const result: Planned = { ...found, changed };
      if (flags.matrix === true) for (const line of changedLines(result)) tell(line);
      if (flags.matrix === true) printJson(matrixOf(result), 0);
      else show(result, flags.json, planText);
    });
  addHelp(command, {
    text: [
      'The plan follows from the locks, the catalogue of Flatcar releases and the published index alone. Targets are portable and the newest release of every channel (for LTS, of each supported major).',
    ],
    examples: [
      'flatcar-ext plan',
      'flatcar-ext plan --tree https://extensions.example.org --keyring publisher.gpg',
      'flatcar-ext plan --tree /srv/extensions --keys ~/keys --matrix',
    ],
  });
}
