import { glob } from 'node:fs/promises';
import { join, relative } from 'node:path';
import {
  findExtensions,
  loadExtension,
  SOURCE_RULES,
  UsageError,
  UserError,
  UserErrors,
  type Finding,
  type Neighbour,
  type PinnedComponent,
  inLine,
} from '@flatcar/core/engine';
import type { Command } from 'commander';
import { formatOfFile, knownImage } from '@flatcar/workspace/image-file';
import { REPOSITORY } from '@flatcar/workspace/select';
import { lintRootReadme, lintSource, mendSource, type SourceFinding } from '@flatcar/workspace/source-lint';
import { paint, show } from '../output/terminal.ts';

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
  /** Files that are named. */
  readonly images: readonly string[];
  /** Files in the dist/ of extensions that are named. */
  readonly built: readonly string[];
  /** Folders of extensions. */
  readonly dirs: readonly string[];
}

const counted = (count: number, what: string): string => `${count} ${what}${count === 1 ? '' : 's'}`;

/** Image files as they are; of extensions the folder, and all images in their dist/. */
async function choose(names: readonly string[]): Promise<Chosen> {
  const all = await findExtensions(REPOSITORY);
  const images: string[] = [];
  const built: string[] = [];
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
    built.push(...(await Array.fromAsync(glob('dist/*/*.raw', { cwd: dir }))).toSorted().map((image) => join(dir, image)));
  }
  return { images, built, dirs };
}

function line({ level, rule, image, path, where, what, fix, mended }: Shown): string {
  const head = mended === true ? paint('green', 'mended') : paint(level === 'error' ? 'red' : 'yellow', level);
  const rest = mended === true ? '' : `\n    ${inLine(fix)}`;
  const place = [where === undefined ? undefined : where.replace(`${REPOSITORY}/`, ''), image === undefined ? undefined : `${relative(REPOSITORY, image)}${path === undefined ? '' : `: ${path}`}`]; // prettier-ignore
  return `${head} [${rule}] ${inLine(place.filter((one) => one !== undefined).join(' ('))}${place.every((one) => one !== undefined) ? ')' : ''}: ${inLine(what)}${rest}`;
}

/** Where the finding of an image can be mended, when the image is of an extension of this repository in the version that is pinned. */
async function placeIn(name: string, version: string, finding: Finding, owners: ReadonlyMap<string, string>): Promise<string | undefined> {
  const { componentsOf, placeOf } = await import('@flatcar/core/engine');
  const dir = (await findExtensions(REPOSITORY)).find((one) => one.endsWith(`/${name}`));
  if (dir === undefined) return undefined;
  const loaded = await loadExtension(dir);
  const upstream = version.replace(/-\d+$/, '');
  if (loaded.pins[upstream] === undefined) return undefined;
  const { components, pin } = await componentsOf(loaded, upstream);
  const own: PinnedComponent = { component: { name, version: upstream, origins: [{ kind: 'files', dir: 'files' }], places: [] }, dir, pin };
  return placeOf(finding, dir, [...components, own], owners);
}

/** Whether an image is what the checkout would build now, by the key of its payload: on either kind of machine, by the origins that it has. */
async function isCurrent(file: string): Promise<boolean> {
  const { ARCHES, describePayload } = await import('@flatcar/core/engine');
  const { manifest } = await knownImage(file);
  const { name, upstream, architecture, format, profile, components } = manifest;
  const dir = (await findExtensions(REPOSITORY)).find((one) => one.endsWith(`/${name}`));
  if (dir === undefined) return false;
  const loaded = await loadExtension(dir);
  if (loaded.pins[upstream] === undefined) return false;
  const kinds = components.map(({ origin }) => origin);
  const request = { version: upstream, arch: architecture, format, profile };
  const keys = await Promise.all(
    ARCHES.map((host) =>
      describePayload(loaded, request, host, kinds).then(
        ({ key }) => key,
        // Such as a component that the image has not.
        () => undefined,
      ),
    ),
  );
  return keys.includes(manifest.payload);
}

/** Images in dist/ folders: those of the sources as they are, and a finding for each of the others. */
async function sortOut(files: readonly string[]): Promise<{ current: string[]; stale: Shown[] }> {
  const current: string[] = [];
  const stale: Shown[] = [];
  for (const image of files) {
    if (await isCurrent(image)) current.push(image);
    else {
      const name = relative(join(REPOSITORY, 'extensions'), image).split('/')[0] ?? '';
      stale.push({
        rule: 'stale-image',
        level: SOURCE_RULES['stale-image'].level,
        what: 'was built from other sources than those in this checkout, and was not checked',
        image,
        fix: `flatcar-ext build ${name}`,
      });
    }
  }
  return { current, stale };
}

