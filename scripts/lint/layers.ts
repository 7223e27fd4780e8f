// Checks the layers of packages: a folder of `src` imports folders of lower layers only, and no files import each other in a circle.
import { glob, readFile } from 'node:fs/promises';
import { dirname, join, relative, resolve } from 'node:path';

/** Folders of a package's `src`, lowest layer first. `.` are the files of `src` itself, except for the entry points. */
export const LAYERS: Readonly<Record<string, readonly (readonly string[])[]>> = {
  cli: [['.'], ['completion', 'output'], ['commands']],
  core: [
    ['util'],
    ['model', 'http', 'archives'],
    ['definition', 'store', 'inspect'],
    ['debian'],
    ['tools'],
    ['image'],
    ['origins', 'lint', 'sidecars'],
    ['pipeline'],
  ],
  publish: [['metadata'], ['keys'], ['tree'], ['destinations'], ['formats', 'deltas'], ['node', 'publish']],
  testing: [['.', 'github'], ['server'], ['merge'], ['machine'], ['extension']],
  upstream: [['.'], ['sources'], ['verify'], ['pin'], ['update']],
  workspace: [['.'], ['ci', 'new', 'published'], ['bakery']],
};
/** Files of `src` that may import everything in their package. */
const ENTRY_POINTS = new Set(['index.ts', 'engine.ts', 'browser.ts', 'program.ts', 'run.ts', 'main.ts']);

/** Imports of files in the same package, by the path below `src` of each file. */
type Imports = ReadonlyMap<string, readonly string[]>;

export async function importsOf(src: string): Promise<Imports> {
  const files = (await Array.fromAsync(glob('**/*.ts', { cwd: src }))).toSorted();
  return new Map(
    await Promise.all(
      files.map(async (file) => {
        const text = await readFile(join(src, file), 'utf8');
        const paths = [...text.matchAll(/\b(?:from|import\() ?'(\.[^']+)'/g)].map(([, path = '']) => path);
        return [file, paths.map((path) => relative(src, resolve(src, dirname(file), path)))] as const;
      }),
    ),
  );
}

const folderOf = (file: string): string => (file.includes('/') ? (file.split('/')[0] ?? '') : '.');

/** Imports that do not lead to a lower layer, and folders that are in no layer. */
export function layerErrors(name: string, layers: readonly (readonly string[])[], imports: Imports): string[] {
  const layerOf = (folder: string): number => layers.findIndex((layer) => layer.includes(folder));
  const errors: string[] = [];
  for (const [file, targets] of imports) {
    const folder = folderOf(file);
    if (ENTRY_POINTS.has(file)) continue;
    if (layerOf(folder) === -1) {
      errors.push(`packages/${name}/src/${file}: the folder '${folder}' is not in a layer`);
      continue;
    }
    for (const target of targets) {
      const to = folderOf(target);
      if (ENTRY_POINTS.has(target)) errors.push(`packages/${name}/src/${file}: imports the entry point ${target}`);
      else if (to !== folder && layerOf(to) !== -1 && layerOf(to) >= layerOf(folder))
        errors.push(`packages/${name}/src/${file}: '${folder}' must not import ${target}: '${to}' is not in a lower layer`);
    }
  }
  return errors;
}

/** Files that import each other in a circle; types count as well. */
export function circles(name: string, imports: Imports): string[] {
  const errors: string[] = [];
  const done = new Set<string>();
  const visit = (file: string, path: readonly string[]): void => {
    const start = path.indexOf(file);
    if (start !== -1) errors.push(`packages/${name}/src/${file}: imports itself by ${[...path.slice(start + 1), file].join(' → ')}`);
    if (start !== -1 || done.has(file)) return;
    for (const target of imports.get(file) ?? []) visit(target, [...path, file]);
    done.add(file);
  };
  for (const file of imports.keys()) visit(file, []);
  return errors;
}

if (import.meta.main) {
  const packages = resolve(import.meta.dirname, '../../packages');
  const errors: string[] = [];
  for (const [name, layers] of Object.entries(LAYERS)) {
    const imports = await importsOf(join(packages, name, 'src'));
    errors.push(...layerErrors(name, layers, imports), ...circles(name, imports));
  }
  console.log(errors.length === 0 ? `layers of ${Object.keys(LAYERS).join(', ')}: nothing found` : errors.join('\n'));
  if (errors.length > 0) process.exitCode = 1;
}
