import { AsyncLocalStorage } from 'node:async_hooks';
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, readlinkSync } from 'node:fs';
import { lstat, mkdir, readdir, rm } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';

/**
 * A name identifies the process that made the file: `<machine>-<pid>-<start>-<random>`. `machine` identifies one boot of one machine (or container,
 * which has process ids of its own), `start` is the start of the process (proc_pid_stat(5), field 22), because ids are reused.
 */
const OWNED = /([0-9a-f]{8})-(\d+)-(\d+)-[0-9a-f]{8}(?:\.|$)/;

/** Names of temporary files and folders beside their final paths: hidden, so that no web server lists them. */
export const TEMPORARY = /^\.[0-9a-f]{8}-\d+-\d+-[0-9a-f]{8}\.tmp$/;

/** Age at which a file of another machine counts as abandoned, in milliseconds: no build takes that long. */
const OLD = 24 * 3_600_000;

/** Start of a process in the kernel's ticks since the boot; undefined if it is not known. */
function startOf(pid: number | 'self'): string | undefined {
  try {
    const status = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return status.slice(status.lastIndexOf(')') + 2).split(' ')[19]; // after the name, which may contain anything
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

/** A name that identifies this process and is unique; see `isAbandoned`. */
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
  const current = startOf(pid);
  return current === undefined || current === start; // undefined: hidden from this user, and possibly the same
}

/** Whether a file or folder with an `ownedName` in its name belongs to a process that has ended. False for other names. */
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

/** Removes matching files of killed processes from a folder. Files that cannot be removed stay. */
export async function removeAbandoned(folder: string, names: RegExp): Promise<void> {
  for (const name of await readdir(folder).catch(() => [])) {
    const path = join(folder, name);
    if (names.test(name) && (await isAbandoned(path))) await rm(path, { recursive: true, force: true }).catch(() => undefined);
  }
}

const swept = new Map<string, Promise<void>>();

/**
 * A temporary path beside another, under which a file is made and then renamed. Removes such files of killed processes in this folder first,
 * once per process.
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
 * Runs `fn` with a folder below `dir` for temporary files of all programs that it starts, so that files of killed programs are removed with
 * `dir`. (systemd-repart leaves copies of the whole image in /var/tmp.)
 */
export async function withTemporaryFolder<T>(dir: string, fn: () => Promise<T>): Promise<T> {
  const folder = join(dir, '.tmp');
  await mkdir(folder, { mode: 0o700 });
  return current.run(folder, fn);
}

/** The folder for temporary files of started programs, if the surrounding call set one. */
export const temporaryFolder = (): string | undefined => current.getStore();
