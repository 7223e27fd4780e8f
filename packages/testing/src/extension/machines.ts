import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { findExtensions, loadExtension, UserError, type Arch, type Extension, type Image, type Release } from '@flatcar/core/engine';
import { expect } from 'vitest';
import { testFolder } from '../folders.ts';
import type { Machine } from '../hosts.ts';
import { definitionsIn, describe, inCI } from '../levels.ts';
import { quote } from '../machine/machine.ts';
import { sharedMachine } from '../machine/shared.ts';
import type { ExtensionTest } from '../spec.ts';
import { buildImages, expectedAnswer, pinnedVersions, requiredBy, wasBuilt } from './images.ts';
import { unreachableReason } from './unreachable.ts';

/** Which machines to boot. */
export interface Selection {
  /**
   * Names, or `small`: what `npm test` boots on a bare machine.
   * @default all
   */
  readonly extensions?: readonly string[] | 'small';
  readonly releases: readonly Release[];
  readonly arches: readonly Arch[];
}

/** An extension and what its test specifies. */
interface Tested {
  readonly name: string;
  readonly dir: string;
  readonly about: ExtensionTest;
  readonly kind: Extension['kind'];
  readonly conflicts: readonly string[];
}

const REPOSITORY = resolve(import.meta.dirname, '../../../..');

async function readTested(dir: string): Promise<Tested> {
  const folder = testFolder(dir);
  // A folder without tests is what the linter reports.
  const files = existsSync(folder) ? (await readdir(folder)).filter((name) => name.endsWith('.test.ts')) : [];
  const found: { about?: ExtensionTest }[] = [];
  for (const file of files) found.push(...(await definitionsIn<{ about?: ExtensionTest }>(join(folder, file))));
  const { extension } = await loadExtension(dir);
  // An extension whose tests specify nothing for a machine is still booted, and must be merged.
  const [about = { kind: extension.kind, commands: [] }] = found.flatMap((one) => one.about ?? []);
  return { name: basename(dir), dir, about, kind: extension.kind, conflicts: extension.conflicts };
}

/** What determines which extensions share a machine. */
type Grouped = Pick<Tested, 'name' | 'kind' | 'conflicts'> & { readonly beside: readonly string[] };

/**
 * Divides extensions greedily into groups that can be merged together; each group contains what its members need beside them. Confexts have
 * their own machines: up to 4593 /etc is read-only below them, which other extensions configure.
 */
export function groupsOf<T extends Grouped>(all: readonly T[]): T[][] {
  const groups: T[][] = [];
  const clash = (a: T, b: T): boolean =>
    a.name !== b.name && (a.kind !== b.kind || a.conflicts.includes(b.name) || b.conflicts.includes(a.name));
  for (const one of all.toSorted((a, b) => b.beside.length - a.beside.length)) {
    const needed = [one, ...one.beside.map((name) => all.find((other) => other.name === name)).filter((other) => other !== undefined)];
    const group = groups.find((members) => needed.every((two) => members.every((member) => !clash(two, member))));
    const into = group ?? [];
    for (const two of needed) if (!into.includes(two)) into.push(two);
    if (group === undefined) groups.push(into);
  }
  return groups;
}

/** Users that the processes of a unit run as. */
async function usersOf(machine: Machine, unit: string): Promise<string[]> {
  const group = `$(systemctl show --property=ControlGroup --value ${quote(unit)})`;
  const users = await machine.run(
    `for pid in $(cat "/sys/fs/cgroup${group}/cgroup.procs"); do stat --format=%U "/proc/$pid"; done | sort --unique`,
  );
  return users.split('\n');
}

/** Reloads a unit, which must have a reload, stay active and keep its main process. */
async function reload(machine: Machine, unit: string): Promise<void> {
  const mainPid = (): Promise<string> => machine.run(`systemctl show --property=MainPID --value ${quote(unit)}`);
  const before = await mainPid();
  await machine.run(`systemctl reload ${quote(unit)}`);
  await machine.until(`systemctl is-active --quiet ${quote(unit)}`);
  expect(await mainPid(), `main process of ${unit} after its reload`).toBe(before);
}

