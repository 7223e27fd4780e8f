import { inLine } from '@flatcar/core/engine';
import type { Command } from 'commander';
import { addHelp } from '../help.ts';
import { jsonOption, type JsonFlag } from '../options.ts';
import type { InspectedImage } from '@flatcar/workspace/inspect-image';
import { formatBytes } from '@flatcar/core/engine';
import { show, table } from '../output/terminal.ts';

/** What a person reads of an image. */
function text(image: InspectedImage): string {
  const linkage = new Map(
    image.programs.map(({ path, linkage: how, glibc }) => [path, glibc === undefined ? how : `${how}, GLIBC_${glibc}`]),
  );
  return [
    `${inLine(`${image.name} ${image.version}`)} for ${image.target}, ${image.architecture}, ${image.format}, ${formatBytes(image.size)}`,
    '',
    ...Object.entries(image.releaseFile).map(([key, text]) => inLine(`${key}=${text}`)),
    '',
    table([
      ['component', 'version', 'origin', 'license'],
      ...image.components.map(({ name, version, origin, license }) => [name, version, origin, license]),
    ]),
    '',
    table([
      ['mode', 'size', 'path', 'linkage'],
      ...image.entries
        .filter(({ type }) => type !== 'dir')
        .map(({ path, mode, size, link }) => [
          mode.toString(8),
          formatBytes(size),
          link === undefined ? path : `${path} -> ${link}`,
          linkage.get(path) ?? '',
        ]),
    ]),
  ].join('\n');
}

/** `inspect`: what is in an image. */
export function addInspect(root: Command): void {
  const command = root
    .command('inspect')
    .summary('show what an image contains and needs')
    .description('show the metadata of an image, its components, files, and what its programs link to')
    .argument('<image>', 'a .raw file with its manifest')
    .addOption(jsonOption())
    .action(async (file: string, flags: JsonFlag) => {
      const { inspectImage } = await import('@flatcar/workspace/inspect-image');
      show(await inspectImage(file), flags.json, text);
    });
  addHelp(command, {
    examples: [
      'flatcar-ext inspect extensions/kubernetes/dist/portable/*.raw',
      'flatcar-ext inspect extensions/kubernetes/dist/portable/*.raw --json',
    ],
  });
}
