import { access, constants, readFile } from 'node:fs/promises';
import { release } from 'node:os';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { archWords, digestOf, hostArch, writeAtomic, type Arch, type Store, type Tools } from '@flatcar/core/engine';
import { execa } from 'execa';
import { BOARDS, type Accelerator } from './board.ts';
import type { Boot } from './boot.ts';

/** One start of QEMU. */
export interface QemuOptions {
  readonly arch: Arch;
  readonly accelerator: Accelerator;
  /** MiB. */
  readonly memory: number;
  readonly cpus: number;
  /** True when it starts by a boot loader on its disk. */
  readonly firmware: boolean;
  readonly args: readonly string[];
}

/** The pinned QEMU's command line, with firmware of its own packages; it dies with this process. */
async function commandLine(
  tools: Tools,
  { arch, accelerator, memory, cpus, firmware, args }: QemuOptions,
): Promise<{ command: string; args: string[]; env: Record<string, string> }> {
  const { command, args: start, env = {} } = await tools.command(`qemu-system-${archWords(arch).machine}`);
  const share = join(start.at(-1) ?? '', '../../share');
  const board = BOARDS[arch];
  const folders = ['qemu', 'seabios', '../lib/ipxe/qemu'].flatMap((folder) => ['-L', join(share, folder)]);
  const hardware = ['-machine', board.machine, '-cpu', board.cpu[accelerator], '-smp', String(cpus), '-m', String(memory)];
  const acceleration = ['-accel', accelerator === 'tcg' ? 'tcg,thread=multi' : 'kvm'];
  // x86's board starts SeaBIOS by itself.
  const bios = firmware && arch === 'arm64' ? ['-bios', join(share, 'qemu-efi-aarch64/QEMU_EFI.fd')] : [];
  const plain = ['-nodefaults', '-no-user-config', '-display', 'none'];
  return {
    command: 'setpriv',
    args: ['--pdeathsig=KILL', command, ...start, ...folders, ...plain, ...hardware, ...acceleration, ...bios, ...args],
    env: { ...env },
  };
}

/** QEMU's exit code and last words. */
export class QemuEndedError extends Error {
  /** True if a signal ended it. */
  readonly crashed: boolean;
  constructor(exitCode: number | undefined, words: string) {
    super(`QEMU ended (${exitCode ?? 'killed'}) ${words}`.trim());
    this.crashed = exitCode === undefined;
  }
}

/** A started QEMU; its input and output are whatever the arguments connect to stdio. */
export interface Qemu {
  readonly input: Writable;
  readonly output: Readable;
  /** How it ended, once it has. */
  readonly ended: Promise<QemuEndedError>;
  kill(): void;
}

/** Starts QEMU. */
export async function startQemu(tools: Tools, options: QemuOptions): Promise<Qemu> {
  const { command, args, env } = await commandLine(tools, options);
  const child = execa(command, args, { env, stdin: 'pipe', reject: false, buffer: { stdout: false, stderr: true } });
  const ended = child.then(({ exitCode, stderr }) => new QemuEndedError(exitCode, stderr));
  return { input: child.stdin, output: child.stdout, ended, kill: () => child.kill('SIGKILL') };
}

const known = new Map<Arch, Promise<Accelerator>>();

/**
 * KVM if a guest really runs on it, else TCG: a /dev/kvm may exist and crash every guest. The result is kept in the store until the host
 * boots again, runs another kernel or QEMU is pinned at another version.
 */
export function acceleratorFor(store: Store, tools: Tools, arch: Arch, guest: Guest): Promise<Accelerator> {
  const there = known.get(arch);
  if (there !== undefined) return there;
  const found = find(store, tools, arch, guest);
  known.set(arch, found);
  return found;
}

/** What is started to find out whether a guest runs. */
type Guest = Pick<Boot, 'firmware' | 'probe'>;

async function find(store: Store, tools: Tools, arch: Arch, guest: Guest): Promise<Accelerator> {
  if (arch !== hostArch()) return 'tcg';
  const slow = (why: string): Accelerator => {
    console.error(`machines run without KVM, ${why}: a boot takes a minute or two`);
    return 'tcg';
  };
  const usable = await access('/dev/kvm', constants.R_OK | constants.W_OK).then(
    () => true,
    () => false,
  );
  if (!usable) return slow('because /dev/kvm does not exist or this user may not use it');
  const boot = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
  const qemu = await tools.record(`qemu-system-${archWords(arch).machine}`);
  const key = digestOf({ boot, kernel: release(), qemu: qemu.map(({ sha256 }) => sha256) });
  const note = join(store.root, 'accelerator');
  const last = /^(\S+) (kvm|tcg)$/m.exec(await readFile(note, 'utf8').catch(() => ''));
  const kept = last?.[1] === key ? (last[2] as Accelerator) : undefined;
  const found = kept ?? ((await runsOnKvm(tools, arch, guest)) ? 'kvm' : 'tcg');
  if (kept === undefined) await writeAtomic(note, `${key} ${found}\n`);
  return found === 'kvm' ? found : slow('because no guest boots on it here');
}

/** Starts a guest on KVM; true if its console shows within a minute that it runs. */
async function runsOnKvm(tools: Tools, arch: Arch, { firmware, probe }: Guest): Promise<boolean> {
  const { command, args, env } = await commandLine(tools, {
    arch,
    accelerator: 'kvm',
    memory: 1024,
    cpus: 1,
    firmware,
    args: [...probe.args, '-nic', 'none', '-no-reboot', '-serial', 'stdio'],
  });
  const child = execa(command, args, { env, stdin: 'ignore', reject: false, buffer: false, timeout: 60_000, killSignal: 'SIGKILL' });
  let shown = '';
  let runs = false;
  child.stdout.on('data', (chunk: Buffer) => {
    shown += chunk.toString('latin1');
    runs ||= probe.shows.test(shown);
    if (runs) child.kill();
  });
  await child;
  return runs;
}
