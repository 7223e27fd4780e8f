import type { Difference } from '@flatcar/core/engine';
import { formatBytes } from '@flatcar/core/engine';
import { table } from './terminal.ts';

/** A difference for people. */
export function differenceText({ versions, files, requirements: needs, size }: Difference): string {
  return [
    ...(versions.length === 0
      ? []
      : [table([['component', 'before', 'after'], ...versions.map((one) => [one.component, one.before, one.after])]), '']),
    files.length === 0
      ? 'the files are the same'
      : table([
          ['', 'path', 'before', 'after'],
          ...files.map((one) => [one.what, one.path, formatBytes(one.before), formatBytes(one.after)]),
        ]),
    ...(needs.length === 0
      ? []
      : ['', table([['requirement', 'before', 'after'], ...needs.map((one) => [one.what, one.before, one.after])])]),
    '',
    `image: ${formatBytes(size.before)} before, ${formatBytes(size.after)} after`,
  ].join('\n');
}
