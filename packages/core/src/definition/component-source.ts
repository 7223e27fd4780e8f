import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** The file of a shared component's definition, and its text. */
export interface ComponentSource {
  readonly file: string;
  readonly text: string;
}

/** Matches the name of a component: the first argument of a builder, or `name:`. */
export const componentName = (name: string): RegExp => new RegExp(`(?:\\b\\w+\\(\\s*|\\bname:\\s*)['"\`]${RegExp.escape(name)}['"\`]`);

/** The source of a shared component: the first TypeScript file with its name in the folder of its lock. Undefined without one. */
export async function componentSource(lock: string, name: string): Promise<ComponentSource | undefined> {
  const files = (await readdir(lock)).filter((one) => one.endsWith('.ts')).toSorted();
  for (const one of files) {
    const file = join(lock, one);
    const text = await readFile(file, 'utf8');
    if (componentName(name).test(text)) return { file, text };
  }
  return undefined;
}
