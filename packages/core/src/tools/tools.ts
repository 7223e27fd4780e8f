import { access, constants, readdir, rm } from 'node:fs/promises';
import { basename, delimiter, dirname, join } from 'node:path';
import { type Arch, archWords, hostArch } from '../model/arch.ts';
import { openArchive, type Archive } from '../debian/archive.ts';
import type { DebianPackage } from '../debian/packages.ts';
import { envOf } from '../util/env.ts';
import { UserError } from '../util/errors.ts';
import { DEFAULT_PATH, exec, type ExecOptions } from '../util/exec.ts';
import { digestOf } from '../util/digest.ts';
import type { Store } from '../store/store.ts';
import type { Report } from '../util/events.ts';
import type { ToolRecord } from '../model/payload.ts';
import { unpackPackage, type Command } from '../store/unpack.ts';
import { readToolPins, type ToolPins } from './pins.ts';

/** Pinned programs in the store; programs of the host never decide the bytes of an image. */
export interface Tools {
  /** Runs a tool and returns its standard output. */
  run(tool: string, args: readonly string[], options?: ExecOptions): Promise<string>;
  /** The command that starts a tool. */
  command(tool: string): Promise<Command>;
  /** The packages that a tool consists of, for cache keys and build records. */
  record(tool: string): Promise<ToolRecord[]>;
  /** A Go to start with: the host's, else a pinned one. It only fetches the pinned toolchain and never decides bytes. */
  bootstrapGo(): Promise<string>;
}

interface Installed {
  readonly dir: string;
  /** True for static programs: they start without the loader of a C library. */
  readonly isStatic: boolean;
  readonly program: string;
  readonly records: ToolRecord[];
}

function pinnedTool(pins: ToolPins, tool: string): ToolPins['tools'][string] {
  const pinned = pins.tools[tool];
  if (pinned === undefined)
    throw new UserError(`'${tool}' is not a pinned tool`, { next: `pinned: ${Object.keys(pins.tools).join(', ')}` });
  return pinned;
}

/** The pinned packages that a tool consists of on a host architecture. */
function pinnedPackages(pins: ToolPins, tool: string, host: Arch): DebianPackage[] {
  return pinnedTool(pins, tool).packages.map((name) => {
    const pin = pins.packages[host][name];
    if (pin === undefined) throw new UserError(`package ${name} is not pinned for ${host}`, { next: 'run scripts/pin/tools.ts' });
    return { name, ...pin };
  });
}

/** A tool as it is pinned for a host architecture; an installed tool differs only if a package has left the archive and was replaced. */
export async function pinnedToolRecord(tool: string, host: Arch): Promise<ToolRecord[]> {
  const packages = pinnedPackages(await readToolPins(), tool, host);
  return packages.map(({ name, version, sha256 }) => ({ name, version, sha256, status: 'pinned' }));
}

/** The path of a program of the host, if it is on PATH. */
export async function onPath(program: string): Promise<string | undefined> {
  for (const dir of (envOf('PATH') ?? DEFAULT_PATH).split(delimiter)) {
    const path = join(dir, program);
    const isExecutable = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (isExecutable) return path;
  }
  return undefined;
}

class PinnedTools implements Tools {
  private readonly arch = hostArch();
  private readonly store: Store;
  private readonly archive: Archive;
  private readonly pins: ToolPins | undefined;
  private readonly installing = new Map<string, Promise<Installed>>();

  constructor(store: Store, archive: Archive, pins: ToolPins | undefined) {
    this.store = store;
    this.archive = archive;
    this.pins = pins;
  }

  async run(tool: string, args: readonly string[], options?: ExecOptions): Promise<string> {
    const { command, args: startArgs, env } = await this.command(tool);
    return exec(command, args, { name: tool, startArgs, ...options, env: { ...env, ...options?.env } });
  }

  /** Starts a tool through its own dynamic loader and libraries, so that neither the host's C library nor root is needed. */
  async command(tool: string): Promise<Command> {
    const { dir, program, isStatic } = await this.installed(tool);
    const env = { OPENSSL_CONF: '/dev/null' }; // libcrypto would read the host's
    if (isStatic) return { command: program, args: [], env };
    const { triplet, loader } = archWords(this.arch);
    const libraries = ['', '/systemd'].map((folder) => join(dir, 'usr/lib', triplet + folder)).join(':');
    return {
      command: join(dir, 'usr/lib', triplet, basename(loader)),
      args: ['--inhibit-cache', '--library-path', libraries, '--argv0', tool, program],
      env,
    };
  }

  async record(tool: string): Promise<ToolRecord[]> {
    return (await this.installed(tool)).records;
  }

  async bootstrapGo(): Promise<string> {
    return (await onPath('go')) ?? (await this.installed('go')).program;
  }

  private installed(tool: string): Promise<Installed> {
    const known = this.installing.get(tool);
    if (known !== undefined) return known;
    const started = this.install(tool);
    this.installing.set(tool, started);
    started.catch(() => this.installing.delete(tool));
    return started;
  }

  private async install(tool: string): Promise<Installed> {
    const pins = this.pins ?? (await readToolPins());
    const wanted = pinnedTool(pins, tool);
    const from = { suite: pins.suite, snapshot: pins.snapshot, arch: this.arch };
    const fetched = await Promise.all(pinnedPackages(pins, tool, this.arch).map((one) => this.archive.fetch(one, from)));
    const records = fetched.map(({ package: { name, version, sha256 }, status }) => ({ name, version, sha256, status }));
    // Tools of the same packages share a result.
    const key = digestOf({ number: 2, packages: records.map(({ sha256 }) => sha256) });
    const { dir } = await this.store.result('tools', key, async (fresh) => {
      // xz cannot unpack itself.
      const decompressor = tool === 'xz' || pins.tools['xz'] === undefined ? undefined : (kind: string) => this.command(kind);
      for (const { file } of fetched) await unpackPackage(file, fresh, { decompressor });
      // Other programs of these packages are removed: qemu-user has one of 7 MB for each of 40 architectures.
      const kept = new Set(Object.values(pins.tools).map(({ program }) => basename(program)));
      const folder = dirname(join(fresh, wanted.program));
      for (const name of await readdir(folder)) if (!kept.has(name)) await rm(join(folder, name), { recursive: true });
    });
    return { dir, isStatic: !wanted.packages.includes('libc6'), program: join(dir, wanted.program), records };
  }
}

/** Opens the tools for the architecture of this host; nothing is fetched before it is needed. */
export function openTools(store: Store, report: Report = () => undefined, from: { pins?: ToolPins; archive?: Archive } = {}): Tools {
  return new PinnedTools(store, from.archive ?? openArchive(store, report), from.pins);
}
