import { existsSync } from 'node:fs';
import { chmod, copyFile, lstat, mkdir, readdir, readFile, readlink, realpath, rename, writeFile } from 'node:fs/promises';
import { basename, dirname, isAbsolute, join, resolve } from 'node:path';
import { hostArch } from '../model/arch.ts';
import { messageOf, UserError } from '../util/errors.ts';
import { DEFAULT_PATH, exec, execResult, type ExecOptions, type ExecResult } from '../util/exec.ts';
import { throwIfInterrupted } from '../util/interrupt.ts';
import { seccompFilter } from './seccomp.ts';
import { digestOf } from '../util/digest.ts';
import type { Store } from '../store/store.ts';
import { onPath, type Tools } from './tools.ts';

/** Options for a program in the sandbox. */
export interface SandboxOptions extends Pick<ExecOptions, 'name' | 'report' | 'next' | 'signal' | 'maxOutput'> {
  /** The only writable folder, at its own path: a temporary one (Store.withTemp), never a result or a checkout. */
  readonly work: string;
  /** True for a program that writes nothing: it does not see `work`, and can write only to file systems in memory, within their limits. */
  readonly readOnly?: boolean;
  /** Readable files and folders, each at its own path; they must not contain secrets. */
  readonly inputs?: readonly string[];
  /** An unpacked system that the program sees as /, read-only, instead of this host's /usr. */
  readonly root?: string;
  /** Working folder; `work` by default. */
  readonly cwd?: string;
  /** Variables besides PATH, HOME (empty), TMPDIR, the C locale and UTC. No other variable of the caller is passed. */
  readonly env?: Readonly<Record<string, string>>;
}

/**
 * Runs other people's code: compilers, their build scripts, programs on trial.
 *
 * ```ts
 * const sandbox = openSandbox(store, tools);
 * await store.withTemp(async (work) => {
 *   await sandbox.run('sh', ['-eu', script], { work, inputs: [script, toolchain], env: { OUT: join(work, 'out') } });
 *   const { exitCode, output } = await sandbox.attempt('/usr/bin/program', ['--version'], {
 *     work,
 *     root: unpackedImage,
 *     signal: AbortSignal.timeout(10_000),
 *   });
 * });
 * ```
 *
 * A program has user, mount, pid, net, ipc, uts and cgroup namespaces of its own: no network but an empty loopback, no other process, no socket, no
 * home. It sees this host's /usr, its inputs (read-only) and `work` (read-write), a fresh /proc (read-only), five harmless devices and an empty /tmp
 * in memory. It has no capability, cannot gain any (no_new_privs), and a seccomp filter refuses what namespaces do not hide (seccomp.ts). All of its
 * processes are dead when `run` returns, so that the content of `work` no longer changes. That content is hostile: copy files from it only with
 * `takeFile` or `takeFolder`.
 */
export interface Sandbox {
  /** False with `--no-sandbox`: its results must never be published, or be used as results of a sandbox. */
  readonly isolates: boolean;
  /** Runs a command and returns its standard output. Throws as exec does, and a UserError with advice if no sandbox can be set up. */
  run(command: string, args: readonly string[], options: SandboxOptions): Promise<string>;
  /** Runs a command and returns how it ended: a program on trial may fail. */
  attempt(command: string, args: readonly string[], options: SandboxOptions): Promise<ExecResult>;
}

/** Who sets up the namespaces: the caller through a user namespace, or root through sudo, who becomes the caller again before anything else runs. */
type Privilege = 'user' | 'sudo';

/** The uid and gid inside, the same for all callers: there is no user database. */
const ID = '1000';
const HOME = '/tmp/home';
/** The environment of the programs that set up the sandbox, which is readable through process 1. */
const OUTSIDE = { HOME: '/' };
const MIB = 1 << 20;

/**
 * The outermost shell: limits (no core files; processes, by the letter that bash or dash uses for them), and the filter as descriptor 9.
 */
const LIMITS = 'ulimit -c 0; { ulimit -u 8192 || ulimit -p 8192; } 2>/dev/null; exec 9<"$1"; shift';
const START = `${LIMITS}; exec "$@"`;
/** Under sudo only root can signal the program: it ends when its input ends, which we hold. */
const START_HELD = `${LIMITS}; exec 8<&0; "$@" </dev/null 8<&- & child=$!
{ read -r _ <&8; kill -KILL $child; } 2>/dev/null 9<&- >/dev/null & held=$!
wait $child; code=$?; kill $held 2>/dev/null; exit $code`;
/**
 * Process 1 of the namespace: when it ends, the kernel ends all others before it reports the end. Under sudo it stays root, because a change of the
 * user would reset the signal by which it ends with bwrap (PR_SET_PDEATHSIG).
 */
