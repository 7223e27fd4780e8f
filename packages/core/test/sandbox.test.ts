// What a program in the sandbox can reach. Each attack is tried twice: without the sandbox, where it must work, and in it, where it must not.
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { exec, openSandbox, openStore, openTools, takeFile, takeFolder, withoutSandbox, type Sandbox } from '@flatcar/core/engine';
import { afterAll, beforeAll, expect, test, type TestContext } from 'vitest';

const store = openStore();
const isRoot = process.geteuid?.() === 0;
const mark = `mark${randomBytes(6).toString('hex')}`;

let dir: string;
let sandbox: Sandbox;
let reached: string[];
let servers: Server[];
let port: number;
let victim: ChildProcess;

async function listen(where: { port: number; host: string } | { path: string }): Promise<Server> {
  const server = createServer((socket) => {
    reached.push('connected');
    socket.end('DONE\n');
  });
  server.listen(where);
  await once(server, 'listening');
  servers.push(server);
  return server;
}

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'sandbox-'));
  sandbox = openSandbox(store, openTools(store));
  [reached, servers] = [[], []];
  port = ((await listen({ port: 0, host: '0.0.0.0' })).address() as AddressInfo).port;
  await listen({ path: `\0${mark}` });
  await mkdir(join(dir, 'home/.ssh'), { recursive: true });
  await writeFile(join(dir, 'home/.ssh/id_test'), 'DONE', { mode: 0o600 });
  await listen({ path: join(dir, 'home/agent') });
  await writeFile(`/dev/shm/${mark}`, 'DONE');
  victim = spawn('sleep', ['600'], { env: { SECRET: mark } });
});
afterAll(async () => {
  victim.kill('SIGKILL');
  for (const server of servers) server.close();
  await rm(`/dev/shm/${mark}`, { force: true });
  await rm(dir, { recursive: true, force: true });
});

/** Perl: it is part of every Debian and Ubuntu, and makes any system call. */
const SYSCALLS = {
  x64: { ptrace: 101, add_key: 248, socket: 41, unshare: 272, bpf: 321 },
  arm64: { ptrace: 117, add_key: 217, socket: 198, unshare: 97, bpf: 280 },
};
const call = SYSCALLS[process.arch === 'arm64' ? 'arm64' : 'x64'];
const read = (path: string): string => `open(my $f, "<", "${path}") or die "$!\\n"; print <$f>`;
const append = (path: string): string => `open(my $f, ">>", "${path}") or die "$!\\n"; print "DONE"`;
const connect = (host: string): string =>
  `use Socket; socket(my $s, PF_INET, SOCK_STREAM, 0) or die "$!\\n"; connect($s, sockaddr_in(${port}, inet_aton("${host}"))) or die "$!\\n"; print <$s>`;
const connectUnix = (path: string): string =>
  `use Socket; socket(my $s, PF_UNIX, SOCK_STREAM, 0) or die "$!\\n"; connect($s, pack_sockaddr_un("${path}")) or die "$!\\n"; print <$s>`;
/** A terminal of its own, with a word typed into it. */
const TYPES = `use POSIX; open(my $m, "+<", "/dev/ptmx") or die "$!\\n"; my $zero = pack("i", 0); ioctl($m, 0x40045431, $zero) or die "$!\\n";
my $n = pack("i", 0); ioctl($m, 0x80045430, $n) or die "$!\\n"; if (fork() == 0) { POSIX::setsid();
open(my $t, "+<", "/dev/pts/" . unpack("i", $n)) or die "$!\\n"; ioctl($t, 0x540e, 0); my $word = "x"; ioctl($t, 0x5412, $word) or die "tty: $!\\n"; print "DONE"; exit 0 } wait`;

interface Attack {
  readonly name: string;
  readonly script: () => string;
  /** Why the control cannot work on some machines. */
  readonly unless?: string;
  readonly root?: boolean;
}
const own = networkInterfaces();
const address = Object.values(own).flatMap((list) => (list ?? []).filter(({ internal, family }) => !internal && family === 'IPv4'))[0]
  ?.address;

