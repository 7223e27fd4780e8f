import { access, glob, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

/** The file of a shared component's definition, and its text. */
export interface ComponentSource {
  readonly file: string;
  readonly text: string;
}

/** The package of a folder: the nearest folder above it with a package.json. */
async function packageOf(folder: string): Promise<string | undefined> {
  for (let at = folder; at !== dirname(at); at = dirname(at)) {
    const isPackage = await access(join(at, 'package.json')).then(
      () => true,
      () => false,
    );
    if (isPackage) return at;
  }
  return undefined;
}

/** Matches the name of a component: the first argument of a builder, or `name:`. */
export const componentName = (name: string): RegExp => new RegExp(`(?:\\b\\w+\\(\\s*|\\bname:\\s*)['"\`]${RegExp.escape(name)}['"\`]`);

/**
 * The source of a component that several extensions share: in the package that its lock is in, the first file below src/ that gives a component
 * its name. Undefined where there is none.
 */
export async function componentSource(lock: string, name: string): Promise<ComponentSource | undefined> {
  const root = await packageOf(lock);
  if (root === undefined) return undefined;
  const files = (await Array.fromAsync(glob('src/**/*.ts', { cwd: root }))).toSorted();
  for (const one of files) {
    const file = join(root, one);
    const text = await readFile(file, 'utf8');
    if (componentName(name).test(text)) return { file, text };
  }
  return undefined;
}
