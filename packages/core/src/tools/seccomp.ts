import type { Arch } from '../model/arch.ts';

/** Errors that a filtered call returns (errno(3)). */
const EPERM = 1;
const ENOSYS = 38;
const EAFNOSUPPORT = 97;

/**
 * Calls that no compiler needs and that reach more of the kernel than the namespaces hide, with their numbers on x86-64 and arm64
 * (arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h). The calls for mounts need a capability, which only a new user
 * namespace could provide: both are refused.
 */
const REFUSED: Readonly<Record<string, Readonly<Partial<Record<Arch, number>>>>> = {
  acct: { 'x86-64': 163, arm64: 89 },
  add_key: { 'x86-64': 248, arm64: 217 },
  bpf: { 'x86-64': 321, arm64: 280 },
  chroot: { 'x86-64': 161, arm64: 51 },
  delete_module: { 'x86-64': 176, arm64: 106 },
  finit_module: { 'x86-64': 313, arm64: 273 },
  fsconfig: { 'x86-64': 431, arm64: 431 },
  fsmount: { 'x86-64': 432, arm64: 432 },
  fsopen: { 'x86-64': 430, arm64: 430 },
  fspick: { 'x86-64': 433, arm64: 433 },
  init_module: { 'x86-64': 175, arm64: 105 },
  io_uring_enter: { 'x86-64': 426, arm64: 426 },
  io_uring_register: { 'x86-64': 427, arm64: 427 },
  io_uring_setup: { 'x86-64': 425, arm64: 425 },
  ioperm: { 'x86-64': 173 },
  iopl: { 'x86-64': 172 },
  kexec_file_load: { 'x86-64': 320, arm64: 294 },
  kexec_load: { 'x86-64': 246, arm64: 104 },
  keyctl: { 'x86-64': 250, arm64: 219 },
  mount: { 'x86-64': 165, arm64: 40 },
  mount_setattr: { 'x86-64': 442, arm64: 442 },
  move_mount: { 'x86-64': 429, arm64: 429 },
  name_to_handle_at: { 'x86-64': 303, arm64: 264 },
  open_by_handle_at: { 'x86-64': 304, arm64: 265 },
  open_tree: { 'x86-64': 428, arm64: 428 },
  open_tree_attr: { 'x86-64': 467, arm64: 467 },
  perf_event_open: { 'x86-64': 298, arm64: 241 },
  pivot_root: { 'x86-64': 155, arm64: 41 },
  quotactl: { 'x86-64': 179, arm64: 60 },
  reboot: { 'x86-64': 169, arm64: 142 },
  request_key: { 'x86-64': 249, arm64: 218 },
  setns: { 'x86-64': 308, arm64: 268 },
  swapoff: { 'x86-64': 168, arm64: 225 },
  swapon: { 'x86-64': 167, arm64: 224 },
  syslog: { 'x86-64': 103, arm64: 116 },
  umount2: { 'x86-64': 166, arm64: 39 },
  unshare: { 'x86-64': 272, arm64: 97 },
  userfaultfd: { 'x86-64': 323, arm64: 282 },
};

/** Calls with arguments behind a pointer, which a filter cannot read: programs fall back to the older call on ENOSYS. */
const UNKNOWN: Readonly<Record<string, Readonly<Partial<Record<Arch, number>>>>> = {
  clone3: { 'x86-64': 435, arm64: 435 },
  openat2: { 'x86-64': 437, arm64: 437 },
};

/** CLONE_NEW* of clone(2), without CLONE_NEWTIME, which only clone3 accepts. */
const NEW_NAMESPACES = 0x7e02_0000;
/** S_ISUID and S_ISGID: a file with one of these on the host's disk would run as its owner for every user. */
const SET_ID = 0o6000;
/** O_CREAT and O_TMPFILE: the mode is an argument only with one of these. */
const CREATES = 0x40_0040;
/** ioctl(2) requests that type into a terminal (TIOCSTI, TIOCLINUX). */
const TYPES = [0x5412, 0x541c];
/** AF_UNIX, AF_INET, AF_INET6, AF_NETLINK: a network namespace isolates these. AF_VSOCK reaches the host of a virtual machine from any namespace. */
const SOCKETS = [1, 2, 10, 16];

/** AUDIT_ARCH_* (linux/audit.h). */
const AUDIT_ARCH: Readonly<Record<Arch, number>> = { 'x86-64': 0xc000_003e, arm64: 0xc000_00b7 };
/** Bit of the numbers of x32 calls. */
const X32 = 0x4000_0000;

