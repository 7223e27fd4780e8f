import { open, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import locks from 'fs-native-extensions';
import { makeFolder } from '../util/files.ts';
import { UserError } from '../util/errors.ts';
import { releaseFilePath } from '../model/names.ts';
import type { ReleaseFileFields } from '../model/image.ts';

/** Size of the release file in every image, in bytes: one block, so that binding rewrites nothing else. */
export const RELEASE_FILE_SIZE = 4096;

/**
 * The only extended attribute in an image: without it an image whose file name differs from its release file fails to merge with
 * "No medium found", and all other extensions fail with it (systemd-sysext(8)).
 */
export const STRICT_XATTR = 'user.extension-release.strict';

/** The text of a release file (extension-release of os-release(5), UAPI.4): one `KEY=value` a line. */
export function releaseFileText({ name, version, arch, target, reload, kind }: ReleaseFileFields): string {
  const prefix = kind === 'sysext' ? 'SYSEXT' : 'CONFEXT';
  return [
    // Never SYSEXT_LEVEL: it overrides VERSION_ID, and Flatcar's own os-release has SYSEXT_LEVEL=1.0.
    ...(target === 'portable' ? ['ID=_any'] : ['ID=flatcar', `VERSION_ID=${target.number}`]),
    `ARCHITECTURE=${arch}`,
    `${prefix}_ID=${name}`,
    `${prefix}_VERSION_ID=${version}`,
    ...(reload ? ['EXTENSION_RELOAD_MANAGER=1'] : []),
    '',
  ].join('\n');
}

/** The release file in an image: padded with newlines, which systemd's parser skips. */
export function releaseFileBlock(fields: ReleaseFileFields): Buffer {
  const text = releaseFileText(fields);
  if (Buffer.byteLength(text) > RELEASE_FILE_SIZE)
    throw new UserError(`the release file of '${fields.name}' is longer than ${RELEASE_FILE_SIZE} bytes`);
  return Buffer.from(text.padEnd(RELEASE_FILE_SIZE, '\n'));
}

/** Reads a release file. Values may be quoted like in a shell (os-release(5)). */
export function parseReleaseFile(text: string): Record<string, string> {
  return Object.fromEntries(
    text.split('\n').flatMap((line) => {
      const match = /^([A-Z][A-Z0-9_]*)=(?:"(.*)"|'(.*)'|(.*))$/.exec(line.trim());
      return match === null ? [] : [[match[1], match[2] ?? match[3] ?? match[4] ?? '']];
    }),
  ) as Record<string, string>;
}

/** Writes the release file and its attribute into a staged tree; mkfs.erofs reads the attribute from there. */
export async function stageReleaseFile(dir: string, fields: ReleaseFileFields): Promise<void> {
  const file = join(dir, releaseFilePath(fields.name, fields.kind));
  await makeFolder(dirname(file));
  await writeFile(file, releaseFileBlock(fields), { mode: 0o644 });
  const handle = await open(file, 'r+');
  try {
    await locks.setAttr(handle.fd, STRICT_XATTR, 'false');
  } catch (cause) {
    throw new UserError('the file system of the store does not support extended attributes', {
      where: file,
      next: 'set FLATCAR_EXT_CACHE to a folder on ext4, xfs or btrfs',
      cause,
    });
  } finally {
    await handle.close();
  }
}

/** Reads the release file of a staged or unpacked tree. `image` is the file in errors. */
export async function readReleaseFile(dir: string, name: string, kind: 'sysext' | 'confext', image = dir): Promise<Record<string, string>> {
  const path = releaseFilePath(name, kind);
  const text = await readFile(join(dir, path), 'utf8').catch((cause: unknown) => {
    throw new UserError(`the image has no release file '${path}'`, {
      where: image,
      next: 'build or fetch it again: it is damaged, or an image of another extension',
      cause,
    });
  });
  return parseReleaseFile(text);
}
