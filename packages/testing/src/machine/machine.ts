import { copyFile, link, mkdir, readFile, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  hostArch,
  linkFolder,
  linkName,
  openStore,
  openTools,
  selectTargets,
  UserError,
  type Arch,
  type Image,
  type Release,
  type Tools,
} from '@flatcar/core/engine';
import type { Answer, Machine } from '../hosts.ts';
import type { Boot } from './boot.ts';
import { tail, withFailureLogs } from './logs.ts';
import { bootOf } from './os.ts';
import type { Accelerator } from './board.ts';
import { acceleratorFor, QemuEndedError, startQemu, type Qemu } from './qemu.ts';
import type { Seed } from './seed.ts';
import { shellOver, type Shell } from './shell.ts';

/** An image, and the name of its link on the node (by default, its own). */
export interface Delivered {
  readonly image: Image;
  readonly link?: string;
}

/** What a machine starts with. */
export interface MachineOptions {
  /** The Flatcar release that it runs. */
  readonly release: Release;
  readonly arch?: Arch;
  readonly images?: readonly Delivered[];
  readonly seed?: Seed;
  /**
   * MiB.
   * @default 2048
   */
  readonly memory?: number;
  /**
   * True for a network, on which this machine is 10.0.2.2.
   * @default false
   */
  readonly network?: boolean;
  /** More arguments for QEMU. */
  readonly args?: readonly string[];
}

