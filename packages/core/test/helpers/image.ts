import { chmod, cp, lstat, mkdir, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { releaseFilePath } from '../../src/model/names.ts';
import { releaseFileBlock } from '../../src/image/release-file.ts';
import type { Tools } from '../../src/tools/tools.ts';
import type { Arch } from '../../src/model/arch.ts';
import type { Target } from '../../src/model/target.ts';

/** What a test image holds, as a whole or beside the usual. */
export interface ImageContent {
  /** Path to text, or to a file to copy. */
  readonly files?: Readonly<Record<string, string | { copy: string }>>;
  readonly modes?: Readonly<Record<string, number>>;
  readonly links?: Readonly<Record<string, string>>;
  /** Pseudo file definitions of mksquashfs: devices, owners and attributes, without root. */
  readonly pseudo?: readonly string[];
  /** Text of the release file instead of the right one; null for none. */
  readonly releaseFile?: string | null;
  /** False leaves its attribute away. */
  readonly strict?: boolean;
}

/** Makes a real squashfs image by the pinned mksquashfs, as wrong as it is asked for. */
export async function makeImage(
  tools: Tools,
  dir: string,
  content: ImageContent,
  about: { name: string; kind?: 'sysext' | 'confext'; arch: Arch; target: Target } = { name: 'demo', arch: 'x86-64', target: 'portable' },
): Promise<string> {
  const tree = join(dir, 'tree');
  await rm(tree, { recursive: true, force: true });
  await mkdir(tree, { recursive: true });
  const put = async (path: string, what: string | Buffer | { copy: string }): Promise<void> => {
    await mkdir(dirname(join(tree, path)), { recursive: true });
    if (typeof what === 'string' || Buffer.isBuffer(what)) await writeFile(join(tree, path), what);
    else await cp(what.copy, join(tree, path));
  };
  for (const [path, what] of Object.entries(content.files ?? { 'usr/share/demo/file': 'text' })) await put(path, what);
  for (const [path, target] of Object.entries(content.links ?? {})) {
    await mkdir(dirname(join(tree, path)), { recursive: true });
    await symlink(target, join(tree, path));
  }
  const { kind = 'sysext' } = about;
  const releaseFile = releaseFilePath(about.name, kind);
  const block = releaseFileBlock({
    name: about.name,
    kind,
    version: '1.0',
    arch: about.arch,
    target: about.target,
    reload: false,
  });
  if (content.releaseFile !== null) await put(releaseFile, content.releaseFile?.padEnd(4096, '\n') ?? block);
  for (const [path, mode] of Object.entries(content.modes ?? {})) await chmod(join(tree, path), mode);
  const out = join(dir, 'image.raw');
  await rm(out, { force: true });
  const strict = content.strict !== false && content.releaseFile !== null ? [`${releaseFile} x user.extension-release.strict=false`] : [];
  // -all-root goes before every definition of an owner; where there is one, all else is given to root by definitions, too.
  const modified = new Set((content.pseudo ?? []).filter((line) => / [mM] /.test(line)).map((line) => line.split(' ')[0]));
  const rest = modified.size === 0 ? [] : (await readdir(tree, { recursive: true })).filter((path) => !modified.has(path));
  const owners = await Promise.all(
    rest.map(async (path) => `${path} m ${((await lstat(join(tree, path))).mode & 0o7777).toString(8)} root root`),
  );
  const pseudo = [...strict, ...owners, ...(content.pseudo ?? [])].flatMap((line) => ['-p', line]);
  await tools.run('mksquashfs', [
    tree,
    out,
    '-noappend',
    '-no-progress',
    '-quiet',
    '-all-time',
    '0',
    '-comp',
    'zstd',
    '-Xcompression-level',
    '1',
    ...(modified.size > 0 ? [] : ['-all-root']),
    ...pseudo,
  ]);
  return out;
}
