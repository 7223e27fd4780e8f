import { lstat, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ARCHES, archWords } from '../model/arch.ts';
import { componentName, componentSource } from '../definition/component-source.ts';
import type { PinnedComponent } from '../definition/types.ts';
import type { Finding } from '../model/finding.ts';
import { blankComments, lineOf } from '../util/text-position.ts';
import { walk } from '../util/walk.ts';

/** `file:line` of the first of several texts in extension.ts, after a key if one is given. */
async function inDefinition(dir: string, wanted: readonly (string | RegExp)[], key?: string): Promise<string> {
  const file = join(dir, 'extension.ts');
  // Comments may contain the key.
  const text = blankComments(await readFile(file, 'utf8').catch(() => ''));
  const at = key === undefined ? -1 : text.search(new RegExp(`(?<![\\w.'"-])['"]?${key}['"]?\\s*:`));
  if (at === -1) return `${file}:${lineOf(text, wanted)}`;
  const before = text.slice(0, at).split('\n').length;
  const rest = text.slice(at);
  // Without a wanted text below the key, the line of the key.
  return `${file}:${before - 1 + lineOf(rest, wanted)}`;
}

/** The file or link at a path, or the first one in a folder there; undefined if the path does not exist. */
async function fileAt(path: string): Promise<string | undefined> {
  const about = await lstat(path).catch(() => undefined);
  if (about?.isDirectory() !== true) return about === undefined ? undefined : path;
  return (await walk(path)).find(({ type }) => type !== 'dir')?.full ?? path;
}

/** `file:line` of the first of several texts in a file; line 1 of anything but a file. */
async function lineIn(file: string, words: readonly string[]): Promise<string> {
  const isFile = (await lstat(file)).isFile();
  return `${file}:${isFile ? lineOf(await readFile(file, 'latin1'), words) : 1}`;
}

/**
 * `file:line` of this repository where a finding can be fixed: the shipped file if it is in this repository (of a folder, the first file in it),
 * otherwise the component in the definition, or in the definition of a shared component. A file that cannot be read is skipped.
 */
export async function placeOf(
  { rule, path, what, subject }: Pick<Finding, 'rule' | 'path' | 'what' | 'subject'>,
  dir: string,
  components: readonly Pick<PinnedComponent, 'component' | 'dir'>[],
  owners: ReadonlyMap<string, string>,
): Promise<string> {
  if (rule === 'required-path') return inDefinition(dir, [`'${path ?? ''}'`], 'requiredPaths');
  if (rule === 'replaces-nothing') return inDefinition(dir, [`'${path ?? ''}'`], 'replaces');
  if (rule === 'waiver' || rule === 'unused-waiver') return inDefinition(dir, subject === undefined ? [] : [subject], 'waive');
  if (path === undefined) return inDefinition(dir, [/\bdefineExtension\(/]);
  // Findings quote what the file contains, and write settings as Key=value.
  const quoted = [...what.matchAll(/'([^']+)'/g)].map(([, text = '']) => text);
  const setting = /^(\w+=\S*)/.exec(what)?.[1];
  const words = [...(subject === undefined ? [] : [subject]), ...quoted, ...(setting === undefined ? [] : [setting])];
  // Folders have no owner: the owner of a file in it counts.
  const owner = owners.get(path) ?? [...owners].find(([one]) => one.startsWith(`${path}/`))?.[1];
  for (const one of components.filter(({ component }) => component.name === (owner ?? component.name))) {
    const folders = one.component.origins.flatMap((origin) =>
      origin.kind === 'files' ? ARCHES.map((arch) => origin.dir.replaceAll('{arch}', archWords(arch).go)) : [],
    );
    for (const folder of folders) {
      const file = await fileAt(join(one.dir, folder, path)).catch(() => undefined);
      if (file !== undefined) return lineIn(file, words).catch(() => `${file}:1`);
    }
  }
  const lock = components.find(({ component }) => component.name === owner)?.component.lock;
  const shared = lock === undefined || owner === undefined ? undefined : await componentSource(lock, owner).catch(() => undefined);
  if (shared !== undefined && owner !== undefined)
    return `${shared.file}:${shared.text.slice(0, shared.text.search(componentName(owner))).split('\n').length}`;
  return inDefinition(dir, [...(owner === undefined ? [] : [`'${owner}'`]), /^\s*start:/, /\bcomponents:/]);
}
