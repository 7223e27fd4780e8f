import { lstat, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ARCHES, archWords } from '../model/arch.ts';
import { componentName, componentSource } from '../definition/component-source.ts';
import type { PinnedComponent } from '../definition/types.ts';
import type { Finding } from '../model/finding.ts';
import { walk } from '../util/walk.ts';

/** Line (from 1) of a place in pretty-printed JSON, by its keys; that of the innermost key that is there. */
export function lineOfKeys(text: string, keys: readonly string[]): number {
  let at = 0;
  for (const key of keys) {
    const found = text.indexOf(`${JSON.stringify(key)}:`, at);
    if (found === -1) break;
    at = found;
  }
  return text.slice(0, at).split('\n').length;
}

/** Line (from 1) of the first of several texts that a file has; 1 where it has none. */
export function lineOf(text: string, wanted: readonly (string | RegExp)[]): number {
  const lines = text.split('\n');
  for (const one of wanted) {
    const found = lines.findIndex((line) => (typeof one === 'string' ? line.includes(one) : one.test(line)));
    if (found !== -1) return found + 1;
  }
  return 1;
}

/** Where in extension.ts something can be changed that the definition decides: at the first of several texts, after a key where one is named. */
async function inDefinition(dir: string, wanted: readonly (string | RegExp)[], key?: string): Promise<string> {
  const file = join(dir, 'extension.ts');
  // Comments may name the key, too: they are blanked, so that lines stay as they are.
  const text = (await readFile(file, 'utf8').catch(() => '')).replaceAll(/\/\*[^]*?\*\/|(?<=^|\s)\/\/.*$/gm, (comment) =>
    comment.replaceAll(/[^\n]/g, ' '),
  );
  const at = key === undefined ? -1 : text.search(new RegExp(`(?<![\\w.'"-])['"]?${key}['"]?\\s*:`));
  if (at === -1) return `${file}:${lineOf(text, wanted)}`;
  const before = text.slice(0, at).split('\n').length;
  const rest = text.slice(at);
  // Without a wanted text below it, the key itself.
  return `${file}:${before - 1 + lineOf(rest, wanted)}`;
}

/** The first file or link at a path, or of a folder there; undefined where nothing is. */
async function fileAt(path: string): Promise<string | undefined> {
  const about = await lstat(path).catch(() => undefined);
  if (about?.isDirectory() !== true) return about === undefined ? undefined : path;
  return (await walk(path)).find(({ type }) => type !== 'dir')?.full ?? path;
}

/** A file with the line of the first of several texts; of what is no file, or cannot be read, the first line. */
async function lineIn(file: string, words: readonly string[]): Promise<string> {
  const isFile = (await lstat(file)).isFile();
  return `${file}:${isFile ? lineOf(await readFile(file, 'latin1'), words) : 1}`;
}

/**
 * File and line of this repository where a finding can be mended: the shipped file itself where it is one of ours (of a folder the first file in
 * it), else the component's place in the definition, which of a component that several extensions share is its own. What cannot be read is passed over: a finding is shown in any case.
 */
export async function placeOf(
  { rule, path, what }: Pick<Finding, 'rule' | 'path' | 'what'>,
  dir: string,
  components: readonly Pick<PinnedComponent, 'component' | 'dir'>[],
  owners: ReadonlyMap<string, string>,
): Promise<string> {
  const quoted = [...what.matchAll(/'([^']+)'/g)].map(([, text = '']) => text);
  if (rule === 'promise') return inDefinition(dir, [`'${path ?? ''}'`], 'requiredPaths');
  if (rule === 'replaces-nothing') return inDefinition(dir, [`'${path ?? ''}'`], 'replaces');
  if (rule === 'waiver' || rule === 'unused-waiver') return inDefinition(dir, quoted.slice(0, 1), 'waive');
  if (path === undefined) return inDefinition(dir, [/\bdefineExtension\(/]);
  // Programs are often found under names that are quoted, settings as Key=value.
  const setting = /^(\w+=\S*)/.exec(what)?.[1];
  const words = [...quoted, ...(setting === undefined ? [] : [setting])];
  // A folder belongs to nobody: whoever has something in it does.
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
