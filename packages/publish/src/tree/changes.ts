import type { Change, ExtensionIndex } from './schema.ts';

/** Changes that an index lists. */
const MOST = 200;

/** All changes of an extension that are dated, newest first: versions that were published, and those that were withdrawn. */
export function changesOf({ name, versions }: ExtensionIndex): Change[] {
  const changes = versions.flatMap(({ version, published, withdrawn }): Change[] => [
    ...(withdrawn?.date === undefined ? [] : [{ date: withdrawn.date, name, version, withdrawn: withdrawn.reason }]),
    ...(published === undefined ? [] : [{ date: published, name, version }]),
  ]);
  return changes.toSorted((a, b) => (a.date < b.date ? 1 : a.date > b.date ? -1 : 0));
}

/** The latest changes of a tree, from those that its former index lists and from the indexes of extensions that changed. */
export function latestChanges(before: readonly Change[], changed: Iterable<ExtensionIndex>): Change[] {
  const extensions = [...changed];
  const names = new Set(extensions.map(({ name }) => name));
  return [...before.filter(({ name }) => !names.has(name)), ...extensions.flatMap(changesOf)]
    .toSorted((a, b) => (a.date === b.date ? (a.name < b.name ? -1 : a.name > b.name ? 1 : 0) : a.date < b.date ? 1 : -1))
    .slice(0, MOST);
}