const FIRST = '"$@"; exit $?';

/** Namespaces other than the user's, which are all required (`-try`: kernels without cgroups), and an end with this process. */
const NAMESPACES =
  '--unshare-ipc --unshare-pid --unshare-net --unshare-uts --unshare-cgroup-try --die-with-parent --new-session --seccomp 9';
/** A user namespace without capabilities. */
const AS_USER = `--unshare-user --uid ${ID} --gid ${ID} --cap-drop ALL`;
/** No user namespace; the capabilities that bwrap needs to enter folders of the caller, and setpriv to become the caller. */
const AS_ROOT = '--cap-drop ALL --cap-add CAP_DAC_READ_SEARCH --cap-add CAP_SETUID --cap-add CAP_SETGID --cap-add CAP_SETPCAP';
/**
 * /proc is read-only: files of /proc/sys belong to the machine, and root could write to them without any capability. File systems in memory have
 * a limit.
 */
const KERNEL = [
  '--hostname sandbox --proc /proc --dev /dev --remount-ro /proc',
  `--size ${64 * MIB} --perms 1777 --tmpfs /dev/shm --remount-ro /dev`,
  `--size ${256 * MIB} --perms 1777 --tmpfs /tmp --perms 1777 --dir ${HOME}`,
].join(' ');

/** The options of bwrap for the namespaces and file systems of a sandbox. */
async function confine({ root, work, readOnly, inputs = [] }: SandboxOptions, privilege: Privilege): Promise<string[]> {
  const sorted = inputs.toSorted((a, b) => a.length - b.length); // folders before their content
  const fixed = [privilege === 'user' ? AS_USER : AS_ROOT, NAMESPACES].join(' ').split(' ');
  const files = root === undefined ? await hostFiles() : await filesOf(root);
  const writable = readOnly === true ? [] : [work];
  const parents = parentsOf([...sorted, ...writable]).flatMap((path) => ['--perms', '0755', '--dir', path]);
  const readable = sorted.flatMap((path) => ['--ro-bind', path, path]);
  const bound = writable.flatMap((path) => ['--bind', path, path]);
  return [...fixed, ...files, ...KERNEL.split(' '), ...parents, ...readable, ...bound, '--remount-ro', '/'];
}

/** All folders above paths, from the top: bwrap would make them accessible to root only. */
function parentsOf(paths: readonly string[]): string[] {
  const found = new Set<string>();
  for (const path of paths) for (let at = dirname(path); at !== dirname(at); at = dirname(at)) found.add(at);
  return [...found].toSorted((a, b) => a.length - b.length);
}

const EMPTY = new Set(['dev', 'proc', 'sys', 'tmp', 'run']);

/** The top-level entries of an unpacked system, except those that are separate file systems in every system. */
async function filesOf(root: string): Promise<string[]> {
  const names = (await readdir(root)).filter((name) => !EMPTY.has(name));
  const found = names.map(async (name) => {
    const path = join(root, name);
    return (await lstat(path)).isSymbolicLink() ? ['--symlink', await readlink(path), `/${name}`] : ['--ro-bind', path, `/${name}`];
  });
  return [...(await Promise.all(found)).flat(), '--size', String(64 * MIB), '--perms', '1777', '--tmpfs', '/run'];
}

/** This host's programs and libraries; of /etc only links and the list of libraries. */
async function hostFiles(): Promise<string[]> {
  const links = ['bin', 'sbin', 'lib', 'lib32', 'lib64', 'libx32'].map(async (name) => {
    const status = await lstat(`/${name}`).catch(() => undefined);
    if (status === undefined) return [];
    return status.isSymbolicLink() ? ['--symlink', await readlink(`/${name}`), `/${name}`] : ['--ro-bind', `/${name}`, `/${name}`];
  });
  const etc = ['/etc/alternatives', '/etc/ld.so.cache', '/etc/ld.so.conf', '/etc/ld.so.conf.d'];
  return ['--ro-bind', '/usr', '/usr', ...(await Promise.all(links)).flat(), ...etc.flatMap((path) => ['--ro-bind-try', path, path])];
}

/** The environment inside. */
function environment({ env }: SandboxOptions, tmpdir: string): string[] {
  const all = { PATH: DEFAULT_PATH, HOME, TMPDIR: tmpdir, LC_ALL: 'C', TZ: 'UTC', ...env };
  return ['--clearenv', ...Object.entries(all).flatMap(([name, value]) => ['--setenv', name, value])];
}

/** Arguments of setpriv by which root irrevocably becomes the caller again. */
function becomeCaller(): string[] {
  const ids = ['--reuid', String(process.getuid?.() ?? ID), '--regid', String(process.getgid?.() ?? ID), '--clear-groups'];
  return [...ids, '--bounding-set=-all', '--inh-caps=-all', '--no-new-privs', '--'];
}

