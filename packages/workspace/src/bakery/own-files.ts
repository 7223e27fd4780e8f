import { lstat, readFile, readlink } from 'node:fs/promises';
import { posix } from 'node:path';
import { walk } from '@flatcar/core/engine';
import { imagePath, type Decision } from './trace.ts';

/** A file or link below `files/` of an imported extension. */
export interface ImportedFile {
  readonly path: string;
  readonly content: Buffer | { readonly link: string };
  readonly isExecutable: boolean;
}

/** What a recipe's `files/` contains. */
export interface ImportedFiles {
  readonly files: readonly ImportedFile[];
  /** Units that start with the image. */
  readonly start: readonly string[];
  readonly decisions: readonly Decision[];
}

/** Bytes of one file, and number of files: more than settings have. */
const MAX_SIZE = 1 << 20;
const MAX_FILES = 1000;

const UNITS = 'usr/lib/systemd/system';
/** Programs that recipes install in folders that images of this project do not have. */
const moved = (text: string): string =>
  text
    .replaceAll(/(?<![\w./-])\/usr\/(?:local\/s?bin|sbin)\//g, '/usr/bin/')
    .replaceAll(/(?<![\w./-])\/usr\/local\/(lib|libexec|share)\//g, '/usr/$1/');

/** Units that a drop-in of a target starts (`Upholds=`, `Wants=`), or that a link in a folder of a target does. */
function startedBy(path: string, text: string | undefined): string[] | undefined {
  const [, folder = '', name = ''] = new RegExp(`^${UNITS}/[^/]+\\.target\\.(d|upholds|wants|requires)/([^/]+)$`).exec(path) ?? [];
  if (folder === '') return undefined;
  if (folder !== 'd') return [name];
  return [...(text ?? '').matchAll(/^(?:Upholds|Wants|Requires)=(.*)$/gm)].flatMap(([, units = '']) => units.trim().split(/\s+/));
}

/**
 * Reads the files of a recipe, with the paths that they have here. Links are not followed; what is neither a small file nor a link is left out
 * and reported.
 */
export async function readOwnFiles(dir: string): Promise<ImportedFiles> {
  const entries = await walk(dir).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  const files: ImportedFile[] = [];
  const start = new Set<string>();
  const decisions: Decision[] = [];
  const leaveOut = (path: string, why: string): void => void decisions.push({ line: 0, what: `files/${path} was left out: ${why}` });
  for (const { path: from, full, type } of entries.slice(0, MAX_FILES)) {
    if (type === 'dir') continue;
    const path = imagePath(from);
    if (type === 'special') leaveOut(from, 'it is not a file, folder or link');
    else if (!/^usr\/[\w@.+:%\\-][\w@.+:%\\/-]*$/.test(path)) leaveOut(from, 'images contain files below usr/ only, with plain names');
    else if (type === 'link') {
      const units = startedBy(path, undefined);
      for (const unit of units ?? []) start.add(unit);
      if (units === undefined) files.push({ path, content: { link: await readlink(full) }, isExecutable: false });
    } else {
      const { size, mode } = await lstat(full);
      if (size > MAX_SIZE) {
        leaveOut(from, `it has ${size} bytes`);
        continue;
      }
      const bytes = await readFile(full);
      const text = bytes.includes(0) ? undefined : bytes.toString('utf8');
      const units = startedBy(path, text);
      for (const unit of units ?? []) start.add(unit);
      if (units !== undefined) continue;
      files.push({ path, content: text === undefined ? bytes : Buffer.from(moved(text)), isExecutable: (mode & 0o111) !== 0 });
      if (from.startsWith('opt/'))
        decisions.push({ line: 0, what: `files/${from} is in ${posix.dirname(path)} here: a merge makes /opt read-only` });
    }
  }
  if (entries.length > MAX_FILES) decisions.push({ line: 0, what: `files/ has more than ${MAX_FILES} entries: the rest was left out` });
  const has = new Set(files.map(({ path }) => path));
  for (const unit of start)
    if (!has.has(`${UNITS}/${unit}`))
      decisions.push({
        line: 0,
        what: `${unit} starts with the image, and is not in files/: add the unit, which upstream's archive may contain`,
      });
  return { files, start: [...start].filter((unit) => has.has(`${UNITS}/${unit}`)), decisions };
}