const ATTACKS: readonly Attack[] = [
  { name: 'connect to a service on loopback', script: () => connect('127.0.0.1') },
  ...(address === undefined ? [] : [{ name: 'connect to an address of the network', script: () => connect(address) }]),
  { name: 'connect to an abstract unix socket', script: () => connectUnix(`\\0${mark}`) },
  { name: 'connect to the socket of an agent', script: () => connectUnix(join(dir, 'home/agent')) },
  { name: 'read a key in a home folder', script: () => read(join(dir, 'home/.ssh/id_test')) },
  { name: 'read the user database', script: () => 'open(my $f, "<", "/etc/passwd") or die "$!\\n"; print "DONE" if <$f> =~ /root/' },
  {
    name: 'read the environment of another process',
    script: () =>
      `for (glob "/proc/[0-9]*/environ") { open(my $f, "<", $_) or next; local $/; print "DONE" if <$f> =~ /${mark}/ } die "none\\n"`,
  },
  { name: 'see another process', script: () => `-d "/proc/${victim.pid}/fd" and print "DONE" or die "$!\\n"` },
  { name: 'signal another process', script: () => `kill(0, ${victim.pid}) and print "DONE" or die "$!\\n"` },
  {
    name: 'attach to another process',
    script: () => `syscall(${call.ptrace}, 0x4206, ${victim.pid}, 0, 0) == 0 or die "$!\\n"; print "DONE"`,
    unless: 'ptrace is restricted to children here (kernel.yama.ptrace_scope)',
  },
  { name: 'write into the store', script: () => append(join(store.root, 'results', mark)) },
  { name: 'write into the repository', script: () => append(join(import.meta.dirname, mark)) },
  { name: 'write into a home folder', script: () => append(join(dir, 'home', mark)) },
  { name: 'read memory shared by a file', script: () => read(`/dev/shm/${mark}`) },
  {
    name: 'open a device of the machine',
    script: () =>
      'for (glob "/dev/*") { print "DONE" if !-l && (-b || -c) && !m{^/dev/(?:null|zero|full|random|urandom|tty|ptmx|core)$} } die "none\\n"',
    unless: 'this container has no other devices',
  },
  { name: 'type into a terminal', script: () => TYPES, unless: 'the kernel forbids it to all (dev.tty.legacy_tiocsti)' },
  {
    name: 'make a setuid program',
    script: () => 'open(my $f, ">", "x"); close $f; chmod(04755, "x") or die "$!\\n"; (stat "x")[2] & 04000 and print "DONE"',
  },
  {
    name: 'create a setuid program',
    script: () => 'use Fcntl; sysopen(my $f, "y", O_CREAT | O_WRONLY, 04755) or die "$!\\n"; (stat "y")[2] & 04000 and print "DONE"',
  },
  {
    name: 'keep a key in the kernel',
    script: () =>
      `my ($t, $k, $v) = ("user", "${mark}", "v"); syscall(${call.add_key}, $t, $k, $v, 1, -3) >= 0 or die "$!\\n"; print "DONE"`,
  },
  {
    name: 'open a socket that no network namespace contains',
    script: () => `syscall(${call.socket}, 40, 1, 0) >= 0 or die "$!\\n"; print "DONE"`,
    unless: 'the kernel has no AF_VSOCK',
  },
  {
    name: 'load a program into the kernel',
    script: () => `my $attr = pack("LLLLx112", 2, 4, 8, 1); syscall(${call.bpf}, 0, $attr, 16) >= 0 or die "$!\\n"; print "DONE"`,
    unless: 'bpf is restricted',
  },
  {
    name: 'make a user namespace',
    script: () => `syscall(${call.unshare}, 0x10000000) == 0 or die "$!\\n"; print "DONE"`,
    unless: 'user namespaces are restricted',
  },
  {
    name: 'mount a file system',
    script: () => 'exec "unshare", "--user", "--map-root-user", "--mount", "sh", "-c", "mount -t tmpfs x /tmp && echo DONE"',
    unless: 'user namespaces are restricted',
  },
  {
    name: 'change settings of the kernel',
    script: () => 'open(my $f, ">", "/proc/sys/kernel/core_pattern") or die "$!\\n"; print "DONE"',
    root: true,
  },
  { name: 'become root', script: () => 'use POSIX; POSIX::setuid(0) or die "$!\\n"; print "DONE"', root: true },
  { name: 'change the owner of a file', script: () => 'open(my $f, ">", "z"); chown(1, 1, "z") or die "$!\\n"; print "DONE"', root: true },
];

