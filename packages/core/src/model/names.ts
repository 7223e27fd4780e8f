import { UserError } from '../util/errors.ts';
import type { Arch } from './arch.ts';
import type { ImageVersion, TargetName } from './brands.ts';
import type { Target } from './target.ts';

/** A valid extension name: lowercase letters, digits and single dashes. */
export const EXTENSION_NAME = /^[a-z][a-z0-9]*(?:-[a-z0-9]+)*$/;
/** Characters of versions and targets in file names. `_` separates them, and systemd's version comparison treats `~` and `^` specially. */
const FILE_NAME_PART = /^[0-9A-Za-z][0-9A-Za-z.+-]*$/;

/** The word for a target in folder names: `portable` or the release number. */
export function targetName(target: Target): TargetName {
  return (target === 'portable' ? 'portable' : target.number) as TargetName;
}

/** Image version: `1.36.4`, or `1.36.4-2` after two changes of the packaging (systemd ranks them in this order). */
export function imageVersion(version: string, revision: number): ImageVersion {
  return (revision === 0 ? version : `${version}-${revision}`) as ImageVersion;
}

/** Throws a UserError for a part of a file name that could run into the next part. */
function checkParts(name: string, others: Readonly<Record<string, string>>): void {
  if (!EXTENSION_NAME.test(name))
    throw new UserError(`'${name}' is not a valid extension name`, { next: 'use lowercase letters, digits and single dashes' });
  for (const [what, part] of Object.entries(others))
    if (!FILE_NAME_PART.test(part))
      throw new UserError(`'${part}' is not a valid ${what} in a file name`, { next: "use letters, digits, '.', '+' and '-'" });
}

/**
 * File name of an image without `.raw`; sidecars append their own suffix. Composed only here and never parsed: the manifest and the index
 * hold the fields. Signed sums list bare file names, so a name identifies extension, target (`targetName`), version and architecture: no two
 * parts can run into each other, because a name has no `.` and the other parts have no `_` (UAPI.10 version-pick form).
 */
export function imageBase(name: string, version: ImageVersion, target: TargetName, arch: Arch): string {
  checkParts(name, { version, target });
  return `${name}.${target}_${version}_${arch}`;
}

/** File name of a payload without its suffixes: a payload has no target. */
export function payloadBase(name: string, version: ImageVersion, arch: Arch): string {
  checkParts(name, { version });
  return `${name}_${version}_${arch}`;
}

/** Name of the link that systemd-sysext sees on a node: one per release (systemd checks VERSION_ID). */
export function linkName(name: string, target: Target): string {
  return target === 'portable' ? `${name}.raw` : `${name}-${target.number}.raw`;
}

/** Folder of the links that systemd reads (systemd-sysext(8)); confexts are merged over /etc, so their links cannot be in it. */
export function linkFolder(kind: 'sysext' | 'confext'): string {
  return kind === 'sysext' ? '/etc/extensions' : '/var/lib/confexts';
}

/** Path of the release file inside an image (UAPI.4). */
export function releaseFilePath(name: string, kind: 'sysext' | 'confext'): string {
  return kind === 'sysext' ? `usr/lib/extension-release.d/extension-release.${name}` : `etc/extension-release.d/extension-release.${name}`;
}

/**
 * Flatcar's built-in extensions, each with a program that identifies an extension that replaces it.
 * A link to /dev/null disables a built-in extension (flatcar.org, system extensions).
 */
const BUILT_IN: Readonly<Record<string, string>> = { 'containerd-flatcar': 'usr/bin/containerd', 'docker-flatcar': 'usr/bin/dockerd' };

/** Links that disable Flatcar's built-in extensions for an extension that replaces them. */
export const replacedBuiltIns = (replaces: readonly string[]): { path: string; target: string }[] =>
  Object.entries(BUILT_IN).flatMap(([name, program]) =>
    replaces.includes(program) ? [{ path: `/etc/extensions/${name}.raw`, target: '/dev/null' }] : [],
  );
