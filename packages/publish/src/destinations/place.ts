import { UsageError } from '@flatcar/core/engine';

/** A place of a tree: a folder, a web server, a bucket or a registry. */
export interface Place {
  readonly kind: 'folder' | 'http' | 's3' | 'oci';
  /** The place as it was specified. */
  readonly where: string;
}

const FORMS = 'a folder (./name where it contains a colon), https://host/path, s3://bucket/prefix or oci://registry/repository';
const BUCKET = /^s3:\/\/[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](?:\/[^\s?#]*)?$/;

/**
 * Reads the place of a tree. Errors name `flag`. Refuses everything but the known forms: `ftp://x`, `S3://bucket`, `C:\tree` and an empty word
 * would otherwise become folders.
 */
export function parsePlace(word: string, flag: string): Place {
  const refuse = (what: string, next = `name ${FORMS}`): never => {
    throw new UsageError(what, { where: flag, next });
  };
  if (word.trim() === '')
    refuse('no place is named: the value is empty', `${flag} takes ${FORMS}; in a workflow, set the variable that it is made of`);
  // oxlint-disable-next-line no-control-regex
  if (/[\u0000-\u001f\u007f]/.test(word) || word !== word.trim()) refuse(`'${word.trim()}' contains blanks or control characters`);
  if (word.startsWith('-')) refuse(`'${word}' is an option, not a place`, `give ${flag} a value; a folder of this name is ./${word}`);
  if (word === '~' || word.startsWith('~/'))
    refuse(`'${word}' was not expanded by the shell`, 'write $HOME instead of ~, or the whole path');
  const [, scheme = ''] = /^([^/\\.][^/\\]*?):/.exec(word) ?? [];
  if (scheme === '' && !/^[^/.][^/]*\\|^\\/.test(word)) return { kind: 'folder', where: word };
  if (scheme === 'http' || scheme === 'https') {
    const url = URL.canParse(word) ? new URL(word) : undefined;
    if (!/^https?:\/\/[^/]/.test(word) || url === undefined) return refuse(`'${word}' is not a valid http(s) URL`);
    if (url.search !== '' || url.hash !== '')
      refuse(`'${word}' has a query or a fragment, and paths are appended to it`, 'give the URL of the tree without it');
    return { kind: 'http', where: word };
  }
  if (scheme === 's3') {
    if (!BUCKET.test(word) || /\/(?:\.{1,2}|)\/|\/\.{1,2}$/.test(word.slice(5)))
      refuse(`'${word}' is not a valid bucket`, 'write s3://bucket or s3://bucket/prefix, with the name of the bucket in lowercase');
    return { kind: 's3', where: word };
  }
  if (scheme === 'oci') {
    if (!/^oci:\/\/[^/\s]+\/[^\s]+$/.test(word))
      refuse(`'${word}' is not a valid repository`, 'write oci://registry.example.org/flatcar/extensions');
    return { kind: 'oci', where: word };
  }
  return refuse(`'${word}' is not a known kind of place`);
}

/** Reads a place that must be a file or folder of this machine. */
export function localPath(word: string, flag: string, next = 'copy the tree to a folder first: flatcar-ext mirror'): string {
  const { kind, where } = parsePlace(word, flag);
  if (kind !== 'folder')
    throw new UsageError(`'${where}' is not read here: only files and folders of this machine are`, { where: flag, next });
  return where;
}
