import type { Arch } from './arch.ts';
import type { Target } from './target.ts';

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

/**
 * Extensions that Flatcar has built in, with a program by which an extension that takes their place is known.
 * Turned off by a link to /dev/null (flatcar.org, system extensions).
 */
const BUILT_IN: Readonly<Record<string, string>> = { 'containerd-flatcar': 'usr/bin/containerd', 'docker-flatcar': 'usr/bin/dockerd' };

/** Links that turn off what Flatcar has built in and extensions replace. */
export const replacedBuiltIns = (replaces: readonly string[]): { path: string; target: string }[] =>
  Object.entries(BUILT_IN).flatMap(([name, program]) =>
    replaces.includes(program) ? [{ path: `/etc/extensions/${name}.raw`, target: '/dev/null' }] : [],
  );
