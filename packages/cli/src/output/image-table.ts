import { relative } from 'node:path';
import type { Image } from '@flatcar/core/engine';
import { REPOSITORY } from '@flatcar/workspace/select';
import { formatBytes } from '@flatcar/core/engine';
import { table } from './terminal.ts';

/** Images as a table; a file of this repository is listed by its path in it. */
export function imageTable(images: readonly Image[]): string {
  const rows = images.map(({ extension, version, target, arch, format, size, file }) => [
    extension,
    version,
    target,
    arch,
    format,
    formatBytes(size),
    file.startsWith(`${REPOSITORY}/`) ? relative(REPOSITORY, file) : file,
  ]);
  return table([['extension', 'version', 'target', 'arch', 'format', 'size', 'file'], ...rows]);
}