async function lintImages(files: readonly string[]): Promise<Shown[]> {
  const { lintImage, lintNeighbours, openStore, openTools, pathsBeside } = await import('@flatcar/core/engine');
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

/** The files of this repository that extensions ship, as they stand; `waiting` are the rules that a build must judge, `failures` what keeps files from being put together. */
async function lintShipped(dirs: readonly string[]): Promise<{ findings: Shown[]; waiting: Set<string>; failures: UserError[] }> {
  const { lintNeighbours, lintSources, openStore } = await import('@flatcar/core/engine');
  const store = openStore();
  const findings: Shown[] = [];
  const waiting = new Set<string>();
  const neighbours: Neighbour[] = [];
  const failures: UserError[] = [];
  for (const dir of dirs) {
    const check = await loadExtension(dir)
      .then((loaded) => lintSources(loaded, store))
      .catch((error: unknown) => {
        if (!(error instanceof UserError)) throw error;
        failures.push(error);
      });
    if (check === undefined) continue;
    findings.push(...check.findings.map(({ rule, level, what, fix, where }) => ({ rule, level, what, fix, where })));
    check.waiting.forEach((rule) => waiting.add(rule));
    neighbours.push(check.neighbour);
  }
  findings.push(...lintNeighbours(neighbours).map((finding) => ({ image: 'files/', ...finding })));
  return { findings, waiting, failures };
}

/** Folders of extensions, and the list of all of them; with `fix` what a program can mend is mended first. */
async function lintFolders(dirs: readonly string[], fix: boolean): Promise<Shown[]> {
  const shown: Shown[] = [];
  const both = async (check: () => Promise<SourceFinding[]>, mend: () => Promise<void>): Promise<void> => {
    const before = await check();
    if (fix) await mend();
    const after = fix ? await check() : before;
    const left = new Set(after.map(({ rule, what }) => `${rule} ${what}`));
    const mended = before.filter(({ rule, what }) => !left.has(`${rule} ${what}`));
    for (const { mend: _, ...finding } of mended) shown.push({ ...finding, mended: true });
    for (const { mend: _, ...finding } of after) shown.push(finding);
  };
  for (const dir of dirs)
    await both(
      async () => lintSource(await loadExtension(dir)),
      () => mendSource(dir),
    );
  if (dirs.length > 0)
    await both(lintRootReadme, async () => {
      for (const { mend } of await lintRootReadme()) await mend?.();
    });
  return shown;
}

/** `lint`: the rules, on folders of extensions and on finished images. */
export function addLint(root: Command): void {
  root
    .command('lint')
    .description('check extensions, and finished images by their own bytes (builds check what they stage by the same rules)')
    .argument(
      '[names...]',
      'extensions (their sources, and the images in their dist/ that are built from them), or .raw files with their manifests beside them; all extensions by default',
    )
    .option(
      '--fix',
      'mend what a program can mend: locks, READMEs (the root one included), package.json with its entry in package-lock.json, file modes; CHANGELOG.md is written by pin and bump',
    )
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  flatcar-ext lint kubernetes\n  flatcar-ext lint --fix\n  flatcar-ext lint docker kubernetes crun        also: can they be merged together?',
    )
    .action(async (names: string[], flags: { fix?: boolean; json?: boolean }) => {
      const { images, built, dirs } = await choose(names);
      const folders = await lintFolders(dirs, flags.fix === true);
      const shipped = await lintShipped(dirs);
      const { current, stale } = await sortOut(built);
      const looked = [...images, ...current];
      const findings = [...folders, ...shipped.findings, ...stale, ...(await lintImages(looked))];
      const summary = [
        ...(dirs.length === 0 ? [] : [counted(dirs.length, 'extension')]),
        counted(looked.length, 'image') + (looked.length === 0 && dirs.length > 0 ? ': only definitions and files/ were checked' : ''),
      ].join(', ');
      const rest =
        looked.length > 0 || shipped.waiting.size === 0 ? [] : [`  not before a build: ${[...shipped.waiting].toSorted().join(', ')}`];
      show(findings, flags.json, (all) =>
        [...all.map(line), `${summary}; ${all.length === 0 ? 'nothing found' : `${all.length} found`}`, ...rest].join('\n'),
      );
      const errors = findings.filter(({ level, mended }) => level === 'error' && mended !== true);
      const text = `lint found ${counted(errors.length, 'error')}`;
      if (shipped.failures.length > 0) throw new UserErrors(errors.length > 0 ? text : 'not everything could be checked', shipped.failures);
      if (errors.length > 0) throw new UserError(text);
    });
}
