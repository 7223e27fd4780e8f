import { glob } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { findExtensions, loadExtension, UserError, type Finding, type Neighbour, type PinnedComponent, UsageError } from '@flatcar/core';
import type { Command } from 'commander';
import { formatOfFile, knownImage } from '../image.ts';
import { REPOSITORY } from '../options.ts';
import { lintSource, mendSource } from '../source-lint.ts';
import { paint, show } from '../terminal.ts';

/** A finding as it is shown: in a folder of the repository, or in an image and (where known) what it was made from. */
interface Shown {
  readonly rule: string;
  readonly level: 'error' | 'warning';
  readonly what: string;
  readonly fix: string;
  /** Of images: the file, and the path inside. */
  readonly image?: string;
  readonly path?: string;
  /** File and line to change. */
  readonly where?: string;
  /** True when --fix mended it. */
  readonly mended?: boolean;
}

interface Chosen {
  readonly images: readonly string[];
  /** Folders of extensions. */
  readonly dirs: readonly string[];
}

/** Image files as they are; of extensions the folder, and all images in their dist/. */
async function choose(names: readonly string[]): Promise<Chosen> {
  const all = await findExtensions(REPOSITORY);
  const images: string[] = [];
  const dirs: string[] = [];
  for (const name of names.length === 0 ? all.map((dir) => dir.split('/').at(-1) ?? '') : names) {
    if (name.endsWith('.raw')) {
      images.push(name);
      continue;
    }
    const dir = all.find((one) => one.endsWith(`/${name}`));
    if (dir === undefined)
      throw new UsageError(`'${name}' is neither an image file nor an extension`, {
        where: join(REPOSITORY, 'extensions'),
        next: 'flatcar-ext list shows the extensions',
      });
    dirs.push(dir);
    images.push(...(await Array.fromAsync(glob('dist/*/*.raw', { cwd: dir }))).toSorted().map((image) => join(dir, image)));
  }
  return { images, dirs };
}

function line({ level, rule, image, path, where, what, fix, mended }: Shown): string {
  const head = mended === true ? paint('green', 'mended') : paint(level === 'error' ? 'red' : 'yellow', level);
  const place = [where === undefined ? undefined : where.replace(`${REPOSITORY}/`, ''), image === undefined ? undefined : `${relative(REPOSITORY, image)}${path === undefined ? '' : `: ${path}`}`]; // prettier-ignore
  return `${head} [${rule}] ${place.filter((one) => one !== undefined).join(' (')}${place.every((one) => one !== undefined) ? ')' : ''}: ${what}${mended === true ? '' : `\n    ${fix}`}`;
}

/** Where the finding of an image can be mended, when the image is of an extension of this repository in the version that is pinned. */
async function placeIn(name: string, version: string, finding: Finding, owners: ReadonlyMap<string, string>): Promise<string | undefined> {
  const { componentsOf, placeOf } = await import('@flatcar/core');
  const dir = (await findExtensions(REPOSITORY)).find((one) => one.endsWith(`/${name}`));
  if (dir === undefined) return undefined;
  const loaded = await loadExtension(dir);
  const upstream = version.replace(/-\d+$/, '');
  if (loaded.pins[upstream] === undefined) return undefined;
  const { components, pin } = await componentsOf(loaded, upstream);
  const own: PinnedComponent = { component: { name, version: upstream, origins: [{ kind: 'files', dir: 'files' }], places: [] }, dir, pin };
  return placeOf(finding, dir, [...components, own], owners);
}

async function lintImages(files: readonly string[]): Promise<Shown[]> {
  const { lintImage, lintNeighbours, openStore, openTools, pathsBeside } = await import('@flatcar/core');
  const store = openStore();
  const tools = openTools(store);
  const findings: Shown[] = [];
  const together = new Map<string, Neighbour[]>();
  for (const file of files) {
    const { manifest, target } = await knownImage(file);
    const { name, kind, architecture, waived, replaces, conflicts, requires, version } = manifest;
    const subject = {
      name,
      kind,
      arch: architecture,
      target,
      definition: { promises: [], replaces, waive: waived },
      beside: await pathsBeside(join(REPOSITORY, 'extensions'), requires),
    };
    const linted = await lintImage(file, await formatOfFile(file), subject, { tools, store });
    for (const finding of linted.findings) {
      const where = await placeIn(name, version, finding, new Map());
      findings.push({ image: file, ...finding, ...(where === undefined ? {} : { where }) });
    }
    // What one node may merge side by side.
    const node = `${manifest.target} ${architecture}`;
    together.set(node, [...(together.get(node) ?? []), { name, conflicts, entries: linted.tree.entries }]);
  }
  for (const [node, images] of together) findings.push(...lintNeighbours(images).map((finding) => ({ image: node, ...finding })));
  return findings;
}

async function lintFolders(dirs: readonly string[], fix: boolean): Promise<Shown[]> {
  const shown: Shown[] = [];
  for (const dir of dirs) {
    const before = await lintSource(await loadExtension(dir));
    if (fix) await mendSource(dir);
    const after = fix ? await lintSource(await loadExtension(dir)) : before;
    const left = new Set(after.map(({ rule, what }) => `${rule} ${what}`));
    const mended = before.filter(({ rule, what }) => !left.has(`${rule} ${what}`));
    for (const { mend: _, ...finding } of mended) shown.push({ ...finding, mended: true });
    for (const { mend: _, ...finding } of after) shown.push(finding);
  }
  return shown;
}

/** `lint`: the rules, on folders of extensions and on finished images. */
export function addLint(root: Command): void {
  root
    .command('lint')
    .description('check extensions, and finished images by their own bytes (builds check what they stage by the same rules)')
    .argument(
      '[names...]',
      'extensions (with the images in their dist/), or .raw files with their manifests beside them; all extensions unless said',
    )
    .option('--fix', 'mend what a program can mend: locks, READMEs, package.json, file modes')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  flatcar-ext lint kubernetes\n  flatcar-ext lint --fix\n  flatcar-ext lint docker kubernetes crun        also: can they be merged together?',
    )
    .action(async (names: string[], flags: { fix?: boolean; json?: boolean }) => {
      const { images, dirs } = await choose(names);
      const findings = [...(await lintFolders(dirs, flags.fix === true)), ...(await lintImages(images))];
      const counted = [dirs.length === 0 ? undefined : `${dirs.length} extension${dirs.length === 1 ? '' : 's'}`, `${images.length} image${images.length === 1 ? '' : 's'}`]; // prettier-ignore
      show(findings, flags.json, (all) =>
        [...all.map(line), ...(all.length === 0 ? [`${counted.filter((one) => one !== undefined).join(', ')}, nothing found`] : [])].join(
          '\n',
        ),
      );
      const errors = findings.filter(({ level, mended }) => level === 'error' && mended !== true);
      if (errors.length > 0) throw new UserError(`lint found ${errors.length} error${errors.length === 1 ? '' : 's'}`);
    });
}
