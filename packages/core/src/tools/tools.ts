import { access, constants, readdir, readFile, rm } from 'node:fs/promises';
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

/** data/tools.json: which packages make which tool, all its libraries included, and their pins for both kinds of host. Written by scripts/pin/tools.ts. */
export interface ToolPins {
  readonly suite: string;
  /** Timestamp at which the snapshot archive has all of these. */
  readonly snapshot: string;
  readonly tools: Readonly<Record<string, { readonly program: string; readonly packages: readonly string[] }>>;
  readonly packages: Readonly<Record<Arch, Readonly<Record<string, Omit<DebianPackage, 'name'>>>>>;
}

/** Pinned programs out of the store; the host's own never decide the bytes of an image. */
export interface Tools {
  /** Runs a tool and returns its standard output. */
  run(tool: string, args: readonly string[], options?: ExecOptions): Promise<string>;
  /** How a tool is started by others. */
  command(tool: string): Promise<Command>;
  /** The packages that a tool consists of, for cache keys and build records. */
  record(tool: string): Promise<ToolRecord[]>;
  /** A Go to begin with: the host's, else a pinned one. It only fetches the pinned toolchain and never decides bytes. */
  bootstrapGo(): Promise<string>;
}

interface Installed {
  readonly dir: string;
  /** True for programs that bring no C library: they are static and start by themselves. */
  readonly isStatic: boolean;
  readonly program: string;
  readonly records: ToolRecord[];
}

/** Reads data/tools.json. */
export async function readToolPins(): Promise<ToolPins> {
  return JSON.parse(await readFile(new URL('data/tools.json', import.meta.url), 'utf8')) as ToolPins;
}

/** The packages that a tool consists of on a kind of host, and their pins. */
function pinnedPackages(pins: ToolPins, tool: string, host: Arch): DebianPackage[] {
  const wanted = pins.tools[tool];
  if (wanted === undefined) throw new UserError(`'${tool}' is no pinned tool`, { next: `pinned: ${Object.keys(pins.tools).join(', ')}` });
  return wanted.packages.map((name) => {
    const pin = pins.packages[host][name];
    if (pin === undefined) throw new UserError(`package ${name} is not pinned for ${host}`, { next: 'run scripts/pin/tools.ts' });
    return { name, ...pin };
  });
}

/** A tool as it is pinned for a kind of host; what was installed differs from it only where a package stands in for another. */
export async function pinnedToolRecord(tool: string, host: Arch): Promise<ToolRecord[]> {
  const packages = pinnedPackages(await readToolPins(), tool, host);
  return packages.map(({ name, version, sha256 }) => ({ name, version, sha256, status: 'pinned' }));
}

/** The host's program, if it is on PATH. */
export async function onPath(program: string): Promise<string | undefined> {
  for (const dir of (envOf('PATH') ?? DEFAULT_PATH).split(delimiter)) {
    const path = join(dir, program);
    const runs = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (runs) return path;
  }
  return undefined;
}

/** Gives the tools of this host's architecture; nothing is fetched before it is asked for. */
export function openTools(store: Store, report: Report = () => undefined, from: { pins?: ToolPins; archive?: Archive } = {}): Tools {
  const arch = hostArch();
  const archive = from.archive ?? openArchive(store, report);
  const installing = new Map<string, Promise<Installed>>();

  async function install(tool: string): Promise<Installed> {
    const pins = from.pins ?? (await readToolPins());
    const wanted = pins.tools[tool];
    if (wanted === undefined) throw new UserError(`'${tool}' is no pinned tool`, { next: `pinned: ${Object.keys(pins.tools).join(', ')}` });
    const packages = pinnedPackages(pins, tool, arch);
    const fetched = await Promise.all(packages.map((one) => archive.fetch(one, { suite: pins.suite, snapshot: pins.snapshot, arch })));
    const records = fetched.map(({ package: { name, version, sha256 }, status }) => ({ name, version, sha256, status }));
    // Tools of the same packages share a result.
    const { dir } = await store.result('tools', digestOf({ number: 2, packages: records.map(({ sha256 }) => sha256) }), async (fresh) => {
      // xz cannot unpack itself.
      const decompressor = tool === 'xz' || pins.tools['xz'] === undefined ? undefined : command;
      for (const { file } of fetched) await unpackPackage(file, fresh, { decompressor });
      // Other programs of these packages are not kept: qemu-user has one of 7 MB for each of 40 architectures.
      const kept = new Set(Object.values(pins.tools).map(({ program }) => basename(program)));
      const folder = dirname(join(fresh, wanted.program));
      for (const name of await readdir(folder)) if (!kept.has(name)) await rm(join(folder, name), { recursive: true });
    });
    return { dir, isStatic: !wanted.packages.includes('libc6'), program: join(dir, wanted.program), records };
  }

  const installed = (tool: string): Promise<Installed> => {
    const there = installing.get(tool);
    if (there !== undefined) return there;
    const started = install(tool);
    installing.set(tool, started);
    started.catch(() => installing.delete(tool));
    return started;
  };

  /** Through its own dynamic loader and libraries, so that the host's C library does not matter and root is not needed. */
  async function command(tool: string): Promise<{ command: string; args: string[]; env: Record<string, string> }> {
    const { dir, program, isStatic } = await installed(tool);
    const env = { OPENSSL_CONF: '/dev/null' }; // libcrypto would read the host's
    if (isStatic) return { command: program, args: [], env };
    const { triplet, loader } = archWords(arch);
    const libraries = ['', '/systemd'].map((folder) => join(dir, 'usr/lib', triplet + folder)).join(':');
    return {
      command: join(dir, 'usr/lib', triplet, loader.split('/').at(-1) ?? ''),
      args: ['--inhibit-cache', '--library-path', libraries, '--argv0', tool, program],
      env,
    };
  }

  return {
    async run(tool, args, options) {
      const start = await command(tool);
      return exec(start.command, args, { name: tool, startArgs: start.args, ...options, env: { ...start.env, ...options?.env } });
    },
    command,
    record: async (tool) => (await installed(tool)).records,
    bootstrapGo: async () => (await onPath('go')) ?? (await installed('go')).program,
  };
}
