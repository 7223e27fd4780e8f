import { dirname, join } from 'node:path';
import { ARCHES } from '../model/arch.ts';
import { knownPaths, pathsBeside } from '../definition/beside.ts';
import { allComponents, folderOf } from '../definition/components.ts';
import type { LoadedExtension, PinnedComponent } from '../definition/types.ts';
import { lintTree, type Neighbour } from './lint.ts';
import { placeOf } from './locate.ts';
import { imageVersion } from '../model/names.ts';
import { stageReleaseFile } from '../image/release-file.ts';
import { IMAGE_RULES } from './rules/table.ts';
import { stage } from '../image/stage.ts';
import type { Store } from '../store/store.ts';
import { normalise, readTree } from '../image/tree.ts';
import type { Arch } from '../model/arch.ts';
import type { Finding } from '../model/finding.ts';
import type { TreeEntry } from '../model/payload.ts';
import { writeStartDropins } from '../image/start-dropins.ts';
import { newestFirst } from '../model/versions.ts';

/** The findings about an extension's files, before anything is fetched or built. */
export interface SourceCheck {
  /** Each with the file and line to change. */
  readonly findings: readonly (Finding & { readonly where: string })[];
  /** Rules that need a build, because only a build knows all files of a component; empty if all rules were applied. */
  readonly waiting: readonly string[];
  /** The files, to compare with those of other extensions. */
  readonly neighbour: Neighbour;
}

const isOwn = ({ component }: PinnedComponent): boolean => component.origins.every(({ kind }) => kind === 'files');
const isGlob = (text: string): boolean => /[*?[{]/.test(text);
/** True if the definition lists all paths of a component. */
const isListed = (one: PinnedComponent): boolean => isOwn(one) || one.component.install.every(({ from }) => !isGlob(from));

/** Stages and lints the files of this repository in one version of an extension, for one architecture. */
async function lintFor(loaded: LoadedExtension, version: string, arch: Arch, store: Store): Promise<SourceCheck> {
  const { extension } = loaded;
  const { pin, components, own } = await allComponents(loaded, version);
  const all = [...components, ...own];
  const others = all.filter((one) => !isOwn(one));
  const isWhole = others.every(isListed);
  const expected = (await Promise.all(others.map(knownPaths))).flat();
  return store.withTemp(async (temp) => {
    const dir = join(temp, 'tree');
    const parts = all
      .filter(isOwn)
      .flatMap(({ component, dir: folder }) =>
        component.origins.flatMap((origin) =>
          origin.kind === 'files'
            ? [{ component: component.name, dir: join(folder, folderOf(origin, arch)), install: component.install }]
            : [],
        ),
      );
    const owners = await stage(parts, dir);
    const start = isWhole
      ? extension.start
      : extension.start.filter((unit) => [...owners.keys()].some((path) => path.endsWith(`/${unit}`)));
    await writeStartDropins(dir, { ...extension, start });
    await stageReleaseFile(dir, {
      name: extension.name,
      kind: extension.kind,
      version: imageVersion(version, pin.revision),
      arch,
      target: 'portable',
      reload: false,
    });
    await normalise(dir);
    const tree = await readTree(dir, owners);
    const found = await lintTree(tree, {
      name: extension.name,
      kind: extension.kind,
      arch,
      definition: extension,
      beside: await pathsBeside(dirname(loaded.dir), extension.requires),
      part: { isWhole, expected },
    });
    const findings = await Promise.all(found.map(async (one) => ({ ...one, where: await placeOf(one, loaded.dir, all, owners) })));
    const waiting = isWhole ? [] : Object.keys(IMAGE_RULES).filter((rule) => IMAGE_RULES[rule]?.sees === 'whole');
    const entries: TreeEntry[] = tree.entries.filter(({ path }) => owners.has(path));
    return { findings, waiting, neighbour: { name: extension.name, conflicts: extension.conflicts, entries } };
  });
}

/**
 * Lints the files of this repository in the newest version of an extension. Fetches nothing and reads no image. Files that the definition
 * installs from elsewhere, such as programs, count as present.
 */
export async function lintSources(loaded: LoadedExtension, store: Store): Promise<SourceCheck | undefined> {
  const [version] = newestFirst(Object.keys(loaded.pins));
  if (version === undefined) return undefined;
  const checks = await Promise.all(ARCHES.map((arch) => lintFor(loaded, version, arch, store)));
  const [first] = checks;
  if (first === undefined) return undefined;
  const findings = new Map(checks.flatMap((check) => check.findings.map((one) => [`${one.rule} ${one.where} ${one.what}`, one])));
  return { ...first, findings: [...findings.values()] };
}
