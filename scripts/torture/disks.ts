import { execFile, spawn } from 'node:child_process';
import { mkdir, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { commandOf, makeRound, type Round, type Torture } from './commands.ts';
import { finish, optionsOf, reference, type Reference } from './kills.ts';
import { runCommand, type Ended } from './run.ts';
import type { World } from './world.ts';

const run = promisify(execFile);

/** What was seen of disks of one kind. */
export interface DiskRow {
  readonly what: string;
  rounds: number;
  /** Rounds in which the disk was too small, or could not be written. */
  refused: number;
  readonly broken: string[];
}

/** Which folder of a round is on a small disk, and which command meets it. */
const DISKS = [
  { place: 'store', command: 'build' },
  { place: 'store', command: 'publish' },
  { place: 'out', command: 'build' },
  { place: 'out', command: 'bind' },
  { place: 'out', command: 'publish' },
  { place: 'out', command: 'withdraw' },
  { place: 'out', command: 'keys-init' },
  { place: 'temp', command: 'bind' },
] as const;

/** Room besides what is there already, in KiB: from nothing to what is always enough. */
const ROOM = [8, 64, 256, 1024, 2048, 4096, 65_536];

/** Bytes that a folder takes on a tmpfs: whole pages, and one for each folder. */
async function sizeOf(dir: string): Promise<number> {
  const { stdout } = await run('du', ['--summarize', '--block-size=1024', '--count-links', dir]);
  return Number.parseInt(stdout, 10);
}

/** Puts a folder of a round on a disk of its own with so many KiB of room. */
async function onDisk(path: string, room: number): Promise<void> {
  const aside = `${path}.aside`;
  await mkdir(path, { recursive: true });
  await run('mv', [path, aside]);
  await mkdir(path);
  const used = await sizeOf(aside);
  // Twice what is there, for the copy; then as much less.
  await run('mount', ['-t', 'tmpfs', '-o', `size=${used * 2 + 65_536}k,mode=755`, 'none', path]);
  await run('cp', ['--archive', `${aside}/.`, path]);
  await rm(aside, { recursive: true });
  const { stdout } = await run('df', ['--output=used', '--block-size=1024', path]);
  await resize(path, Number(stdout.split('\n')[1]) + room);
}

const resize = (path: string, size: number, mode = 'rw'): Promise<unknown> => run('mount', ['-o', `remount,${mode},size=${size}k`, path]);

/** What is wrong with how a command refuses: a person must see what failed, where, and what to do. */
function rudeness({ code, output }: Ended, reason: RegExp): string[] {
  const text = output.slice(-2000);
  if (code !== 1) return [`it ended with ${code}: ${text}`];
  const missing = [
    [reason, `the reason (${reason.source})`],
    [/^ {2}at: ./m, 'the place'], // a path, or the command that failed
    [/^ {2}do: /m, 'what to do'],
  ].flatMap(([pattern, what]) => ((pattern as RegExp).test(output) ? [] : [what as string]));
  const isOurs = /please report|\n {4}at /.test(output);
  return missing.length === 0 && !isOurs ? [] : [`the message lacks ${missing.join(', ') || 'nothing, but has a stack'}: ${text}`];
}

async function oneDisk(
  torture: Torture,
  world: World,
  ref: Reference,
  row: DiskRow,
  { place, room, mode }: { place: 'store' | 'out' | 'temp'; room: number; mode: 'rw' | 'ro' },
): Promise<void> {
  const round: Round = await makeRound(torture, world, join(world.dir, `disk-${torture.name}-${place}-${mode}-${room}`));
  const path = round[place];
  await onDisk(path, room);
  try {
    if (mode === 'ro') await resize(path, 1 << 20, 'ro');
    const ended = await runCommand(commandOf(torture, round, world), await optionsOf(torture, round, world));
    row.rounds += 1;
    const problems: string[] = [];
    if (ended.code !== 0) {
      row.refused += 1;
      problems.push(...rudeness(ended, mode === 'ro' ? /read-only/i : /no space left/i));
    }
    await resize(path, 1 << 20);
    problems.push(...(await finish(torture, round, world, ref)));
    row.broken.push(...problems.map((problem) => `${torture.name}, ${mode} with ${room} KiB for ${place}: ${problem}`));
  } finally {
    await run('umount', ['--lazy', path]);
    await rm(round.dir, { recursive: true, force: true });
  }
}

/** Full and read-only disks. Needs a mount namespace of its own, and mounts of tmpfs in it. */
export async function disks(world: World, commands: readonly Torture[], sizes: number): Promise<DiskRow[]> {
  const rows: DiskRow[] = [];
  for (const { place, command } of DISKS) {
    const torture = commands.find(({ name }) => name === command);
    if (torture === undefined) continue;
    const ref = await reference(torture, world);
    const row: DiskRow = { what: `${command}, ${place}`, rounds: 0, refused: 0, broken: [] };
    const step = Math.max(1, Math.ceil(ROOM.length / sizes));
    for (const room of ROOM.filter((_, index) => index % step === 0)) await oneDisk(torture, world, ref, row, { place, room, mode: 'rw' });
    await oneDisk(torture, world, ref, row, { place, room: 1, mode: 'ro' });
    rows.push(row);
  }
  return rows;
}

/** Why no disk can be mounted here; undefined where one can. */
export async function whyNoDisks(dir: string): Promise<string | undefined> {
  const probe = join(dir, 'probe');
  await mkdir(probe, { recursive: true });
  return run('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'none', probe]).then(
    async () => {
      await run('umount', [probe]);
      return undefined;
    },
    (error: Error) => `a disk cannot be mounted below ${dirname(probe)}: ${error.message.split('\n').at(-2) ?? error.message}`,
  );
}

const OWN = 'FLATCAR_EXT_TORTURE_MOUNTS';

/**
 * Runs this program again in a mount namespace of its own, which ends with it and takes all its mounts along; gives its exit code. Undefined in
 * that namespace, and where none can be made.
 */
export async function inOwnMounts(): Promise<number | undefined> {
  if (process.env[OWN] !== undefined) return undefined;
  const user = process.getuid?.() === 0 ? [] : ['--user', '--map-root-user'];
  const unshare = ['--mount', '--propagation', 'private', ...user];
  const isPossible = await run('unshare', [...unshare, 'true']).then(
    () => true,
    () => false,
  );
  if (!isPossible) return undefined;
  const child = spawn('unshare', [...unshare, process.execPath, ...process.argv.slice(1)], {
    stdio: 'inherit',
    env: { ...process.env, [OWN]: '1' },
  });
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => child.kill(signal));
  return new Promise((resolve, reject) => {
    child.once('exit', (code) => resolve(code ?? 1));
    child.once('error', reject);
  });
}
