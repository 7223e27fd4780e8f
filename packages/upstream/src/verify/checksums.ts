import { UserError } from '@flatcar/core/engine';

/** What a checksum file says about one file. */
export interface Published {
  readonly algorithm: 'sha256' | 'sha512';
  /** Lowercase hex. */
  readonly hash: string;
  /** `file`: a bare hash; `list`: found by name. */
  readonly form: 'file' | 'list';
}

const HASH = '[0-9a-fA-F]{128}|[0-9a-fA-F]{64}';
/** sha256sum(1): hash, blank, blank or `*`, name. Names with line ends, which it writes otherwise, are passed over. */
const GNU = new RegExp(`^(${HASH})[ \\t]+\\*?(\\S.*)$`);
/** shasum --tag and the BSDs. */
const BSD = new RegExp(`^SHA(?:256|512) ?\\((.+)\\) ?= ?(${HASH})$`);

const algorithmOf = (hash: string): Published['algorithm'] => (hash.length === 64 ? 'sha256' : 'sha512');

/** Reads a checksum file of any usual form: a bare hash, `hash  file`, `hash *file`, `SHA256 (file) = hash`. Other lines are passed over. */
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
 * What a checksum file says about a file: by its whole name, or by the last part of a path that no other entry ends in.
 * Throws when it says nothing, or says it twice: then nobody knows which entry is meant.
 */
export function checksumOf(text: string, file: string, where: string): Published {
  const entries = readChecksums(text);
  const [only] = entries;
  if (only === undefined)
    throw new UserError('this is no list of sha256 or sha512 checksums', { where, next: 'correct `checksum` in the definition' });
  if (only.file === undefined) return { algorithm: algorithmOf(only.hash), hash: only.hash, form: 'file' };
  const exact = entries.filter((entry) => entry.file === file);
  const found = exact.length > 0 ? exact : entries.filter((entry) => entry.file?.split('/').at(-1) === file);
  const [first, second] = found;
  if (first === undefined) {
    const names = entries.slice(0, 10).map((entry) => entry.file);
    throw new UserError(`the list of checksums has no entry for ${file}`, { where, next: `it has ${names.join(', ')}` });
  }
  if (second !== undefined) {
    throw new UserError(`the list of checksums has ${found.length} entries for ${file}`, {
      where,
      next: 'nobody knows which one is meant: ask upstream',
    });
  }
  return { algorithm: algorithmOf(first.hash), hash: first.hash, form: 'list' };
}
