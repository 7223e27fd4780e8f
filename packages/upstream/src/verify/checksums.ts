import { basename } from 'node:path';
import { UserError } from '@flatcar/core/engine';

/** The checksum of one file, as a checksum file has it. */
export interface PublishedChecksum {
  readonly algorithm: 'sha256' | 'sha512';
  /** Lowercase hex. */
  readonly hash: string;
  /** `file`: the only hash in the file; `list`: listed by name. */
  readonly form: 'file' | 'list';
}

const HASH = '[0-9a-fA-F]{128}|[0-9a-fA-F]{64}';
/** sha256sum(1): hash, blank, blank or `*`, name. Escaped names (with line breaks) are ignored. */
const GNU = new RegExp(`^(${HASH})[ \\t]+\\*?(\\S.*)$`);
/** The format of shasum --tag and the BSDs. */
const BSD = new RegExp(`^SHA(?:256|512) ?\\((.+)\\) ?= ?(${HASH})$`);

const algorithmOf = (hash: string): PublishedChecksum['algorithm'] => (hash.length === 64 ? 'sha256' : 'sha512');

/** Reads a checksum file of any usual form: a bare hash, `hash  file`, `hash *file`, `SHA256 (file) = hash`. Ignores other lines. */
export function readChecksums(text: string): { hash: string; file?: string }[] {
  const lines = text
    .replace(/^\uFEFF/, '')
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
  const [only = ''] = lines;
  if (lines.length === 1 && new RegExp(`^(?:${HASH})$`).test(only)) return [{ hash: only.toLowerCase() }];
  return lines.flatMap((line) => {
    const bsd = BSD.exec(line);
    const [hash, file] = bsd === null ? (GNU.exec(line)?.slice(1) ?? []) : [bsd[2], bsd[1]];
    return hash === undefined || file === undefined ? [] : [{ hash: hash.toLowerCase(), file: file.replace(/^\.\//, '') }];
  });
}

/**
 * The checksum of a file in a checksum file: the entry with its whole name, else the only entry whose path ends in it.
 * Throws a UserError if there is no such entry, or more than one.
 */
export function checksumOf(text: string, file: string, where: string): PublishedChecksum {
  const entries = readChecksums(text);
  const [only] = entries;
  if (only === undefined)
    throw new UserError('not a list of sha256 or sha512 checksums', { where, next: 'correct `checksum` in the definition' });
  if (only.file === undefined) return { algorithm: algorithmOf(only.hash), hash: only.hash, form: 'file' };
  const exact = entries.filter((entry) => entry.file === file);
  const found = exact.length > 0 ? exact : entries.filter((entry) => basename(entry.file ?? '') === file);
  const [first, second] = found;
  if (first === undefined) {
    const names = entries.slice(0, 10).map((entry) => entry.file);
    throw new UserError(`the list of checksums has no entry for ${file}`, {
      where,
      next: `correct \`checksum\` in the definition; the list has ${names.join(', ')}`,
    });
  }
  if (second !== undefined) {
    throw new UserError(`the list of checksums has ${found.length} entries for ${file}`, {
      where,
      next: 'report it to upstream: the right entry cannot be determined',
    });
  }
  return { algorithm: algorithmOf(first.hash), hash: first.hash, form: 'list' };
}
