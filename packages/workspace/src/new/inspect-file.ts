import { readFile } from 'node:fs/promises';
import { ARCHES, archiveKind, archWords, readElf, unpack, UserError, walk, type Arch } from '@flatcar/core/engine';
import type { UpstreamContext } from '@flatcar/upstream';
import { isLicenseFile, recognizeLicense } from './license-text.ts';

/** The content of an upstream file for one architecture. */
export interface Layout {
  /** Programs by name. */
  readonly programs: readonly string[];
  /** Those that need libraries of the host. */
  readonly dynamic: readonly string[];
  readonly license?: string | undefined;
}

/** Unpacks an upstream file and finds the programs for an architecture; a file that is one program is called `name`. */
export async function inspectFile(path: string, fileName: string, name: string, arch: Arch, context: UpstreamContext): Promise<Layout> {
  return context.store.withTemp(async (temp) => {
    const isRaw = archiveKind(fileName).archive === 'raw';
    await unpack(path, fileName, temp, { decompressor: (kind) => context.tools.command(kind), single: isRaw ? name : undefined });
    const files = (await walk(temp)).filter(({ type }) => type === 'file');
    const programs: string[] = [];
    const dynamic: string[] = [];
    for (const entry of files) {
      const elf = await readElf(entry.full).catch(() => undefined);
      if (elf === undefined || elf.machine !== archWords(arch).elf || /\.so(?:\.|$)/.test(entry.name)) continue;
      if (programs.includes(entry.name)) continue;
      programs.push(entry.name);
      if (elf.interpreter !== undefined) dynamic.push(entry.name);
    }
    if (programs.length === 0) {
      const names = files.map((one) => one.name).slice(0, 10);
      throw new UserError(`the file has no program for ${arch}`, {
        where: fileName,
        next: `check whether it is for ${ARCHES.find((one) => one !== arch)}; it contains ${names.join(', ') || 'nothing'}`,
      });
    }
    const text = files.find((entry) => isLicenseFile(entry.name));
    const license = text === undefined ? undefined : recognizeLicense(await readFile(text.full, 'utf8'));
    return { programs: programs.toSorted(), dynamic, license };
  });
}
