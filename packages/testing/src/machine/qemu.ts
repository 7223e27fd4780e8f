import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { archWords, hostArch, writeAtomic, type Arch, type Store, type Tools } from '@flatcar/core';
import { execa } from 'execa';

/** How a guest's processor is run: by the host's, or translated. */
export type Accelerator = 'kvm' | 'tcg';

/** One start of QEMU. */
export interface QemuOptions {
  readonly arch: Arch;
  readonly accelerator: Accelerator;
  /** MiB. */
  readonly memory: number;
  readonly cpus: number;
  readonly args: readonly string[];
}

/** The console that the kernel of an architecture's virtual board writes to. */
export const consoleOf = (arch: Arch): string => (arch === 'arm64' ? 'ttyAMA0' : 'ttyS0');

const BOARDS: Readonly<Record<Arch, { machine: string; cpu: Readonly<Record<Accelerator, string>> }>> = {
  'x86-64': { machine: 'q35', cpu: { kvm: 'host', tcg: 'max' } },
  arm64: { machine: 'virt', cpu: { kvm: 'host', tcg: 'max,pauth-impdef=on' } }, // the architected pointer authentication is slow to emulate
};

/** The pinned QEMU's command line, with firmware of its own packages; it dies with this process. */
async function commandLine(
  tools: Tools,
  { arch, accelerator, memory, cpus, args }: QemuOptions,
): Promise<{ command: string; args: string[]; env: Record<string, string> }> {
  const { command, args: start, env = {} } = await tools.command(`qemu-system-${archWords(arch).machine}`);
  const share = join(start.at(-1) ?? '', '../../share');
  const board = BOARDS[arch];
  return {
    command: 'setpriv',
    args: [
      '--pdeathsig=KILL', command, ...start,
      ...['qemu', 'seabios', '../lib/ipxe/qemu'].flatMap((folder) => ['-L', join(share, folder)]),
      '-nodefaults', '-no-user-config', '-display', 'none',
      '-machine', board.machine, '-cpu', board.cpu[accelerator], '-accel', accelerator === 'tcg' ? 'tcg,thread=multi' : 'kvm',
      '-smp', String(cpus), '-m', String(memory), ...args,
    ],
    env: { ...env },
  }; // prettier-ignore
}

/** A started QEMU; its input and output are whatever the arguments connect to stdio. */
export interface Qemu {
  readonly input: Writable;
  readonly output: Readable;
  /** Its last words, once it has ended. */
  readonly ended: Promise<string>;
  kill(): void;
}

/** Starts QEMU. */
export async function startQemu(tools: Tools, options: QemuOptions): Promise<Qemu> {
  const { command, args, env } = await commandLine(tools, options);
  const child = execa(command, args, { env, stdin: 'pipe', reject: false, buffer: { stdout: false, stderr: true } });
  const ended = child.then(({ exitCode, stderr }) => `QEMU ended (${exitCode ?? 'killed'}) ${stderr}`.trim());
  return { input: child.stdin, output: child.stdout, ended, kill: () => child.kill('SIGKILL') };
}

const known = new Map<Arch, Promise<Accelerator>>();

/**
 * KVM where a guest really runs on it, else TCG: a /dev/kvm may exist and crash every guest. What a boot of this host
 * has shown is kept in the store, as nothing but a reboot changes it.
 */
export function acceleratorFor(store: Store, tools: Tools, arch: Arch, kernel: string): Promise<Accelerator> {
  const there = known.get(arch);
  if (there !== undefined) return there;
  const probing = probe(store, tools, arch, kernel);
  known.set(arch, probing);
  return probing;
}

async function probe(store: Store, tools: Tools, arch: Arch, kernel: string): Promise<Accelerator> {
  if (arch !== hostArch()) return 'tcg';
  const boot = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
  const note = join(store.root, 'accelerator');
  const noted = await readFile(note, 'utf8').catch(() => '');
  const last = /^(\S+) (kvm|tcg)$/m.exec(noted);
  if (last?.[1] === boot) return last[2] as Accelerator;
  const { command, args, env } = await commandLine(tools, {
    arch,
    accelerator: 'kvm',
    memory: 256,
    cpus: 1,
    args: ['-kernel', kernel, '-append', `console=${consoleOf(arch)} panic=-1`, '-no-reboot', '-serial', 'stdio'],
  });
  // Without a root the kernel ends in a panic of its own choice: it has run that far.
  const { stdout } = await execa(command, args, { env, stdin: 'ignore', reject: false, timeout: 60_000, forceKillAfterDelay: 1000 });
  const found: Accelerator = /Kernel panic - not syncing: VFS/.test(stdout) ? 'kvm' : 'tcg';
  if (found === 'tcg') console.error('machines run without KVM, which no guest boots on here: a boot takes a minute or two');
  await writeAtomic(note, `${boot} ${found}\n`);
  return found;
}
