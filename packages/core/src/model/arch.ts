import { UsageError, UserError } from '../util/errors.ts';

/** An architecture, in systemd's words (`ARCHITECTURE=` of os-release(5), `%a` of sysupdate.d(5)). */
export type Arch = 'x86-64' | 'arm64';

/** The architectures that are built, in the order in which they are shown. */
export const ARCHES: readonly Arch[] = ['x86-64', 'arm64'];

/** An architecture in the words of other projects. */
interface Words {
  /** GOARCH, also Debian and most release files. */
  readonly go: string;
  /** dpkg's name. */
  readonly debian: string;
  /** uname -m, also Rust's and GNU's. */
  readonly machine: string;
  /** e_machine of ELF (elf.h: EM_X86_64, EM_AARCH64). */
  readonly elf: number;
  /** GNU triplet, also Debian's multiarch folder. */
  readonly triplet: string;
  /** Flatcar's board. */
  readonly board: string;
  /** Path of the dynamic loader (the psABIs). */
  readonly loader: string;
}

const words: Readonly<Record<Arch, Words>> = {
  'x86-64': {
    go: 'amd64',
    debian: 'amd64',
    machine: 'x86_64',
    elf: 62,
    triplet: 'x86_64-linux-gnu',
    board: 'amd64-usr',
    loader: 'lib64/ld-linux-x86-64.so.2',
  },
  arm64: {
    go: 'arm64',
    debian: 'arm64',
    machine: 'aarch64',
    elf: 183,
    triplet: 'aarch64-linux-gnu',
    board: 'arm64-usr',
    loader: 'lib/ld-linux-aarch64.so.1',
  },
};

/** The names of an architecture in Go, Debian, ELF and Flatcar. */
export function archWords(arch: Arch): Words {
  return words[arch];
}

/** The architecture of this machine. Throws a UserError if it is not supported. */
export function hostArch(): Arch {
  if (process.arch === 'x64') return 'x86-64';
  if (process.arch === 'arm64') return 'arm64';
  throw new UserError(`this machine is ${process.arch}; images are made on x86-64 and arm64 only`);
}

/** Reads an architecture in any usual spelling (`amd64`, `x86_64`, `aarch64`). Throws a UsageError for anything else. */
export function parseArch(text: string): Arch {
  for (const arch of ARCHES) {
    const { go, machine } = words[arch];
    if (text === arch || text === go || text === machine) return arch;
  }
  throw new UsageError(`unknown architecture '${text}'`, { next: `use ${ARCHES.join(' or ')}` });
}
