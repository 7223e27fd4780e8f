import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { loadExtension, type LoadedExtension } from '@flatcar/core/engine';

const CORE = pathToFileURL(join(import.meta.dirname, '../../../core/src/engine.ts')).href;
/** The only version of an extension of own files. */
export const VERSION = '2026.11.24';

/** Writes an extension with files of its own, by their paths in the image, into `extensions/NAME` of a repository. `components` is code. */
export async function writeOwnFiles(
  repository: string,
  name: string,
  files: Readonly<Record<string, string>> = { [`usr/share/${name}/text`]: `text of ${name}\n` },
  components = '[]',
): Promise<LoadedExtension> {
  const dir = join(repository, 'extensions', name);
  const put = async (path: string, text: string): Promise<void> => {
    await mkdir(dirname(join(dir, path)), { recursive: true });
    await writeFile(join(dir, path), text, { mode: 0o644 });
  };
  const head = `import { defineExtension } from '${CORE}';\n`;
  const definition = `{ name: '${name}', summary: 'a demonstration', versions: { kind: 'date', track: 'newest' }, components: () => ${components} }`;
  await put('extension.ts', `${head}export default defineExtension(${definition});\n`);
  await put('pins.json', JSON.stringify({ [VERSION]: { revision: 0, licenses: {}, bytes: {} } }));
  for (const [path, text] of Object.entries(files)) await put(join('files', path), text);
  return loadExtension(dir);
}
