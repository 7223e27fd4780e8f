import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, hostArch, hostOf, testExtension, testRelocated, type Host } from '@flatcar/testing';

const folder = '/usr/lib/hypervisor-qemu';
const MESSAGE = 'hello from the guest';

/** A kernel of a few instructions: multiboot, writes the message to the first serial port, and ends QEMU by isa-debug-exit. */
function x86Kernel(): Buffer {
  const at = 0x100000;
  const header = [0x1badb002, 0x10000, -(0x1badb002 + 0x10000) >>> 0, at, at, 0, 0, at + 0x20];
  const code = '66baf803be37001000ac84c07403eeebf866baf400eef4';
  const words = Buffer.alloc(header.length * 4);
  for (const [index, word] of header.entries()) words.writeUInt32LE(word, index * 4);
  return Buffer.concat([words, Buffer.from(code, 'hex'), Buffer.from(`${MESSAGE}\n\0`)]);
}

/** The same for QEMU's `virt`: PL011 at 0x9000000, and PSCI's SYSTEM_OFF. */
function armKernel(): Buffer {
  const code = [0xd2a12001, 0x10000120, 0x38401402, 0x34000062, 0xb9000022, 0x17fffffd, 0x52800100, 0x72b08000, 0xd4000002, 0x14000000];
  const words = Buffer.alloc(code.length * 4);
  for (const [index, word] of code.entries()) words.writeUInt32LE(word, index * 4);
  return Buffer.concat([words, Buffer.from(`${MESSAGE}\n\0`)]);
}

const common = ['-accel', 'tcg', '-m', '64', '-nographic', '-nodefaults', '-serial', 'stdio', '-monitor', 'none', '-no-reboot'];

/** Starts both kernels by the merged QEMU, emulated: KVM needs a guest of the host's architecture. */
async function startKernels(host: Pick<Host, 'run' | 'copyIn'>): Promise<void> {
  const dir = await mkdtemp(join(tmpdir(), 'kernels-'));
  try {
    for (const [name, kernel] of [
      ['x86', x86Kernel()],
      ['arm', armKernel()],
    ] as const) {
      await writeFile(join(dir, name), kernel);
      await host.copyIn(join(dir, name), `/run/${name}`);
    }
    const debugExit = ['-device', 'isa-debug-exit,iobase=0xf4,iosize=4'];
    expect(await host.run(['timeout', '120', 'qemu-system-x86_64', ...common, ...debugExit, '-kernel', '/run/x86'])).toContain(MESSAGE);
    const virt = ['-M', 'virt', '-cpu', 'cortex-a57'];
    expect(await host.run(['timeout', '120', 'qemu-system-aarch64', ...virt, ...common, '-kernel', '/run/arm'])).toContain(MESSAGE);
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

testExtension(import.meta.dirname, {
  machine: { also: (machine) => startKernels(hostOf(machine)) },
  commands: [
    { run: ['qemu-system-x86_64', '--version'], says: 'version' },
    { run: ['qemu-system-aarch64', '--version'], says: 'version' },
  ],
  paths: [
    '/usr/share/OVMF/OVMF_CODE_4M.fd',
    '/usr/share/OVMF/OVMF_VARS_4M.fd',
    '/usr/share/AAVMF/AAVMF_CODE.fd',
    '/usr/share/AAVMF/AAVMF_VARS.fd',
  ],
});

testRelocated(import.meta.dirname, {
  folder,
  tls: [
    {
      run: ({ url }) => ['qemu-img', 'info', `${url}disk.raw`],
      accepts: /didn't report file size/, // it read the answer
      refuses: /certificate/,
    },
  ],
  commands: [
    { run: ['qemu-system-x86_64', '-device', 'help'], says: /virtio-net-pci[^]*virtio-gpu-pci/ },
    { run: ['qemu-system-aarch64', '-machine', 'help'], says: /^virt-10\.0 /m },
    { run: ['qemu-system-x86_64', '-accel', 'help'], says: /tcg/ },
    { run: ['qemu-io', '--version'], says: /^qemu-io version 10/ },
    { run: ['qemu-nbd', '--version'], says: /\bqemu-nbd 10/ },
    { run: ['qemu-storage-daemon', '--version'], says: /^qemu-storage-daemon version 10/ },
    { run: ['/usr/libexec/virtiofsd', '--version'], says: /^virtiofsd 1\.13/ },
    { run: ['qemu-img', 'create', '-f', 'qcow2', '/run/disk.qcow2', '8M'], says: /^Formatting '\/run\/disk\.qcow2', fmt=qcow2/ },
    { run: ['qemu-io', '-c', 'write -P 7 1M 64k', '/run/disk.qcow2'], says: /wrote 65536\/65536 bytes/ },
    { run: ['qemu-img', 'convert', '-O', 'raw', '/run/disk.qcow2', '/run/disk.raw'], says: /^$/ },
    { run: ['qemu-img', 'info', '/run/disk.raw'], says: /file format: raw\nvirtual size: 8 MiB/ },
    { run: ['qemu-img', 'compare', '/run/disk.qcow2', '/run/disk.raw'], says: /^Images are identical\.$/m },
    // A remote disk takes a module that is loaded by name.
    { run: ['qemu-img', 'info', 'https://127.0.0.1:1/none'], says: /CURL: Error opening file/ },
  ],
  also: async (host, arch) => (arch === hostArch() ? startKernels(host) : undefined),
});