/** A setting of the kernel; undefined if it does not exist. */
const setting = (name: string): Promise<string | undefined> =>
  readFile(`/proc/sys/${name}`, 'utf8').then(
    (text) => text.trim(),
    () => undefined,
  );

/** Advice for a machine on which only root can make user namespaces. */
async function adviceFor(loader: string): Promise<string> {
  const otherwise = 'or pass --no-sandbox: other people’s code then runs as you, and its results cannot be published';
  if ((await setting('kernel/apparmor_restrict_unprivileged_userns')) === '1') {
    const profile = `profile flatcar-ext-sandbox ${dirname(loader).replace(/[0-9a-f]{64}/, '*')}/ld-linux-*.so.* flags=(unconfined) { userns, }`;
    return `AppArmor restricts user namespaces: write 'abi <abi/4.0>, include <tunables/global> ${profile}' to /etc/apparmor.d/flatcar-ext-sandbox and run 'sudo apparmor_parser -r /etc/apparmor.d/flatcar-ext-sandbox'; or 'sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0'; or give this user passwordless sudo; ${otherwise}`;
  }
  if ((await setting('kernel/unprivileged_userns_clone')) === '0')
    return `run 'sudo sysctl kernel.unprivileged_userns_clone=1'; or give this user passwordless sudo; ${otherwise}`;
  if ((await setting('user/max_user_namespaces')) === '0')
    return `run 'sudo sysctl user.max_user_namespaces=15000'; or give this user passwordless sudo; ${otherwise}`;
  if (existsSync('/.dockerenv') || existsSync('/run/.containerenv'))
    return `start this container with --security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined; ${otherwise}`;
  return `allow this user to make user namespaces; ${otherwise}`;
}

class BwrapSandbox implements Sandbox {
  readonly isolates = true;
  private readonly store: Store;
  private readonly tools: Tools;
  private privilege: Promise<Privilege> | undefined;

  constructor(store: Store, tools: Tools) {
    this.store = store;
    this.tools = tools;
  }

  async run(command: string, args: readonly string[], options: SandboxOptions): Promise<string> {
    const { program, how } = await this.prepare(command, options);
    return exec(program, args, how);
  }

  async attempt(command: string, args: readonly string[], options: SandboxOptions): Promise<ExecResult> {
    const { program, how } = await this.prepare(command, options);
    return execResult(program, args, how);
  }

  private async prepare(command: string, options: SandboxOptions): Promise<{ program: string; how: ExecOptions }> {
    this.privilege ??= this.findPrivilege();
    this.privilege.catch(() => (this.privilege = undefined)); // such as an interruption
    const privilege = await this.privilege;
    const [program, ...startArgs] = await this.start(options, privilege);
    const { name = basename(command), report, next, signal, maxOutput } = options;
    const how = {
      name,
      report,
      next,
      signal,
      maxOutput,
      startArgs: [...startArgs, command],
      holdInput: privilege === 'sudo',
      env: OUTSIDE,
    };
    return { program, how };
  }

  /** The command line that starts a program, without the program itself. */
  private async start(options: SandboxOptions, privilege: Privilege): Promise<[string, ...string[]]> {
    const bwrap = await this.tools.command('bwrap');
    const setpriv = privilege === 'sudo' ? await this.tools.command('setpriv') : undefined;
    const toolDirs = setpriv === undefined ? [] : [resolve(setpriv.command, '../../../..')];
    const isBuild = options.root === undefined;
    await mkdir(join(options.work, 'tmp'), { recursive: true });
    const line = [
      await this.filter(),
      bwrap.command,
      ...bwrap.args,
      ...(await confine({ ...options, inputs: [...(options.inputs ?? []), ...toolDirs] }, privilege)),
      ...environment(options, isBuild ? join(options.work, 'tmp') : '/tmp'),
      '--chdir',
      options.cwd ?? options.work,
      ...(isBuild ? ['--as-pid-1'] : []),
      '--',
      ...(isBuild ? ['/bin/sh', '-c', FIRST, 'sh'] : []),
      ...(setpriv === undefined ? [] : [setpriv.command, ...setpriv.args, ...becomeCaller()]),
    ];
    return privilege === 'sudo' ? ['sudo', '-n', '--', 'sh', '-c', START_HELD, 'sh', ...line] : ['sh', '-c', START, 'sh', ...line];
  }

  private async filter(): Promise<string> {
    const bytes = seccompFilter(hostArch());
    const { dir } = await this.store.result('sandbox', digestOf({ filter: bytes.toString('hex') }), (fresh) =>
      writeFile(join(fresh, 'seccomp.bpf'), bytes),
    );
    return join(dir, 'seccomp.bpf');
  }

