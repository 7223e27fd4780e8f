import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ARCHES, archWords, expect, hostArch, testExtension, type Arch, type Host, type Machine } from '@flatcar/testing';

const other = ARCHES.find((arch) => arch !== hostArch()) ?? 'arm64';
const emulator = `qemu-${archWords(other).machine}`;
const MESSAGE = 'hello from another architecture\n';

/** A static program of a few instructions: writes the message to standard output, and ends with 0. */
function program(arch: Arch): Buffer {
  const code =
    arch === 'arm64'
      ? // mov x0,1; adr x1,msg; mov x2,length; mov x8,64 (write); svc; mov x0,0; mov x8,93 (exit); svc
        [0xd2800020, 0x100000e1, 0xd2800002 | (MESSAGE.length << 5), 0xd2800808, 0xd4000001, 0xd2800000, 0xd2800ba8, 0xd4000001]
          .map((word) => (word >>> 0).toString(16).padStart(8, '0').match(/../g)?.toReversed().join(''))
          .join('')
      : // mov eax,1 (write); mov edi,1; lea rsi,msg; mov edx,length; syscall; mov eax,60 (exit); xor edi,edi; syscall
        `b801000000bf01000000488d3510000000ba${MESSAGE.length.toString(16).padStart(2, '0')}0000000f05b83c00000031ff0f05`;
  const text = Buffer.concat([Buffer.from(code, 'hex'), Buffer.from(MESSAGE)]);
  const headers = Buffer.alloc(120); // elf(5): the header, and one segment that holds the file
  headers.write('7f454c46020101', 'hex');
  for (const [at, value] of [
    [16, 2],
    [18, archWords(arch).elf],
    [52, 64],
    [54, 56],
    [56, 1],
    [64, 1],
    [68, 5],
  ] as const)
    headers.writeUInt16LE(value, at);
  headers.writeUInt32LE(1, 20);
  const size = headers.length + text.length;
  for (const [at, value] of [
    [24, 0x400078],
    [32, 64],
    [80, 0x400000],
    [88, 0x400000],
    [96, size],
    [104, size],
    [112, 0x10000],
  ] as const)
    headers.writeBigUInt64LE(BigInt(value), at);
  return Buffer.concat([headers, text]);
}

const isThere = (path: string): string => `[ -e ${path} ]`;

/** Registers the merged files and runs a program of the other architecture; takes the entry away again: it is the whole machine's. */
async function runForeign(host: Host): Promise<void> {
  const table = '/proc/sys/fs/binfmt_misc';
  const entry = `${table}/${emulator}`;
  await host.run(['sh', '-c', `${isThere(`${table}/status`)} || mount -t binfmt_misc binfmt_misc ${table}`]);
  await host.run(['sh', '-c', `! ${isThere(entry)} || echo -1 >${entry}`]);
  const dir = await mkdtemp(join(tmpdir(), 'binfmt-'));
  try {
    await writeFile(join(dir, 'foreign'), program(other), { mode: 0o755 });
    await host.copyIn(join(dir, 'foreign'), '/run/foreign');
    expect(await host.run(['/run/foreign']), 'this machine cannot run it by itself').not.toBe(MESSAGE.trim());
    expect(await host.run(['/usr/lib/systemd/systemd-binfmt', `${emulator}.conf`])).toBe('');
    const interpreter = String.raw`\/usr\/libexec\/qemu-binfmt\/\w+-binfmt-P`;
    expect(await host.run(['cat', entry])).toMatch(new RegExp(`^enabled\ninterpreter ${interpreter}\nflags: \\w*F`));
    expect(await host.run(['/run/foreign'])).toBe(MESSAGE.trim());
    // In a root without any emulator, as a container has it: the kernel opened it when it was registered.
    expect(await host.run(['sh', '-c', 'mkdir -p /run/empty && cp /run/foreign /run/empty && chroot /run/empty /foreign'])).toBe(
      MESSAGE.trim(),
    );
  } finally {
    await host.run(['sh', '-c', `! ${isThere(entry)} || echo -1 >${entry}`]);
    await rm(dir, { recursive: true, force: true });
  }
}

/** In a booted machine the service has registered it. */
async function runRegistered(machine: Machine): Promise<void> {
  const dir = await mkdtemp(join(tmpdir(), 'binfmt-'));
  try {
    await writeFile(join(dir, 'foreign'), program(ARCHES.find((arch) => arch !== machine.arch) ?? 'arm64'));
    await machine.copyIn(join(dir, 'foreign'), '/run/empty/foreign');
    expect(await machine.run('chmod +x /run/empty/foreign && /run/empty/foreign')).toBe(MESSAGE.trim());
    expect(await machine.run('chroot /run/empty /foreign')).toBe(MESSAGE.trim());
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

testExtension(import.meta.dirname, {
  commands: [
    { run: ['qemu-riscv64', '--version'], says: 'version' },
    { run: ['qemu-s390x', '--version'], says: 'version' },
  ],
  units: ['qemu-binfmt.service'],
  machine: { active: ['qemu-binfmt.service'], also: runRegistered },
  also: async (host, arch) => {
    // What a machine runs by itself is neither brought nor registered.
    expect(await host.exists(`/usr/bin/qemu-${archWords(arch).machine}`)).toBe(false);
    expect(await host.exists(`/usr/lib/binfmt.d/qemu-${archWords(arch).machine}.conf`)).toBe(false);
    if (arch === hostArch()) await runForeign(host);
  },
});