async function tryIt(attack: Attack, box: Sandbox): Promise<string> {
  return store.withTemp(async (work) => (await box.attempt('perl', ['-e', attack.script()], { work })).output);
}

const cleanUp = async (): Promise<void> => {
  for (const path of [join(store.root, 'results', mark), join(import.meta.dirname, mark), join(dir, 'home', mark)])
    await rm(path, { force: true });
};

test.for(ATTACKS)('no program in the sandbox can $name', async (attack, context: TestContext) => {
  if (!existsSync('/usr/bin/perl')) context.skip('perl is not installed');
  if (attack.root === true && !isRoot) context.skip('needs root: nobody else could do it without the sandbox either');
  const control = await tryIt(attack, withoutSandbox());
  await cleanUp();
  if (attack.unless !== undefined && !control.includes('DONE')) context.skip(`${attack.unless}: ${control}`);
  expect(control).toContain('DONE');
  reached.length = 0;
  expect(await tryIt(attack, sandbox)).not.toContain('DONE');
  expect(reached).toEqual([]);
  expect(victim.exitCode ?? victim.signalCode).toBeNull();
});

test('memory and message queues of System V are not shared with the sandbox', async (context: TestContext) => {
  if (!existsSync('/usr/bin/perl')) context.skip('perl is not installed');
  const key = randomBytes(3).readUIntBE(0, 3);
  await exec('perl', [
    '-e',
    `my $id = shmget(${key}, 4, 0600 | 01000); defined $id or die "$!\\n"; shmwrite($id, "DONE", 0, 4) or die "$!\\n"`,
  ]);
  try {
    const script = `my $id = shmget(${key}, 4, 0); defined $id or die "$!\\n"; my $b; shmread($id, $b, 0, 4); print $b`;
    const attack = { name: '', script: () => script };
    expect(await tryIt(attack, withoutSandbox())).toContain('DONE');
    expect(await tryIt(attack, sandbox)).not.toContain('DONE');
  } finally {
    await exec('perl', ['-e', `shmctl(shmget(${key}, 4, 0), 0, 0)`]);
  }
});

test('what a program left running is dead when the sandbox returns, and writes no more', async () => {
  for (const [box, expected] of [
    [withoutSandbox(), true],
    [sandbox, false],
  ] as const)
    await store.withTemp(async (work) => {
      // It must have a session of its own before the shell ends: what stays in the group ends with that.
      const late = `setsid sh -c 'echo >begun; sleep 0.5; : ${mark}; echo late >late' >/dev/null 2>&1 &
        while [ ! -e begun ]; do sleep 0.05; done`;
      await box.run('sh', ['-c', late], { work });
      for (let waited = 0; !existsSync(join(work, 'late')) && waited < (expected ? 20_000 : 2000); waited += 100) await sleep(100);
      expect(existsSync(join(work, 'late'))).toBe(expected);
    });
});

test('a program in the sandbox gets its inputs read-only, its work folder, an empty home and no variable of the caller', async () => {
  process.env['https_proxy'] = `http://user:${mark}@127.0.0.1:9`;
  try {
    await store.withTemp(async (work) => {
      const input = join(dir, 'input');
      await writeFile(input, 'content');
      const options = { work, inputs: [input], env: { GIVEN: 'yes' } };
      expect(await sandbox.run('cat', [input], options)).toBe('content');
      await expect(sandbox.run('sh', ['-c', `echo x >>${input}`], options)).rejects.toThrow(/Read-only file system/);
      await sandbox.run('sh', ['-c', 'echo made >made; echo x >"$TMPDIR/y"; echo x >/tmp/z; echo x >"$HOME/z"'], options);
      expect(await readFile(join(work, 'made'), 'utf8')).toBe('made\n');
      const environment = await sandbox.run('env', [], options);
      expect(
        environment
          .split('\n')
          .map((line) => line.split('=')[0])
          .toSorted(),
      ).toEqual(['GIVEN', 'HOME', 'LC_ALL', 'PATH', 'PWD', 'TMPDIR', 'TZ']);
      expect(await sandbox.run('sh', ['-c', 'ls -A "$HOME"; cat /proc/1/environ'], options)).not.toContain(mark);
      expect(await sandbox.run('sh', ['-c', 'ls -A "$HOME"'], options)).toBe('');
      expect(await sandbox.run('sh', ['-c', 'grep -E "^(CapEff|CapBnd|NoNewPrivs|Seccomp):" /proc/self/status'], options)).toMatch(
        /CapEff:\t0+\nCapBnd:\t0+\nNoNewPrivs:\t1\nSeccomp:\t2/,
      );
    });
  } finally {
    delete process.env['https_proxy'];
  }
});