  /** The privilege by which a sandbox can be set up on this host. Throws a UserError with advice if there is none. */
  private async findPrivilege(): Promise<Privilege> {
    const own = await this.failureOf('user');
    if (own === undefined) return 'user';
    throwIfInterrupted();
    const hasSudo = process.geteuid?.() !== 0 && (await onPath('sudo')) !== undefined;
    const bySudo = hasSudo ? await this.failureOf('sudo') : undefined;
    if (hasSudo && bySudo === undefined) return 'sudo';
    const { command } = await this.tools.command('bwrap');
    const reasons = [own, ...(bySudo === undefined ? [] : [`sudo: ${bySudo}`])].map((text) => text.split('\n').slice(0, 4).join('; '));
    throw new UserError(`other people's code runs in a sandbox only, and no sandbox can be set up: ${reasons.join(' / ')}`, {
      next: await adviceFor(command),
    });
  }

  /** The reason why no sandbox can be set up by a privilege; undefined if one can. */
  private async failureOf(privilege: Privilege): Promise<string | undefined> {
    return this.store.withTemp(async (work) => {
      const [command, ...startArgs] = await this.start({ work }, privilege);
      return exec(command, ['true'], { name: 'bwrap', startArgs, holdInput: privilege === 'sudo', env: OUTSIDE }).then(
        () => undefined,
        (error: unknown) => messageOf(error),
      );
    });
  }
}

/** Opens the sandbox of this host; nothing is fetched or tried before the first use. */
export function openSandbox(store: Store, tools: Tools): Sandbox {
  return new BwrapSandbox(store, tools);
}

/** The sandbox of `--no-sandbox`: runs programs as the caller, with the caller's files and network. */
export function withoutSandbox(): Sandbox {
  async function prepare(options: SandboxOptions): Promise<ExecOptions> {
    const { work, cwd = work, env, name, report, next, signal, root } = options;
    if (root !== undefined)
      throw new UserError('programs of an image run in a sandbox only', { next: 'omit --no-sandbox, or do not try them' });
    const [home, tmp] = [join(work, 'home'), join(work, 'tmp')];
    for (const dir of [home, tmp]) await mkdir(dir, { recursive: true });
    return { name, report, next, signal, cwd, env: { PATH: DEFAULT_PATH, HOME: home, TMPDIR: tmp, ...env } };
  }
  return {
    isolates: false,
    run: async (command, args, options) => exec(command, args, await prepare(options)),
    attempt: async (command, args, options) => execResult(command, args, await prepare(options)),
  };
}

/** Part of the key of a compiled program: a build in a sandbox never uses a result without one. Undefined does not change the key. */
export const isolation = ({ isolates }: Sandbox): 'none' | undefined => (isolates ? undefined : 'none');

/** Copies a program from the work folder of a sandbox. Throws a UserError for anything but a plain file: a link could name any file of this host. */
export async function takeFile(work: string, path: string, to: string): Promise<void> {
  const from = join(work, path);
  const status = await lstat(from).catch(() => undefined);
  if (status === undefined) throw new UserError('the build did not make this file', { where: path });
  if (!status.isFile() || (await realpath(from)) !== join(await realpath(work), path))
    throw new UserError('the build made something other than a plain file', { where: path });
  await copyFile(from, to);
  await chmod(to, 0o755);
}

/**
 * Moves a folder from the work folder of a sandbox. Throws a UserError for anything but files, folders and links that stay in the folder, and
 * for files with setuid or setgid.
 */
export async function takeFolder(work: string, path: string, to: string): Promise<void> {
  const from = join(work, path);
  const real = join(await realpath(work), path);
  if ((await realpath(from)) !== real) throw new UserError('the build replaced this folder', { where: path });
  for (const entry of await readdir(from, { recursive: true, withFileTypes: true })) {
    const file = join(entry.parentPath, entry.name);
    const where = file.slice(work.length + 1);
    const isLink = entry.isSymbolicLink();
    if (!isLink && !entry.isFile() && !entry.isDirectory())
      throw new UserError('the build made something other than files, folders and links', { where });
    if (isLink && !(await staysIn(file, real))) throw new UserError('the build made a link that leads out of its folder', { where });
    if (entry.isFile() && ((await lstat(file)).mode & 0o6000) !== 0) throw new UserError('the build made a setuid program', { where });
  }
  await rename(from, to);
}

async function staysIn(link: string, folder: string): Promise<boolean> {
  if (isAbsolute(await readlink(link))) return false;
  const real = await realpath(link).catch(() => '');
  return real === folder || real.startsWith(`${folder}/`);
}
