import type { Arch, Target } from './types.ts';

/** The word for a target in folder names: `portable` or the release number. */
export function targetName(target: Target): string {
  return target === 'portable' ? 'portable' : target.number;
}

/** Image version: `1.36.4`, or `1.36.4-2` where packaging was changed twice (systemd ranks them so). */
export function imageVersion(version: string, revision: number): string {
  return revision === 0 ? version : `${version}-${revision}`;
}

/**
 * File name of an image without `.raw`; sidecars append their own suffix.
 * Composed here and never parsed: the manifest and the index hold the fields.
 */
export function imageBase(name: string, version: string, target: Target, arch: Arch): string {
  const bound = target === 'portable' ? '' : `-${target.number}`;
  return `${name}-${version}${bound}-${arch}`;
}

/** Name of the link that systemd-sysext sees on a node: one per release (systemd checks VERSION_ID). */
export function linkName(name: string, target: Target): string {
  return target === 'portable' ? `${name}.raw` : `${name}-${target.number}.raw`;
}

/** Folder of the links that systemd looks at (systemd-sysext(8)); /etc itself is no place for what is merged over it. */
export function linkFolder(kind: 'sysext' | 'confext'): string {
  return kind === 'sysext' ? '/etc/extensions' : '/var/lib/confexts';
}

/** Path of the release file inside an image (UAPI.4). */
export function releaseFilePath(name: string, kind: 'sysext' | 'confext'): string {
  return kind === 'sysext' ? `usr/lib/extension-release.d/extension-release.${name}` : `etc/extension-release.d/extension-release.${name}`;
}
