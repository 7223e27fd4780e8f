import { UsageError } from '../util/errors.ts';

/** A reference to an extension: `kubernetes`, `kubernetes@1.36` (a branch) or `kubernetes@1.36.4`. */
export interface ExtensionRef {
  readonly name: string;
  /** A version, the beginning of one, or `latest`. */
  readonly version?: string;
}

/** The word for the newest version of all branches. */
export const LATEST = 'latest';

/** Reads `NAME` or `NAME@VERSION`. Throws a UsageError for anything else. */
export function parseRef(word: string): ExtensionRef {
  const [, name, version] = /^([a-z][a-z0-9]*(?:-[a-z0-9]+)*)(?:@(latest|[0-9][0-9A-Za-z.+~^-]*))?$/.exec(word) ?? [];
  if (name === undefined)
    throw new UsageError(`'${word}' is not NAME or NAME@VERSION`, {
      next: 'write for example kubernetes, kubernetes@1.36 or kubernetes@1.36.4; versions have no leading v',
    });
  return { name, version };
}

/**
 * The versions that a word selects, in the given order: exactly that version if it exists, else those of the branch `1.36`. Without a word, and for `latest`, all.
 */
export function matchingVersions(versions: readonly string[], word: string | undefined): readonly string[] {
  if (word === undefined || word === LATEST) return versions;
  return versions.includes(word) ? [word] : versions.filter((one) => one.startsWith(`${word}.`));
}
