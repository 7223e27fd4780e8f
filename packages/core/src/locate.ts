import { access, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { PinnedComponent } from './extension.ts';
import type { Finding } from './types.ts';

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

/** Where in extension.ts something can be changed that the definition decides. */
async function inDefinition(dir: string, wanted: readonly (string | RegExp)[]): Promise<string> {
  const file = join(dir, 'extension.ts');
  return `${file}:${lineOf(await readFile(file, 'utf8'), wanted)}`;
}

/**
 * File and line of this repository where a finding can be mended: the shipped file itself where it is one of ours, else the component's
 * place in the definition.
 */
export async function placeOf(
  { rule, path, what }: Pick<Finding, 'rule' | 'path' | 'what'>,
  dir: string,
  components: readonly Pick<PinnedComponent, 'component' | 'dir'>[],
  owners: ReadonlyMap<string, string>,
): Promise<string> {
  if (rule === 'promise') return inDefinition(dir, [/^\s*promises:/]);
  if (rule === 'replaces-nothing') return inDefinition(dir, [/^\s*replaces:/]);
  if (path === undefined) return inDefinition(dir, [`'${rule}'`, /^\s*waive:/, /\bdefineExtension\(/]);
  // Programs are often found under names that are quoted, settings as Key=value.
  const quoted = [...what.matchAll(/'([^']+)'/g)].map(([, text = '']) => text);
  const setting = /^(\w+=\S*)/.exec(what)?.[1];
  const words = [...quoted, ...(setting === undefined ? [] : [setting])];
  for (const one of components.filter(({ component }) => component.name === (owners.get(path) ?? component.name))) {
    for (const origin of one.component.origins) {
      if (origin.kind !== 'files') continue;
      const file = join(one.dir, origin.dir, path);
      const isThere = await access(file).then(
        () => true,
        () => false,
      );
      if (isThere) return `${file}:${lineOf(await readFile(file, 'latin1'), words)}`;
    }
  }
  const owner = owners.get(path);
  return inDefinition(dir, [...(owner === undefined ? [] : [`'${owner}'`]), /^\s*start:/, /\bcomponents:/]);
}
