import { parseProof } from '@flatcar/core/engine';
import { proofRank } from '@flatcar/upstream';
import type { Bumped } from './bump-output.ts';

/** Folders that systemd reads: a change of their files changes what a host does. */
const UNITS = /^usr\/lib\/(?:systemd|tmpfiles\.d|sysusers\.d|udev|modules-load\.d|sysctl\.d|binfmt\.d|dbus-1|environment\.d)\//;

/** Whether only the last of at least three numbers is higher, such as in `1.2.3` and `1.2.4`. */
export function isPatch(before: string, after: string): boolean {
  const [old, now] = [before, after].map((version) => version.split('.'));
  if (old === undefined || now === undefined || old.length < 3 || old.length !== now.length) return false;
  if (![...old, ...now].every((part) => /^\d+$/.test(part))) return false;
  return old.slice(0, -1).join('.') === now.slice(0, -1).join('.') && Number(now.at(-1)) > Number(old.at(-1));
}

const list = (words: readonly string[]): string =>
  `${words.slice(0, 5).join(', ')}${words.length > 5 ? ` and ${words.length - 5} more` : ''}`;

function ofVersions({ from, version, dropped, difference }: Bumped): string[] {
  if (from === undefined) return [`${version} is the first version of a new branch`];
  if (from === version) return [`${version} has other components under the same version`];
  if (!isPatch(from, version)) return [`${from} → ${version} is not a patch release`];
  const others = (difference?.versions ?? []).filter(({ before, after }) => !isPatch(before, after));
  const gone = dropped.filter((one) => one !== from);
  return [
    ...others.map(({ component, before, after }) => `${component} ${before || '(none)'} → ${after || '(none)'} is not a patch release`),
    ...(gone.length === 0 ? [] : [`${list(gone)} would no longer be pinned`]),
  ];
}

/** The rank of the weakest proof. */
const weakest = (proofs: readonly string[]): number => Math.min(...proofs.map((text) => proofRank(parseProof(text))));

/** A component is as trustworthy as the weakest proof of its files. */
function ofProofs({ pinned, proofs }: Bumped): string[] {
  const unchecked = pinned.lines.filter(({ change }) => change === 'kept').map(({ component }) => component);
  const weaker = proofs.filter(({ before, after }) => before.length === 0 || weakest(after) < weakest(before));
  return [
    ...(unchecked.length === 0 ? [] : [`the pins of ${list([...new Set(unchecked)])} were not verified again`]),
    ...weaker.map(({ component, origin, before, after }) =>
      before.length === 0
        ? `${component} (${origin}) had no proof before`
        : `${component} (${origin}) was verified by '${list(before)}', and now only by '${list(after)}'`,
    ),
  ];
}

function ofImage({ difference, noDifference }: Bumped): string[] {
  if (difference === undefined) return [`the images before and after were not compared (${noDifference ?? 'no reason given'})`];
  const { files, requirements } = difference;
  const paths = (what: string): string[] => files.filter((one) => one.what === what).map(({ path }) => path);
  const modes = files.filter((one) => one.modes !== undefined).map(({ path }) => path);
  const units = files.filter((one) => one.what === 'changed' && UNITS.test(one.path)).map(({ path }) => path);
  return [
    ...(paths('added').length === 0 ? [] : [`files are added: ${list(paths('added'))}`]),
    ...(paths('removed').length === 0 ? [] : [`files are removed: ${list(paths('removed'))}`]),
    ...(modes.length === 0 ? [] : [`types or permissions of files change: ${list(modes)}`]),
    ...(units.length === 0 ? [] : [`units or settings of systemd change: ${list(units)}`]),
    ...requirements.map(({ what, before, after }) => `${what} changes from '${before || 'none'}' to '${after || 'none'}'`),
  ];
}

/**
 * Why a person must merge a change; empty for a patch release with proofs no weaker than before and the same files, units and host
 * requirements. `paths` are the files of the repository that the change touches.
 */
export function automergeObjections(extension: string, bumped: readonly Bumped[], paths: readonly string[]): string[] {
  const own = new RegExp(`^extensions/${RegExp.escape(extension)}/(?:pins\\.json|CHANGELOG\\.md|README\\.md|go/)`);
  const foreign = paths.filter((path) => path !== 'README.md' && !own.test(path));
  return [
    ...(bumped.length === 0 ? ['it is not known which versions changed'] : []),
    ...(foreign.length === 0 ? [] : [`files other than the locks of ${extension} change: ${list(foreign)}`]),
    ...bumped.flatMap((one) => [...ofVersions(one), ...ofProofs(one), ...ofImage(one)]),
  ];
}