/** Checks what holds for every extension: it is merged, its programs run, its units are active. */
async function checkExtension(machine: Machine, { about, dir, name }: Tested): Promise<void> {
  const { kind = 'sysext', commands, machine: more = {} } = about;
  expect(await machine.run(`systemd-${kind} status --no-pager --no-legend`)).toContain(name);
  const versions = await pinnedVersions(dir, about);
  for (const command of commands) {
    const { run, env = {} } = command;
    const { said } = await machine.ask(
      ['env', ...Object.entries(env).map(([key, value]) => quote(`${key}=${value}`)), ...run.map(quote)].join(' '),
    );
    expect(said, run.join(' ')).toMatch(expectedAnswer(command, versions));
  }
  for (const path of about.paths ?? []) await machine.run(`test -e ${quote(path)}`);
  for (const unit of more.active ?? [])
    await machine.until(`systemctl is-active ${quote(unit)} || { systemctl status --no-pager ${quote(unit)}; false; }`);
  for (const port of more.ports ?? []) await machine.until(`ss --tcp --listening --numeric --no-header 'sport = :${port}' | grep .`);
  const expectAnswers = async (): Promise<void> => {
    for (const { run, says } of more.answers ?? []) expect(await machine.until(run)).toMatch(says);
  };
  await expectAnswers();
  for (const [unit, user] of Object.entries(more.runsAs ?? {})) expect(await usersOf(machine, unit), `users of ${unit}`).toContain(user);
  for (const unit of more.reloads ?? []) await reload(machine, unit);
  if (more.reloads !== undefined) await expectAnswers();
  await more.also?.(machine);
}

/** The image of an extension, or the reason why it cannot be built here. */
async function imageOf({ dir, about }: Tested, release: Release, arch: Arch): Promise<Image | string> {
  try {
    const [image] = await buildImages(dir, arch, [release], about);
    if (image === undefined) throw new Error('the build wrote no image');
    return image;
  } catch (error) {
    const why = unreachableReason(error);
    // CI reaches every upstream: no extension is skipped there because one is down.
    if (why === undefined || inCI()) throw error;
    return why;
  }
}

/** One machine with all available images of a group, and a test for each extension of the group. */
function describeGroup(group: readonly Tested[], release: Release, arch: Arch): void {
  const images = new Map<string, Image>();
  const inMachine = sharedMachine(async () => {
    for (const one of group) {
      const image = await imageOf(one, release, arch).catch(() => 'its own test reports it');
      if (typeof image !== 'string') images.set(one.name, image);
    }
    const memory = Math.max(...group.map(({ about }) => about.machine?.memory ?? 2048));
    const files = Object.assign({}, ...group.map(({ about }) => about.machine?.files)) as Readonly<Record<string, string>>;
    return { release, arch, memory, seed: { files }, images: [...images.values()].map((image) => ({ image })) };
  });
  for (const one of group)
    inMachine(
      one.name,
      (machine) => checkExtension(machine, one),
      async (skip) => {
        const image = await imageOf(one, release, arch);
        if (typeof image === 'string') skip(image);
      },
      { small: true }, // it was selected by name
    );
}

/** What `npm test` boots in one machine: the small sysexts, and others whose images are in the store. */
async function smallNames(dirs: ReadonlyMap<string, string>, arches: readonly Arch[]): Promise<string[]> {
  const names: string[] = [];
  for (const [name, dir] of dirs) {
    const { about, kind } = await readTested(dir);
    const needed = [name, ...(await requiredBy(dir)), ...(about.machine?.beside ?? [])].map((one) => dirs.get(one) ?? '');
    const built = async (): Promise<boolean> =>
      (await Promise.all(arches.flatMap((arch) => needed.map((one) => wasBuilt(one, arch))))).every(Boolean);
    if (kind === 'sysext' && (about.small === true || (about.machine?.whenBuilt === true && (await built())))) names.push(name);
  }
  return names;
}

/** A group by its first members: each test has the name of its own extension. */
function titleOf(group: readonly Tested[]): string {
  const first = group.slice(0, 3).map(({ name }) => name);
  return group.length > 3 ? `${first.join(', ')} and ${group.length - 3} more` : first.join(', ');
}

/** Registers the machine tests of extensions: one boot for each group that can be merged together, each release and each architecture. */
export async function describeMachines({ extensions, releases, arches }: Selection): Promise<void> {
  const dirs = new Map((await findExtensions(REPOSITORY)).map((dir) => [basename(dir), dir]));
  const names = extensions === 'small' ? await smallNames(dirs, arches) : [...(extensions ?? dirs.keys())];
  const tested: (Tested & Grouped)[] = [];
  for (const name of names) {
    const dir = dirs.get(name);
    if (dir === undefined) throw new UserError(`unknown extension '${name}'`, { next: `choose one of ${[...dirs.keys()].join(', ')}` });
    const one = await readTested(dir);
    const beside = [...new Set([...(await requiredBy(dir)), ...(one.about.machine?.beside ?? [])])];
    tested.push({ ...one, beside });
    names.push(...beside.filter((other) => !names.includes(other)));
  }
  for (const arch of arches)
    for (const release of releases)
      for (const group of groupsOf(tested))
        describe(`${release.number} ${arch}: ${titleOf(group)}`, () => describeGroup(group, release, arch));
}
