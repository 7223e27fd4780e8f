import { AsyncLocalStorage } from 'node:async_hooks';
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, readlinkSync } from 'node:fs';
import { lstat, mkdir, readdir, rm } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';

/**
 * A name says which process made the file: `<machine>-<pid>-<start>-<random>`. `machine` stands for one boot of one machine (or container, which
 * has process ids of its own), `start` for when the process began (proc_pid_stat(5), field 22), as ids are used again.
 */
const OWNED = /([0-9a-f]{8})-(\d+)-(\d+)-[0-9a-f]{8}(?:\.|$)/;

/** Names of temporary files and folders beside what they become: hidden, so that no web server lists them. */
export const TEMPORARY = /^\.[0-9a-f]{8}-\d+-\d+-[0-9a-f]{8}\.tmp$/;

/** What a process of another machine has made is left behind when it is as old as this, in milliseconds: no build takes as long. */
const OLD = 24 * 3_600_000;

/** When a process began, in the kernel's ticks since the boot; undefined where it cannot be known. */
function startOf(pid: number | 'self'): string | undefined {
  try {
    const status = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return status.slice(status.lastIndexOf(')') + 2).split(' ')[19]; // after the name, which may hold anything
  } catch {
    return undefined;
  }
}

let own: { machine: string; start: string } | undefined;
function ownMarks(): { machine: string; start: string } {
  if (own !== undefined) return own;
  const read = (get: () => string): string => {
    try {
      return get();
    } catch {
      return '';
    }
  };
  const machine = [
    read(() => readFileSync('/proc/sys/kernel/random/boot_id', 'latin1')),
    read(() => readlinkSync('/proc/self/ns/pid')),
  ].join(' ');
  own = { machine: createHash('sha256').update(machine).digest('hex').slice(0, 8), start: startOf('self') ?? '0' };
  return own;
}

/** A name of this process's own that no other temporary file has; see `isAbandoned`. */
export function ownedName(): string {
  const { machine, start } = ownMarks();
  return `${machine}-${process.pid}-${start}-${randomBytes(4).toString('hex')}`;
}

function isRunning(pid: number, start: string): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
  }
  const there = startOf(pid);
  return there === undefined || there === start; // hidden from us: it may be the same
}

/** Whether a file or folder whose name holds an `ownedName` is left behind by a process that has ended. Others are nobody's: false. */
export async function isAbandoned(path: string): Promise<boolean> {
  const [, machine, pid, start] = OWNED.exec(path.slice(path.lastIndexOf('/') + 1)) ?? [];
  if (machine === undefined || start === undefined) return false;
  if (machine === ownMarks().machine) return !isRunning(Number(pid), start);
  const age = await lstat(path).then(
    ({ mtimeMs }) => Date.now() - mtimeMs,
    () => 0,
  );
  return age > OLD;
}

/** Removes what killed processes have left in a folder, of names that match. Whatever cannot be removed stays. */
export async function removeAbandoned(folder: string, names: RegExp): Promise<void> {
  for (const name of await readdir(folder).catch(() => [])) {
    const path = join(folder, name);
    if (names.test(name) && (await isAbandoned(path))) await rm(path, { recursive: true, force: true }).catch(() => undefined);
  }
}

const swept = new Map<string, Promise<void>>();

/**
 * A path beside another on which that is made, to be renamed at the end. What killed processes have left in this folder under such names is
 * removed first, once in each process.
 */
export async function temporaryBeside(path: string): Promise<string> {
  const folder = dirname(resolve(path));
  const sweeping = swept.get(folder) ?? removeAbandoned(folder, TEMPORARY);
  swept.set(folder, sweeping);
  await sweeping;
  return join(folder, `.${ownedName()}.tmp`);
}

const current = new AsyncLocalStorage<string>();

/**
 * Runs `fn` with a folder below `dir` as the one for temporary files of all programs that it starts: what they leave when they are killed goes
 * with `dir`. (systemd-repart, for one, leaves copies of the whole image in /var/tmp.)
 */
export async function withTemporaryFolder<T>(dir: string, fn: () => Promise<T>): Promise<T> {
  const folder = join(dir, '.tmp');
  await mkdir(folder, { mode: 0o700 });
  return current.run(folder, fn);
}

/** The folder for temporary files of programs that are started here, where there is one of their own. */
export const temporaryFolder = (): string | undefined => current.getStore();
