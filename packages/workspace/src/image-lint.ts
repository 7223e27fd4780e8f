import { relative } from 'node:path';
import {
  ARCHES,
  componentsOf,
  describePayload,
  lintImage,
  lintNeighbours,
  openStore,
  openTools,
  pathsBeside,
  placeOf,
  SOURCE_RULES,
  type Finding,
  type LoadedExtension,
  type Manifest,
  type Neighbour,
  type PinnedComponent,
} from '@flatcar/core/engine';
import { imageFormat, readImageFile, type ImageFile } from './image-file.ts';
import { extensionsFolder, findNamed, REPOSITORY } from './select.ts';

/** A finding of `lint`: in a folder of the repository, or in an image and (if known) the source that it was built from. */
export interface ReportedFinding {
  readonly rule: string;
  readonly level: 'error' | 'warning';
  readonly what: string;
  readonly fix: string;
  /** Of images: the file, and the path inside. */
  readonly image?: string;
  readonly path?: string;
  /** File and line to change. */
  readonly where?: string;
  /** True if `--fix` fixed the finding. */
  readonly fixed?: boolean;
}

/** The extension of this checkout that pins the version of an image; undefined if there is none. */
async function sourceOf({ name, upstream }: Manifest, repository: string): Promise<LoadedExtension | undefined> {
  const loaded = await findNamed(name, repository);
  return loaded?.pins[upstream] === undefined ? undefined : loaded;
}

/** File and line in this checkout at which the finding of an image can be fixed; undefined if the checkout does not pin that version. */
async function locateFinding(finding: Finding, manifest: Manifest, repository: string): Promise<string | undefined> {
  const loaded = await sourceOf(manifest, repository);
  if (loaded === undefined) return undefined;
  const { name, upstream } = manifest;
  const { dir } = loaded;
  const { components, pin } = await componentsOf(loaded, upstream);
  const own: PinnedComponent = {
    component: { name, version: upstream, origins: [{ kind: 'files', dir: 'files' }], install: [] },
    dir,
    pin,
  };
  return placeOf(finding, dir, [...components, own], new Map());
}

/** Whether this checkout would build the same payload now, on either kind of machine and from the origins that the image names. */
async function isCurrent({ manifest }: ImageFile, repository: string): Promise<boolean> {
  const loaded = await sourceOf(manifest, repository);
  if (loaded === undefined) return false;
  const { upstream, architecture, format, profile, components } = manifest;
  const kinds = components.map(({ origin }) => origin);
  const request = { version: upstream, arch: architecture, format, profile };
  const keys = await Promise.all(
    ARCHES.map((host) =>
      describePayload(loaded, request, host, kinds).then(
        ({ key }) => key,
        // For example, the image lacks a component of the definition.
        () => undefined,
      ),
    ),
  );
  return keys.includes(manifest.payload);
}

/** Splits built images into those of the current sources and a finding for each of the others. */
export async function sortByAge(
  files: readonly string[],
  repository: string = REPOSITORY,
): Promise<{ current: string[]; stale: ReportedFinding[] }> {
  const current: string[] = [];
  const stale: ReportedFinding[] = [];
  for (const file of files) {
    if (await isCurrent(await readImageFile(file), repository)) current.push(file);
    else
      stale.push({
        rule: 'stale-image',
        level: SOURCE_RULES['stale-image'].level,
        what: 'was built from other sources than those in this checkout, and was not checked',
        image: file,
        fix: `flatcar-ext build ${relative(extensionsFolder(repository), file).split('/')[0] ?? ''}`,
      });
  }
  return { current, stale };
}

/** Checks the bytes of images, and those of one target and architecture against each other: a node may merge them together. */
export async function lintImages(files: readonly string[], repository: string = REPOSITORY): Promise<ReportedFinding[]> {
  const store = openStore();
  const tools = openTools(store);
  const findings: ReportedFinding[] = [];
  const nodes = new Map<string, Neighbour[]>();
  for (const file of files) {
    const { manifest, target } = await readImageFile(file);
    const { name, kind, architecture, waived, replaces, conflicts, requires } = manifest;
    const subject = {
      name,
      kind,
      arch: architecture,
      target,
      definition: { requiredPaths: [], replaces, waive: waived },
      beside: await pathsBeside(extensionsFolder(repository), requires),
    };
    const linted = await lintImage(file, await imageFormat(file), subject, { tools, store });
    for (const finding of linted.findings)
      findings.push({ image: file, ...finding, where: await locateFinding(finding, manifest, repository) });
    const node = `${manifest.target} ${architecture}`;
    nodes.set(node, [...(nodes.get(node) ?? []), { name, conflicts, entries: linted.tree.entries }]);
  }
  for (const [node, images] of nodes) findings.push(...lintNeighbours(images).map((finding) => ({ image: node, ...finding })));
  return findings;
}