/** One instruction (struct sock_filter of linux/filter.h). */
type Instruction = readonly [code: number, jumpTrue: number, jumpFalse: number, k: number];
const load = (offset: number): Instruction => [0x20, 0, 0, offset];
/** Skips the next instructions unless the loaded word is `k`. */
const unlessEqual = (k: number, skip: number): Instruction => [0x15, 0, skip, k];
const unlessAnyBit = (k: number, skip: number): Instruction => [0x45, 0, skip, k];
const unlessAtLeast = (k: number, skip: number): Instruction => [0x35, 0, skip, k];
const fail = (errno: number): Instruction => [0x06, 0, 0, 0x0005_0000 | errno];
const ALLOW: Instruction = [0x06, 0, 0, 0x7fff_0000];
/** Offset of the low word of an argument in struct seccomp_data. */
const argument = (index: number): Instruction => load(16 + 8 * index);

/** Instructions for one call; they end in a return, so that the next number is compared with the loaded one. */
function when(numbers: Readonly<Partial<Record<Arch, number>>>, arch: Arch, then: readonly Instruction[]): Instruction[] {
  const number = numbers[arch];
  return number === undefined ? [] : [unlessEqual(number, then.length), ...then];
}

/**
 * A seccomp filter (classic BPF, struct sock_filter[]) for bwrap's --seccomp. It refuses calls of other architectures, calls that
 * change mounts, namespaces, keys, modules and the machine, typing into a terminal, files with setuid or setgid, and sockets that a network
 * namespace does not isolate.
 */
export function seccompFilter(arch: Arch): Buffer {
  const failIfSetId = (mode: number): Instruction[] => [argument(mode), unlessAnyBit(SET_ID, 1), fail(EPERM), ALLOW];
  const failIfCreatesSetId = (flags: number, mode: number): Instruction[] => [
    argument(flags),
    unlessAnyBit(CREATES, 3),
    argument(mode),
    unlessAnyBit(SET_ID, 1),
    fail(EPERM),
    ALLOW,
  ];
  const program = [
    load(4),
    [0x15, 1, 0, AUDIT_ARCH[arch]] as const,
    fail(ENOSYS),
    load(0),
    ...(arch === 'x86-64' ? [unlessAtLeast(X32, 1), fail(ENOSYS)] : []),
    ...Object.values(REFUSED).flatMap((numbers) => when(numbers, arch, [fail(EPERM)])),
    ...Object.values(UNKNOWN).flatMap((numbers) => when(numbers, arch, [fail(ENOSYS)])),
    ...when({ 'x86-64': 56, arm64: 220 }, arch, [argument(0), unlessAnyBit(NEW_NAMESPACES, 1), fail(EPERM), ALLOW]), // clone
    ...when({ 'x86-64': 16, arm64: 29 }, arch, [argument(1), ...TYPES.flatMap((type) => [unlessEqual(type, 1), fail(EPERM)]), ALLOW]), // ioctl
    ...when({ 'x86-64': 41, arm64: 198 }, arch, [
      argument(0),
      ...SOCKETS.flatMap((family) => [unlessEqual(family, 1), ALLOW]),
      fail(EAFNOSUPPORT),
    ]), // socket
    ...when({ 'x86-64': 90 }, arch, failIfSetId(1)), // chmod
    ...when({ 'x86-64': 91, arm64: 52 }, arch, failIfSetId(1)), // fchmod
    ...when({ 'x86-64': 268, arm64: 53 }, arch, failIfSetId(2)), // fchmodat
    ...when({ 'x86-64': 452, arm64: 452 }, arch, failIfSetId(2)), // fchmodat2
    ...when({ 'x86-64': 133 }, arch, failIfSetId(1)), // mknod
    ...when({ 'x86-64': 259, arm64: 33 }, arch, failIfSetId(2)), // mknodat
    ...when({ 'x86-64': 85 }, arch, failIfSetId(1)), // creat
    ...when({ 'x86-64': 2 }, arch, failIfCreatesSetId(1, 2)), // open
    ...when({ 'x86-64': 257, arm64: 56 }, arch, failIfCreatesSetId(2, 3)), // openat
    ALLOW,
  ];
  const bytes = Buffer.alloc(program.length * 8);
  for (const [index, [code, jumpTrue, jumpFalse, k]] of program.entries()) {
    bytes.writeUInt16LE(code, index * 8);
    bytes.writeUInt8(jumpTrue, index * 8 + 2);
    bytes.writeUInt8(jumpFalse, index * 8 + 3);
    bytes.writeUInt32LE(k >>> 0, index * 8 + 4);
  }
  return bytes;
}
