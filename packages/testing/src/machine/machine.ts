import { copyFile, link, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  cacheRoot,
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
} from '@flatcar/core/engine';
import { bootOf } from './os.ts';
import { acceleratorFor, startQemu, type Qemu } from './qemu.ts';
import type { Seed } from './seed.ts';
import { shellOver, type Answer, type Shell } from './shell.ts';

/** An image, and the name under which it is linked on the node; its own unless said. */
export interface Delivered {
  readonly image: Image;
  readonly link?: string;
}

/** What a machine starts with. */
export interface MachineOptions {
  /** Which Flatcar it is. */
  readonly release: Release;
  readonly arch?: Arch;
  readonly images?: readonly Delivered[];
  readonly seed?: Seed;
  /** MiB; 2048 unless said. */
  readonly memory?: number;
  /** A network of its own, on which this machine is 10.0.2.2; none unless said. */
  readonly network?: boolean;
  /** More arguments of QEMU. */
  readonly args?: readonly string[];
}

/** The shell word of an argument. */
export const quote = (word: string): string => `'${word.replaceAll("'", `'\\''`)}'`;

/** A running machine. */
export interface Machine {
  readonly release: Release;
  readonly arch: Arch;
  /** Runs a bash script as root and gives all it says; an exit code other than 0 is an error. */
  run(script: string, timeout?: number): Promise<string>;
  /** Runs a bash script, whatever its exit code. */
  ask(script: string, timeout?: number): Promise<Answer>;
  /** Repeats a script until it succeeds; gives what it said then. */
  until(script: string, timeout?: number): Promise<string>;
  /** Copies a file of this machine to a path in it. */
  copyIn(from: string, path: string): Promise<void>;
  /** Reboots, as `systemctl reboot` does. */
  reboot(): Promise<void>;
  /** Shuts it down and starts it with another /usr, as an update of the OS or its rollback does. */
  bootInto(release: Release): Promise<void>;
  /** What the kernel and systemd wrote to the serial console. */
  serial(): Promise<string>;
}

/** Folder of images on a node, and the names of their links. */
export const imagePath = ({ image }: Delivered): string => `/opt/extensions/${image.extension}/${basename(image.file)}`;
export const linkPath = ({ image, link: name }: Delivered): string => {
  const [target = 'portable'] = selectTargets(image.target);
  return `${linkFolder(image.kind)}/${name ?? linkName(image.extension, target)}`;
};

/** Times in milliseconds; without KVM a busy host may take many minutes for a boot, and a test must not judge that. */
const BOOT = 2_700_000;
const COMMAND = 300_000;

/** How QEMU's last words begin when it was ended by a signal. */
const CRASHED = 'QEMU ended (killed)';

/** Words on the console after which no boot succeeds. */
const LOST =
  /Kernel panic|You are in emergency mode|Boot has failed|Emergency Mode|Cannot open access to console|Failed to start initrd-switch-root/;

const AGENT = '/opt/test-agent/agent';

/** Images, as a node gets them by Ignition: files below /opt/extensions and links in /etc, and the tests' shell. */
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

/** The end of a log, with what repeats the least worth left out. */
const tail = (text: string, lines: number): string => text.trimEnd().split('\n').slice(-lines).join('\n');

/** Where logs of failed machines are kept. */
const logFolder = (): string => join(cacheRoot(), 'machine-logs');

/**
 * Boots a machine, and takes it down whatever happens. When `use` fails, the journal, systemd-sysext's status and the
 * serial log are kept in the cache folder, and their ends are part of the error.
 */
export async function withMachine(options: MachineOptions, use: (machine: Machine) => Promise<void>): Promise<void> {
  const { arch = hostArch(), memory = 2048, network = false } = options;
  const store = openStore();
  const tools = openTools(store);
  await store.withTemp(async (temp) => {
    const at = (name: string): string => join(temp, name);
    await mkdir(at('share'));
    const images = (options.images ?? []).map(({ image }) => image);
    await using boot = await bootOf(store, tools, await seedOf(options), images, { release: options.release, arch, network, temp });
    const accelerator = await acceleratorFor(store, tools, arch, boot);
    let release = options.release;
    let running: { shell: Shell; qemu: Qemu } | undefined;

    async function start(): Promise<void> {
      const qemu = await startQemu(tools, {
        arch, accelerator, memory, cpus: 2, firmware: boot.firmware,
        args: [
          ...(await boot.args(release)), ...(options.args ?? []),
          '-chardev', `file,id=serial,path=${at('serial')},append=on`, '-serial', 'chardev:serial',
          '-chardev', 'stdio,id=shell,signal=off', '-device', 'virtio-serial-pci', '-device', 'virtserialport,chardev=shell,name=shell',
          '-virtfs', `local,path=${at('share')},mount_tag=share,security_model=none,readonly=on`,
          '-device', 'virtio-rng-pci',
        ],
      }); // prettier-ignore
      running = { shell: shellOver(qemu.input, qemu.output), qemu };
      await ready();
    }

    /** QEMU's translator has been seen to abort on busy hosts; that says nothing of what is tested, so the machine is started once more, and it is told. */
    async function startAgain(): Promise<void> {
      await start().catch(async (error: unknown) => {
        if (!(error instanceof Error) || !error.message.startsWith(CRASHED)) throw error;
        console.error(`${error.message}\nQEMU itself crashed: the machine is started once more`);
        running = undefined;
        await start();
      });
    }

    /** Waits for the agent; QEMU's own end and a boot that can no longer succeed end the wait early. */
    async function ready(): Promise<void> {
      if (running === undefined) throw new Error('the machine is off');
      const { shell, qemu } = running;
      const before = serialSeen;
      const over = new AbortController();
      const ended = qemu.ended.then((words): never => {
        throw new Error(words);
      });
      const lost = async (): Promise<never> => {
        for (;;) {
          await sleep(2000, undefined, { signal: over.signal });
          const found = LOST.exec((await serial()).slice(before));
          if (found !== null) throw new Error(`the machine does not come up: ${found[0]}`);
        }
      };
      const losing = lost();
      for (const one of [ended, losing]) one.catch(() => undefined); // only the first to end counts
      try {
        await Promise.race([shell.ready(BOOT), ended, losing]);
        serialSeen = (await serial()).length;
      } finally {
        over.abort();
      }
    }
    let serialSeen = 0;
    const serial = async (): Promise<string> => (await readFile(at('serial'), 'utf8').catch(() => '')).replaceAll('\r', '');

    async function stop(clean: boolean): Promise<void> {
      if (running === undefined) return;
      const { qemu, shell } = running;
      running = undefined;
      if (clean) {
        shell.run('systemctl poweroff', COMMAND).catch(() => undefined);
        const late = setTimeout(() => qemu.kill(), COMMAND);
        await qemu.ended;
        clearTimeout(late);
      } else qemu.kill();
      await qemu.ended;
    }

    const ask = async (script: string, timeout = COMMAND): Promise<Answer> => {
      if (running === undefined) throw new Error('the machine is off');
      const { shell, qemu } = running;
      const lost = qemu.ended.then((words): never => {
        throw new Error(`${words}, while the machine ran: ${script}`);
      });
      lost.catch(() => undefined);
      return Promise.race([shell.run(script, timeout), lost]);
    };
    const machine: Machine = {
      get release() {
        return release;
      },
      arch,
      ask,
      async run(script, timeout) {
        const { code, said } = await ask(script, timeout);
        if (code !== 0) throw new Error(`exit code ${code} of: ${script}\n${tail(said, 40)}`);
        return said;
      },
      async until(script, timeout = COMMAND) {
        const end = Date.now() + timeout;
        for (;;) {
          const { code, said } = await ask(script);
          if (code === 0) return said;
          if (Date.now() > end) throw new Error(`not within ${timeout / 1000} s (exit code ${code}): ${script}\n${tail(said, 40)}`);
          await sleep(500);
        }
      },
      async copyIn(from, path) {
        const name = `${Date.now()}-${basename(from)}`;
        await link(from, at(`share/${name}`)).catch(() => copyFile(from, at(`share/${name}`)));
        const mount =
          'mkdir -p /run/share; mountpoint -q /run/share || mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,ro share /run/share';
        await machine.run(`set -e; ${mount}; mkdir -p "$(dirname '${path}')"; cp --no-preserve=mode '/run/share/${name}' '${path}'`);
        await rm(at(`share/${name}`));
      },
      async reboot() {
        if (running === undefined) throw new Error('the machine is off');
        running.shell.run('systemctl reboot', COMMAND).catch(() => undefined);
        await ready();
      },
      async bootInto(next) {
        await boot.args(next); // refuses what cannot be, while the machine still runs
        await stop(true);
        release = next;
        await startAgain();
      },
      serial,
    };
    try {
      await explained(machine, async () => {
        await startAgain();
        await isRelease(machine);
        await use(machine);
      });
    } finally {
      await stop(false);
    }
  });
}

/** Fails unless the machine runs the release that its images are bound to: an image at hand may be of any. */
async function isRelease(machine: Machine): Promise<void> {
  const { release } = machine;
  const number = await machine.run('. /usr/lib/os-release; echo "$VERSION_ID"');
  if (number !== release.number)
    throw new UserError(`the machine runs Flatcar ${number}, and the test is of ${release.number}`, { next: `give --release ${number}` });
}

/** An error that already tells what the machine's logs say. */
class MachineError extends Error {}

/** Does something with a machine; when that fails, the logs are kept and their ends are part of the error. */
export async function explained(machine: Machine, use: () => Promise<void>): Promise<void> {
  try {
    await use();
  } catch (error) {
    if (error instanceof MachineError) throw error;
    const what = await autopsy(machine).catch((cause: unknown) => `no more could be learnt: ${String(cause)}`);
    throw new MachineError(`${error instanceof Error ? error.message : String(error)}\n${what}`, { cause: error });
  }
}

/** Keeps the logs of a failed machine, and gives their ends. */
async function autopsy(machine: Machine): Promise<string> {
  const folder = join(logFolder(), new Date().toISOString().replaceAll(/[:.]/g, '-'));
  await mkdir(folder, { recursive: true });
  const parts: string[] = [];
  for (const [name, script] of [
    ['journal', 'journalctl --boot --no-pager --output=short-monotonic'],
    ['status', 'systemd-sysext status --no-pager; systemd-confext status --no-pager; systemctl --failed --no-pager'],
  ] as const) {
    const said = await machine
      .ask(script, 60_000)
      .then(({ said: text }) => text)
      .catch(() => undefined);
    if (said === undefined) continue;
    await writeFile(join(folder, name), said);
    parts.push(`--- ${name}\n${name === 'journal' ? tail(warnings(said), 25) : tail(said, 25)}`);
  }
  const log = await machine.serial();
  await writeFile(join(folder, 'serial'), log);
  if (parts.length === 0) parts.push(`--- serial\n${tail(log, 40)}`);
  return [...parts, `whole logs: ${folder}`].join('\n');
}

/** Lines of a journal that tell of trouble. */
const warnings = (journal: string): string =>
  journal
    .split('\n')
    .filter((line) => /fail|error|denied|refus|incompatible|ignor|warn/i.test(line))
    .join('\n');
