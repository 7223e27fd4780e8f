import { chmod, copyFile, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { hasOverlappingSegments } from '../../inspect/elf.ts';
import { hostPathsOf, LOADER_FILES, loaderFolders, pathConstant } from '../../inspect/loader.ts';
import { archWords, type Arch } from '../../model/arch.ts';
import type { Tools } from '../../tools/tools.ts';
import { UserError } from '../../util/errors.ts';
import { makeFolder } from '../../util/files.ts';
import { mapParallel } from '../../util/parallel.ts';
import type { ChosenFile } from './choose.ts';
import { padded, pathEdits, type Edit } from './runtime-files.ts';

// How a program from a distribution's packages runs on any host:
// - a folder of the component contains its libraries and their dependencies, the C library and its loader included;
// - the program starts by that loader (PT_INTERP), and every ELF file names the folder (DT_RUNPATH, which is not inherited);
// - compiled-in paths below the distribution's folder of libraries (gconv, plugins) lead to that folder;
// - the loader does not read the host's ld.so.cache and ld.so.preload, and searches no folder of the host.

/** True for the end of a file name: the end of the file, or a byte that file names do not contain. */
const endsName = (byte: number | undefined): boolean => byte === undefined || !/[\w.+-]/.test(String.fromCharCode(byte));

/** Replaces all occurrences in place, by as many bytes. */
function replaceAll(bytes: Buffer, { from, to, whole = false }: Edit): void {
  const [old, fresh] = [Buffer.from(from, 'latin1'), Buffer.from(to, 'latin1')];
  if (old.length !== fresh.length) throw new Error(`'${to}' is not as long as '${from}'`);
  for (let at = bytes.indexOf(old); at !== -1; at = bytes.indexOf(old, at + old.length))
    if (!whole || endsName(bytes[at + old.length])) fresh.copy(bytes, at);
}

/** A path as long as this one, which no host has: `/___/__`. */
const blankPath = (path: string): string => path.replaceAll(/[^/]/g, '_');

/** Keeps a loader from reading files of the host: one of the folders that it searches becomes the component's, the others paths that no host has. */
function editLoader(bytes: Buffer, name: string, arch: Arch): void {
  const { triplet } = archWords(arch);
  const [own = '', ...others] = loaderFolders(triplet);
  const found = hostPathsOf(bytes, arch);
  if (!found.includes(own) || !LOADER_FILES.every((path) => found.includes(path)))
    throw new UserError('the loader of this C library does not contain the expected paths', {
      next: 'compare elf/dl-load.c of its glibc with relocate.ts, and correct relocate.ts',
    });
  replaceAll(bytes, { from: pathConstant(own), to: pathConstant(padded(`/usr/lib/${name}`, own.length)) });
  for (const path of [...LOADER_FILES, ...others]) replaceAll(bytes, { from: pathConstant(path), to: pathConstant(blankPath(path)) });
}

/** Sets the folders of an ELF file's libraries and, for programs, the loader. */
async function setPaths(file: string, interpreter: string | undefined, runpath: readonly string[], tools: Tools): Promise<void> {
  const loaderOptions = interpreter === undefined ? [] : ['--set-interpreter', interpreter];
  const pathOptions = ['--set-rpath', runpath.join(':')];
  const before = await readFile(file);
  await tools.run('patchelf', [...loaderOptions, ...pathOptions, file]);
  if (!(await hasOverlappingSegments(file))) return;
  // In a program at a fixed address (ET_EXEC, such as Python) patchelf moves sections in front of the first segment, and counts too few
  // pages for two edits at once: one edit after the other works, the larger first.
  await writeFile(file, before);
  await tools.run('patchelf', [...pathOptions, file]);
  await tools.run('patchelf', [...loaderOptions, file]);
  if (await hasOverlappingSegments(file))
    throw new UserError(`'${basename(file)}' cannot be relocated: its segments overlap after patchelf`, {
      next: 'exclude it, or compile it as a position-independent program',
    });
}

/** Writes chosen files into a folder, relocated. `name` is the component's; the same files give the same bytes. */
export async function writeRelocated(files: readonly ChosenFile[], dest: string, name: string, arch: Arch, tools: Tools): Promise<void> {
  const { loader } = archWords(arch);
  const folder = `/usr/lib/${name}`;
  const edits = pathEdits(
    name,
    arch,
    files.map(({ to }) => to),
  );
  await mapParallel(
    files,
    async ({ to, from, link, asIs, elf, loader: isLoader }) => {
      const target = join(dest, to);
      await makeFolder(dirname(target));
      if (link !== undefined) return symlink(link, target);
      if (from === undefined) throw new Error(`${to} has no source`);
      const mode = ((await stat(from)).mode & 0o111) === 0 ? 0o644 : 0o755;
      if (asIs === true) {
        await copyFile(from, target);
        return chmod(target, mode);
      }
      const bytes = await readFile(from);
      if (isLoader === true) editLoader(bytes, name, arch);
      else for (const edit of edits) replaceAll(bytes, edit);
      await writeFile(target, bytes);
      await chmod(target, isLoader === true ? 0o755 : mode);
      if (elf === undefined) return;
      await setPaths(target, elf.interpreter ? `${folder}/${basename(loader)}` : undefined, elf.runpath, tools);
    },
    4,
  );
}
