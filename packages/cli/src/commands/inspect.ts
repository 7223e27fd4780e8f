import { join } from 'node:path';
import { type ImageEntry, inLine } from '@flatcar/core/engine';
import type { Command } from 'commander';
import { addHelp } from '../help.ts';
import { jsonOption } from '../options.ts';
import { imageFormat, readImageFile } from '@flatcar/workspace/image-file';
import { formatBytes, show, table } from '../output/terminal.ts';

interface Inspected {
  readonly file: string;
  readonly format: string;
  readonly releaseFile: Record<string, string>;
  readonly components: readonly { name: string; version: string; license: string; origin: string }[];
  readonly entries: readonly ImageEntry[];
  readonly programs: readonly { path: string; linkage: string; needed: readonly string[]; glibc?: string }[];
}

/** `inspect`: what is in an image. */
export function addInspect(root: Command): void {
  const command = root
    .command('inspect')
    .summary('show what an image contains and needs')
    .description('show the metadata of an image, its components, files, and what its programs link to')
    .argument('<image>', 'a .raw file with its manifest')
    .addOption(jsonOption())
    .action(async (file: string, flags: { json?: boolean }) => {
      const { openStore, openTools, readContent, readElf, readReleaseFile, unpackImage } = await import('@flatcar/core/engine');
      const format = await imageFormat(file);
      const { manifest } = await readImageFile(file);
      const store = openStore();
      const tools = openTools(store);
      const { entries } = await readContent(file, format, manifest.architecture);
      const value = await store.withTemp(async (temp): Promise<Inspected> => {
        const dir = join(temp, 'content');
        await unpackImage(tools, file, format, manifest.architecture, dir);
        const programs: Inspected['programs'][number][] = [];
        for (const { path, type } of entries) {
          const elf = type === 'file' ? await readElf(join(dir, path)) : undefined;
          if (elf === undefined) continue;
          programs.push({
            path,
            linkage: elf.needed.length === 0 && elf.interpreter === undefined ? 'static' : 'dynamic',
            needed: elf.needed,
            ...(elf.glibc === undefined ? {} : { glibc: elf.glibc }),
          });
        }
        return {
          file,
          format,
          releaseFile: await readReleaseFile(dir, manifest.name, manifest.kind, file),
          components: manifest.components,
          entries,
          programs,
        };
      });
      show(value, flags.json, (one) => {
        const linkage = new Map(
          one.programs.map(({ path, linkage: how, glibc }) => [path, glibc === undefined ? how : `${how}, GLIBC_${glibc}`]),
        );
        return [
          `${inLine(`${manifest.name} ${manifest.version}`)} for ${manifest.target}, ${manifest.architecture}, ${one.format}, ${formatBytes(manifest.size)}`,
          '',
          ...Object.entries(one.releaseFile).map(([key, text]) => inLine(`${key}=${text}`)),
          '',
          table([
            ['component', 'version', 'origin', 'licence'],
            ...one.components.map(({ name, version, origin, license }) => [name, version, origin, license]),
          ]),
          '',
          table([
            ['mode', 'size', 'path', 'linkage'],
            ...one.entries
              .filter(({ type }) => type !== 'dir')
              .map(({ path, mode, size, link }) => [
                mode.toString(8),
                formatBytes(size),
                link === undefined ? path : `${path} -> ${link}`,
                linkage.get(path) ?? '',
              ]),
          ]),
        ].join('\n');
      });
    });
  addHelp(command, {
    examples: [
      'flatcar-ext inspect extensions/kubernetes/dist/portable/*.raw',
      'flatcar-ext inspect extensions/kubernetes/dist/portable/*.raw --json',
    ],
  });
}