test('an interrupted program is gone with all that it started', async () => {
  await store.withTemp(async (work) => {
    const controller = new AbortController();
    const script = `trap '' TERM INT; setsid sh -c "trap '' TERM INT; sleep 600; : ${mark}" & echo up >up; sleep 600`;
    const running = sandbox.run('sh', ['-c', script], { work, signal: controller.signal });
    running.catch(() => undefined);
    while (!existsSync(join(work, 'up'))) await sleep(10);
    controller.abort(new Error('stop'));
    await expect(running).rejects.toThrow('stop');
    expect(await exec('sh', ['-c', `ps ax | grep -v grep | grep '[:] ${mark}' || true`])).toBe('');
  });
});

test('a program on trial sees an unpacked system in place of this host, and its failure is no error', async () => {
  await store.withTemp(async (work) => {
    const root = join(dir, 'root');
    const { command } = await openTools(store).command('bwrap');
    await mkdir(join(root, 'usr/bin'), { recursive: true });
    await writeFile(join(root, 'usr/only-here'), 'x');
    await exec('cp', ['-a', join(command, '../../..'), root]); // libraries of the pinned tool
    for (const name of ['cat', 'sh']) await exec('cp', ['-L', `/bin/${name}`, join(root, 'usr/bin')]);
    await symlink('usr/bin', join(root, 'bin')).catch(() => undefined);
    for (const name of ['lib', 'lib64']) await symlink(name === 'lib' ? 'usr/lib' : 'usr/lib64', join(root, name)).catch(() => undefined);
    const tried = (script: string) => sandbox.attempt('/usr/bin/sh', ['-c', script], { work, root, cwd: '/' });
    expect(await tried('echo out; exit 3')).toMatchObject({ exitCode: 3, output: 'out' });
    expect(await tried('echo /usr/*')).toMatchObject({ exitCode: 0, output: expect.stringContaining('/usr/only-here') as string });
    expect(await tried('echo x >/usr/x')).toMatchObject({ exitCode: 2, output: expect.stringContaining('Read-only') as string });
    expect(await tried('echo x >/run/x && echo x >/tmp/x')).toMatchObject({ exitCode: 0 });
  });
});

test('only plain files are taken out of what a build made', async () => {
  const work = await mkdtemp(join(dir, 'work-'));
  const to = join(dir, 'taken');
  await mkdir(join(work, 'out/sub'), { recursive: true });
  await writeFile(join(work, 'out/good'), 'good');
  await takeFile(work, 'out/good', to);
  expect(await readFile(to, 'utf8')).toBe('good');
  await symlink(join(dir, 'home/.ssh/id_test'), join(work, 'out/link'));
  await symlink(join(dir, 'home/.ssh'), join(work, 'ssh'));
  await expect(takeFile(work, 'out/link', to)).rejects.toThrow(/something other than a plain file/);
  await expect(takeFile(work, 'ssh/id_test', to)).rejects.toThrow(/something other than a plain file/);
  await expect(takeFile(work, 'out/missing', to)).rejects.toThrow(/did not make this file/);
  await expect(takeFolder(work, 'out', join(dir, 'folder'))).rejects.toThrow(/leads out/);
  await expect(takeFolder(work, 'ssh', join(dir, 'folder'))).rejects.toThrow(/the build replaced this folder/);
  await rm(join(work, 'out/link'));
  await symlink('../good', join(work, 'out/sub/inside'));
  await chmod(join(work, 'out/good'), 0o4755);
  await expect(takeFolder(work, 'out', join(dir, 'folder'))).rejects.toThrow(/setuid/);
  await chmod(join(work, 'out/good'), 0o755);
  await exec('mkfifo', [join(work, 'out/pipe')]);
  await expect(takeFolder(work, 'out', join(dir, 'folder'))).rejects.toThrow(/something other than files/);
  await rm(join(work, 'out/pipe'));
  await takeFolder(work, 'out', join(dir, 'folder'));
  expect(await readFile(join(dir, 'folder/sub/inside'), 'utf8')).toBe('good');
});
