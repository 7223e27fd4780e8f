import { existsSync, lstatSync, readFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { basename, dirname, resolve } from 'node:path';
import { UserError } from './errors.ts';

/** The meaning of an errno of the kernel (errno(3)), and the text that C programs print for it. */
interface Meaning {
  /** strerror(3) in the C locale. */
  readonly text: string;
  readonly what: string;
  readonly next: string;
}

const FREE = "free some space ('flatcar-ext cache prune --max-size GiB' for the store), or use a folder on another file system";
const LIMITS = 'raise the limit, or end other programs, and run this again';

const MEANINGS: Readonly<Record<string, Meaning>> = {
  ENOSPC: { text: 'No space left on device', what: 'no space left on the file system (blocks or inodes)', next: FREE },
  EDQUOT: { text: 'Disk quota exceeded', what: 'the disk quota of this user is used up', next: FREE },
  EFBIG: {
    text: 'File too large',
    what: 'the file is larger than the file system or the limit of this shell allows',
    next: "raise 'ulimit -f', or use a file system other than FAT",
  },
  EROFS: {
    text: 'Read-only file system',
    what: 'the file system is read-only',
    next: 'use a folder on another file system, or mount it writable',
  },
  EACCES: { text: 'Permission denied', what: 'permission denied', next: 'use a folder of your own, or have its owner give you access' },
  EPERM: {
    text: 'Operation not permitted',
    what: 'the operation is not permitted',
    next: 'use a folder of your own, or have its owner give you access',
  },
  EMFILE: { text: 'Too many open files', what: 'too many files are open in this process', next: "raise 'ulimit -n' (1024 is enough)" },
  ENFILE: { text: 'Too many open files in system', what: 'too many files are open on this machine', next: LIMITS },
  ENOMEM: {
    text: 'Cannot allocate memory',
    what: 'not enough memory',
    next: 'free some memory, or raise the limit of this container or shell',
  },
  EAGAIN: {
    text: 'Resource temporarily unavailable',
    what: 'no further process can be started',
    next: "raise 'ulimit -u' or the container's limit of processes (pids.max), or end other programs",
  },
  ELOOP: { text: 'Too many levels of symbolic links', what: 'a symbolic link leads back to itself', next: 'remove or correct the link' },
  ENAMETOOLONG: {
    text: 'File name too long',
    what: 'the path is too long',
    next: 'use a shorter path: FLATCAR_EXT_CACHE for the store, --out for images',
  },
  ENOTDIR: { text: 'Not a directory', what: 'a part of the path is a file, not a folder', next: 'use another path, or remove that file' },
  EISDIR: { text: 'Is a directory', what: 'the path is a folder, not a file', next: 'specify a file' },
  ENOTEMPTY: {
    text: 'Directory not empty',
    what: 'the folder is not empty',
    next: 'another process may have written to it meanwhile: run this again',
  },
  ENOENT: {
    text: 'No such file or directory',
    what: 'no such file or folder',
    next: 'check the path; another process may have removed it meanwhile',
  },
  EEXIST: { text: 'File exists', what: 'the path exists already', next: 'remove it, or use another path' },
  EBUSY: {
    text: 'Device or resource busy',
    what: 'the file or folder is in use (such as a mount point)',
    next: 'use another path, or unmount it',
  },
  ETXTBSY: { text: 'Text file busy', what: 'the program is being written', next: 'run this again' },
  EIO: { text: 'Input/output error', what: 'the disk reports an input/output error', next: 'check the disk and the kernel log (dmesg)' },
  EUCLEAN: { text: 'Structure needs cleaning', what: 'the file system is damaged', next: 'check the file system (fsck)' },
  ESTALE: { text: 'Stale file handle', what: 'the network file system lost the file', next: 'mount it again, or use a local folder' },
  ENOTCONN: {
    text: 'Transport endpoint is not connected',
    what: 'the file system in user space has ended',
    next: 'mount it again, or use a local folder',
  },
  ENOLCK: {
    text: 'No locks available',
    what: 'the file system has no locks',
    next: 'set FLATCAR_EXT_CACHE to a folder on a local file system (NFS needs a lock service)',
  },
  ENOTSUP: {
    text: 'Operation not supported',
    what: 'the file system does not support this (locks, extended attributes)',
    next: 'use a folder on a local file system such as ext4, xfs, btrfs or tmpfs',
  },
  EXDEV: {
    text: 'Invalid cross-device link',
    what: 'source and target are on different file systems',
    next: 'use a folder on one file system',
  },
  EMLINK: { text: 'Too many links', what: 'the file has too many links', next: 'use a folder on another file system' },
  ENODEV: { text: 'No such device', what: 'no such device', next: 'check the path' },
  ENXIO: { text: 'No such device or address', what: 'nothing is behind this device, socket or pipe', next: 'check the path' },
  EPIPE: {
    text: 'Broken pipe',
    what: 'the program that reads the output has ended',
    next: 'run this again with a reader that reads to the end',
  },
};
const ALIASES: Readonly<Record<string, string>> = { EOPNOTSUPP: 'ENOTSUP', ENOSYS: 'ENOTSUP' };

const meaningOf = (code: string): Meaning | undefined => MEANINGS[ALIASES[code] ?? code];

/** System calls of the network, by Node's names; all others are about files. */
const NETWORK = /^(?:connect|getaddrinfo|query\w*|listen|bind|accept|shutdown|send\w*|recv\w*)$/;

const nameOf = (uid: number): string => {
  try {
    const line = readFileSync('/etc/passwd', 'utf8')
      .split('\n')
      .find((one) => one.split(':')[2] === String(uid));
    return line === undefined ? `uid ${uid}` : `${line.split(':')[0]} (uid ${uid})`;
  } catch {
    return `uid ${uid}`;
  }
};

/** The path itself, or the nearest existing folder above it. */
function nearest(path: string): string {
  let at = resolve(path);
  while (at !== dirname(at)) {
    try {
      lstatSync(at);
      return at;
    } catch {
      at = dirname(at);
    }
  }
  return at;
}

/** The owner of a file that a user may not change, and how to take it back: after `sudo` the owner is often root. */
function ownership(path: string): { what: string; next: string } | undefined {
  const me = process.geteuid?.() ?? 0;
  if (me === 0) return undefined;
  // The blocker is the path itself, the nearest existing folder, or the folder that contains it.
  const at = nearest(path);
  for (const candidate of [at, dirname(at)]) {
    let owner: number;
    try {
      owner = lstatSync(candidate).uid;
    } catch {
      continue;
    }
    if (owner === me || (owner === 0 && dirname(candidate) === '/')) continue;
    const mine = userName();
    return {
      what: `'${candidate}' belongs to ${nameOf(owner)}, and you are ${mine ?? `uid ${me}`}`,
      next:
        owner === 0
          ? `if a command with sudo left it: sudo chown -R ${me}:${process.getegid?.() ?? me} '${candidate}'; else use a folder of your own`
          : 'use a folder of your own, or have its owner give you access',
    };
  }
  return undefined;
}

function userName(): string | undefined {
  try {
    const { username, uid } = userInfo();
    return `${username} (uid ${uid})`;
  } catch {
    return undefined;
  }
}

/** An error as Node throws it for a failed system call. */
function isErrno(error: unknown): error is NodeJS.ErrnoException & { code: string; dest?: string } {
  if (!(error instanceof Error)) return false;
  const { code, syscall } = error as NodeJS.ErrnoException;
  return (
    typeof code === 'string' && /^E[A-Z0-9]+$/.test(code) && (syscall !== undefined || (error as NodeJS.ErrnoException).errno !== undefined)
  );
}

/** The mount options of a path, such as `noexec`; none without /proc. */
export function mountOptions(path: string): ReadonlySet<string> {
  let mounts: string;
  try {
    mounts = readFileSync('/proc/self/mounts', 'utf8');
  } catch {
    return new Set();
  }
  const unescape = (text: string): string => text.replaceAll(/\\(\d{3})/g, (_, octal: string) => String.fromCodePoint(parseInt(octal, 8)));
  const at = resolve(path);
  let found: { point: string; options: string } | undefined;
  for (const line of mounts.split('\n')) {
    const [, raw = '', , options = ''] = line.split(' ');
    const point = unescape(raw);
    const holds = point === '/' || at === point || at.startsWith(`${point}/`);
    // The last of two mounts on one folder hides the other.
    if (raw !== '' && holds && point.length >= (found?.point.length ?? 0)) found = { point, options };
  }
  return new Set(found?.options.split(',') ?? []);
}

/** The error for a program that did not start: the kernel's reason, and what to do. `install` names the package of a missing program. */
export function describeStart(
  program: string,
  code: string,
  about: { name?: string; cwd?: string | undefined; install?: string | undefined; cause?: unknown } = {},
): UserError {
  const { cwd, cause } = about;
  const name = about.name ?? basename(program);
  const fail = (what: string, next: string | undefined, where = program): UserError => new UserError(what, { where, cause, next });
  if (code === 'ENOENT') {
    // The kernel reports the same number for the working folder, the program, and its loader or interpreter.
    if (cwd !== undefined && !existsSync(cwd))
      return fail(`${name} cannot be run: no such folder`, 'another process may have removed it: run this again', cwd);
    if (program.startsWith('/') && existsSync(program))
      return fail(
        `${name} cannot be run: its interpreter or loader is missing on this machine`,
        'install the interpreter in the first line of the script, or the loader that readelf -l shows',
      );
    return fail(
      `'${name}' is not installed`,
      about.install ?? (program.includes('/') ? undefined : `install the package that has ${name}, or correct PATH`),
    );
  }
  if (['EACCES', 'EPERM'].includes(code) && program.startsWith('/') && mountOptions(program).has('noexec'))
    return fail(
      `${name} cannot be run: its file system is mounted noexec`,
      'the store must allow execution: set FLATCAR_EXT_CACHE to a folder on a file system without noexec',
    );
  const reasons: Readonly<Record<string, [string, string]>> = {
    EACCES: [
      'permission denied',
      'the file must be executable, its file system not mounted noexec (set FLATCAR_EXT_CACHE for the store), and its folders readable',
    ],
    EPERM: ['the operation is not permitted', 'a security policy (SELinux, AppArmor, seccomp) forbids it: see the kernel log'],
    ENOEXEC: ['it is not a program for this machine', 'the file may be damaged (flatcar-ext cache verify) or of another architecture'],
    E2BIG: ['its arguments and environment are too long', 'unset large environment variables, and name fewer files at once'],
  };
  const [what, next] = reasons[code] ?? [meaningOf(code)?.what ?? code, meaningOf(code)?.next];
  return fail(`${name} cannot be run: ${what} (${code})`, next);
}

/**
 * A failed system call as an error that a person can act on: what failed, on which path, what to do. Undefined for anything else,
 * and for errors of the network. `where` is used if the error names no path.
 */
export function describeErrno(error: unknown, where?: string): UserError | undefined {
  if (!isErrno(error)) return undefined;
  const { code, syscall, path, dest } = error;
  if (syscall?.startsWith('spawn') === true) return describeStart(path ?? syscall.slice('spawn '.length), code, { cause: error });
  if (syscall !== undefined && NETWORK.test(syscall)) return undefined;
  const meaning = meaningOf(code);
  if (meaning === undefined) return undefined;
  // A copy or a rename fails at its target, unless the source is missing.
  const at = (dest !== undefined && code !== 'ENOENT' ? dest : path) ?? where;
  const place = path !== undefined && dest !== undefined ? `${path} -> ${dest}` : at;
  const blocked = at !== undefined && ['EACCES', 'EPERM'].includes(code) ? ownership(at) : undefined;
  if (syscall === 'mkdir' && code === 'ENOENT' && at !== undefined && existsSync(dirname(resolve(at))))
    return new UserError('no folder can be made here (mkdir: ENOENT)', {
      where: at,
      next: 'use a folder on another file system',
      cause: error,
    });
  const doing = syscall === undefined ? '' : ` (${syscall}: ${code})`;
  return new UserError(`${meaning.what}${doing}${blocked === undefined ? '' : `: ${blocked.what}`}`, {
    where: place,
    next: blocked?.next ?? meaning.next,
    cause: error,
  });
}

/** Any thrown value as a UserError, if it is one or a failed system call, or was caused by one. */
export function asUserError(error: unknown, where?: string): UserError | undefined {
  for (let at = error, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth += 1) {
    if (at instanceof UserError) return at;
    const described = describeErrno(at, where);
    if (described !== undefined) return described;
  }
  return undefined;
}

const OF_THE_SYSTEM = new Set('ENOSPC EDQUOT EFBIG EROFS EACCES EPERM EMFILE ENFILE ENOMEM EAGAIN EIO EUCLEAN ESTALE ENOTCONN'.split(' '));

/**
 * A failed system call that is about this machine and not about the file being read, which is not damaged then. `where` is used if the error
 * names no path, like that of a stream.
 */
export function systemFailure(error: unknown, where?: string): UserError | undefined {
  return isErrno(error) && OF_THE_SYSTEM.has(error.code) ? describeErrno(error, where) : undefined;
}

/** Advice for a failure of the system that a tool printed (strerror in the C locale); undefined if it printed none. */
export function adviceFor(output: string): string | undefined {
  const texts: [RegExp, string][] = [
    [/Cannot fork|fork: retry|fork failed|failed to create new OS thread|pthread_create failed/i, MEANINGS['EAGAIN']?.next ?? ''],
    [/out of memory|memory exhausted|std::bad_alloc|allocation of \d+ bytes failed/i, MEANINGS['ENOMEM']?.next ?? ''],
  ];
  for (const code of ['ENOSPC', 'EDQUOT', 'EFBIG', 'EROFS', 'ENFILE', 'EMFILE', 'ENOMEM', 'EIO', 'EUCLEAN', 'ESTALE', 'ENAMETOOLONG']) {
    const meaning = MEANINGS[code];
    if (meaning !== undefined) texts.push([new RegExp(RegExp.escape(meaning.text), 'i'), meaning.next]);
  }
  return texts.find(([text]) => text.test(output))?.[1];
}