/** The shell word of an argument. */
export const quote = (word: string): string => `'${word.replaceAll("'", `'\\''`)}'`;

/** Path of an image on a node. */
export const imagePath = ({ image }: Delivered): string => `/opt/extensions/${image.extension}/${basename(image.file)}`;
/** Path of an image's link on a node. */
export const linkPath = ({ image, link: name }: Delivered): string => {
  const [target = 'portable'] = selectTargets(image.target);
  return `${linkFolder(image.kind)}/${name ?? linkName(image.extension, target)}`;
};

/** Limits in milliseconds: without KVM a busy host may take many minutes for a boot, which is not a failure. */
const BOOT = 2_700_000;
const COMMAND = 300_000;

/** Text on the console after which no boot succeeds. */
const LOST =
  /Kernel panic|You are in emergency mode|Boot has failed|Emergency Mode|Cannot open access to console|Failed to start initrd-switch-root/;

const AGENT = '/opt/test-agent/agent';

/** Images as Ignition installs them on a node (files below /opt/extensions and links in /etc), and the tests' shell. */
async function seedOf({ images = [], seed = {} }: MachineOptions): Promise<Seed> {
  const guest = (name: string): Promise<string> => readFile(join(import.meta.dirname, 'guest', name), 'utf8');
  const units = '/etc/systemd/system';
  return {
    files: { [AGENT]: await guest('agent'), [`${units}/test-agent.service`]: await guest('agent.service'), ...seed.files },
    copies: { ...Object.fromEntries(images.map((one) => [imagePath(one), one.image.file])), ...seed.copies },
    links: {
      [`${units}/multi-user.target.wants/test-agent.service`]: `${units}/test-agent.service`,
      ...Object.fromEntries(images.map((one) => [linkPath(one), imagePath(one)])),
      ...seed.links,
    },
  };
}

/** A start of QEMU that is not over. */
interface Running {
  readonly shell: Shell;
  readonly qemu: Qemu;
}

/** What a machine is started with, each time. */
interface StartOptions {
  readonly boot: Boot;
  readonly accelerator: Accelerator;
  readonly memory: number;
  readonly args: readonly string[];
  /** Folder for its serial log and for files on their way into it. */
  readonly temp: string;
}

/** A machine by QEMU; it may be started several times. */
class QemuMachine implements Machine {
  release: Release;
  readonly arch: Arch;
  readonly #tools: Tools;
  readonly #start: StartOptions;
  #running: Running | undefined;
  /** Length of the serial log when the machine last came up. */
  #serialSeen = 0;

  constructor(tools: Tools, release: Release, arch: Arch, start: StartOptions) {
    this.release = release;
    this.arch = arch;
    this.#tools = tools;
    this.#start = start;
  }

  #at(name: string): string {
    return join(this.#start.temp, name);
  }

  #on(): Running {
    if (this.#running === undefined) throw new Error('the machine is off');
    return this.#running;
  }

  async #startOnce(): Promise<void> {
    const { boot, accelerator, memory, args } = this.#start;
    const serial = ['-chardev', `file,id=serial,path=${this.#at('serial')},append=on`, '-serial', 'chardev:serial'];
    const port = ['-device', 'virtio-serial-pci', '-device', 'virtserialport,chardev=shell,name=shell'];
    const shell = ['-chardev', 'stdio,id=shell,signal=off', ...port];
    const share = ['-virtfs', `local,path=${this.#at('share')},mount_tag=share,security_model=none,readonly=on`];
    const qemu = await startQemu(this.#tools, {
      arch: this.arch,
      accelerator,
      memory,
      cpus: 2,
      firmware: boot.firmware,
      args: [...(await boot.args(this.release)), ...args, ...serial, ...shell, ...share, '-device', 'virtio-rng-pci'],
    });
    this.#running = { shell: shellOver(qemu.input, qemu.output), qemu };
    await this.#ready();
  }

  /** QEMU's translator was seen to abort on busy hosts, which has nothing to do with the test: the machine is started once more, and that is reported. */
  async start(): Promise<void> {
    await this.#startOnce().catch(async (error: unknown) => {
      if (!(error instanceof QemuEndedError) || !error.crashed) throw error;
      console.error(`${error.message}\nQEMU itself crashed: starting the machine once more`);
      this.#running = undefined;
      await this.#startOnce();
    });
  }

  /** Waits for the agent; the end of QEMU and a boot that can no longer succeed end the wait early. */
  async #ready(): Promise<void> {
    const { shell, qemu } = this.#on();
    const before = this.#serialSeen;
    const over = new AbortController();
    const ended = qemu.ended.then((error): never => {
      throw error;
    });
    const lost = async (): Promise<never> => {
      for (;;) {
        await sleep(2000, undefined, { signal: over.signal });
        const found = LOST.exec((await this.serial()).slice(before));
        if (found !== null) throw new Error(`the machine does not come up: ${found[0]}`);
      }
    };
    const losing = lost();
    for (const one of [ended, losing]) one.catch(() => undefined); // only the first to end counts
    try {
      await Promise.race([shell.ready(BOOT), ended, losing]);
      this.#serialSeen = (await this.serial()).length;
    } finally {
      over.abort();
    }
  }

  /** Ends it: by a shutdown if `clean`, else at once. */
  async stop(clean: boolean): Promise<void> {
    if (this.#running === undefined) return;
    const { qemu, shell } = this.#running;
    this.#running = undefined;
    if (clean) {
      shell.run('systemctl poweroff', COMMAND).catch(() => undefined);
      const late = setTimeout(() => qemu.kill(), COMMAND);
      await qemu.ended;
      clearTimeout(late);
    } else qemu.kill();
    await qemu.ended;
  }

  async ask(script: string, timeout = COMMAND): Promise<Answer> {
    const { shell, qemu } = this.#on();
    const lost = qemu.ended.then((error): never => {
      throw new Error(`${error.message}, while the machine ran: ${script}`, { cause: error });
    });
    lost.catch(() => undefined);
    return Promise.race([shell.run(script, timeout), lost]);
  }

  async run(script: string, timeout?: number): Promise<string> {
    const { code, said } = await this.ask(script, timeout);
    if (code !== 0) throw new Error(`exit code ${code} of: ${script}\n${tail(said, 40)}`);
    return said;
  }

  async until(script: string, timeout = COMMAND): Promise<string> {
    const end = Date.now() + timeout;
    for (;;) {
      const { code, said } = await this.ask(script);
      if (code === 0) return said;
      if (Date.now() > end) throw new Error(`not within ${timeout / 1000} s (exit code ${code}): ${script}\n${tail(said, 40)}`);
      await sleep(500);
    }
  }

  async copyIn(from: string, path: string): Promise<void> {
    const name = `${Date.now()}-${basename(from)}`;
    const shared = this.#at(`share/${name}`);
    await link(from, shared).catch(() => copyFile(from, shared));
    const mount =
      'mkdir -p /run/share; mountpoint -q /run/share || mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,ro share /run/share';
    await this.run(`set -e; ${mount}; mkdir -p "$(dirname '${path}')"; cp --no-preserve=mode '/run/share/${name}' '${path}'`);
    await rm(shared);
  }

  async reboot(): Promise<void> {
    this.#on()
      .shell.run('systemctl reboot', COMMAND)
      .catch(() => undefined);
    await this.#ready();
  }

  async bootInto(release: Release): Promise<void> {
    await this.#start.boot.args(release); // refuses what is not possible, while the machine still runs
    await this.stop(true);
    this.release = release;
    await this.start();
  }

  async serial(): Promise<string> {
    return (await readFile(this.#at('serial'), 'utf8').catch(() => '')).replaceAll('\r', '');
  }
}

/**
 * Boots a machine, and takes it down whatever happens. If `use` fails, the journal, systemd-sysext's status and the serial log are kept in the
 * cache folder, and their ends are part of the error.
 */
export async function withMachine(options: MachineOptions, use: (machine: Machine) => Promise<void>): Promise<void> {
  const { release, arch = hostArch(), memory = 2048, network = false, args = [] } = options;
  const store = openStore();
  const tools = openTools(store);
  await store.withTemp(async (temp) => {
    await mkdir(join(temp, 'share'));
    const images = (options.images ?? []).map(({ image }) => image);
    await using boot = await bootOf(store, tools, await seedOf(options), images, { release, arch, network, temp });
    const accelerator = await acceleratorFor(store, tools, arch, boot);
    const machine = new QemuMachine(tools, release, arch, { boot, accelerator, memory, args, temp });
    try {
      await withFailureLogs(machine, async () => {
        await machine.start();
        await expectRelease(machine);
        await use(machine);
      });
    } finally {
      await machine.stop(false);
    }
  });
}

/** Fails unless the machine runs the release that its images are bound to: an image that a user passes may be of any release. */
async function expectRelease(machine: Machine): Promise<void> {
  const { release } = machine;
  const number = await machine.run('. /usr/lib/os-release; echo "$VERSION_ID"');
  if (number !== release.number)
    throw new UserError(`the machine runs Flatcar ${number}, but the test is for ${release.number}`, { next: `pass --release ${number}` });
}
