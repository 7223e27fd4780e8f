// What a new program, which nobody has reviewed, can do when `new` tries it. Each attack is made twice: with nothing around it (or in a chroot of a user
// namespace, which was taken for a boundary once), where it must work, or it would prove nothing; and on trial, where it must not.
import { spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { copyFile, cp, mkdir, mkdtemp, readdir, readFile, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { exec, openSandbox, openStore, openTools, type Sandbox } from '@flatcar/core/engine';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { furnish, openTrial, TRIAL_LIMITS, type Trial, type TrialLimits } from '@flatcar/workspace/new/trial';

const store = openStore();
/** In the command line of each attack, to find what it left. */
const mark = `mark${randomBytes(6).toString('hex')}`;
let dir: string;
let root: string;
let secret: string;
let sandbox: Sandbox;
let server: Server;
let port: number;
let victim: ChildProcess;

/** Perl with its libraries: every Debian and Ubuntu has it, and it makes any system call. */
async function installPerl(): Promise<void> {
  const libraries = (await exec('ldd', ['/usr/bin/perl'])).matchAll(/(\/\S+\.so\S*)/g);
  for (const path of ['/usr/bin/perl', ...[...libraries].map(([, one = '']) => one)]) {
    const at = join(root, path.startsWith('/usr/') ? path : `usr${path}`);
    await mkdir(dirname(at), { recursive: true });
    await copyFile(await realpath(path), at);
  }
  for (const name of ['lib', 'lib64', 'bin']) await symlink(`usr/${name}`, join(root, name)).catch(() => undefined);
}

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'trial-'));
  root = join(dir, 'root');
  secret = join(dir, 'secret');
  await writeFile(secret, 'SECRET');
  await installPerl();
  await furnish(root);
  await mkdir(join(dir, 'work'));
  sandbox = openSandbox(store, openTools(store));
  server = createServer((socket) => void socket.end('SECRET'));
  await new Promise<void>((ready) => void server.listen(0, '127.0.0.1', ready));
  ({ port } = server.address() as AddressInfo);
  victim = spawn('sleep', ['600'], { env: { TOKEN: 'SECRET' } });
}, 120_000);
afterAll(async () => {
  victim.kill('SIGKILL');
  server.close();
  await rm(dir, { recursive: true, force: true });
});

const attempt = (code: string, limits: TrialLimits = TRIAL_LIMITS): Promise<Trial> =>
  openTrial(sandbox, root, join(dir, 'work'), limits)('perl', ['-e', `# ${mark}\n${code}`]);
/** The same with nothing around it. */
const unprotected = (code: string): Promise<string> => exec('perl', ['-e', code]);
/** The same as it was tried once: as root of a user namespace, in a chroot. */
const inChroot = (code: string): Promise<string> =>
  exec('unshare', `--map-root-user --mount --net --pid --fork --kill-child chroot ${root} /usr/bin/perl -e`.split(' ').concat(code));
const call = process.arch === 'arm64' ? { ptrace: 117, unshare: 97, mount: 40 } : { ptrace: 101, unshare: 272, mount: 165 };

test('the program runs, as a user without capabilities that can gain none', async () => {
  const { status, output } = await attempt(
    'open(S, "</proc/self/status"); print grep { /^(Uid|CapEff|CapBnd|NoNewPrivs|Seccomp):/ } <S>; print "end"',
  );
  expect(status).toBe(0);
  expect(output).toMatch(/^Uid:\t1000\t1000\t1000\t1000\nCapEff:\t0{16}\nCapBnd:\t0{16}\nNoNewPrivs:\t1\nSeccomp:\t2\nend$/);
});

test('a chroot in a chroot does not lead out', async ({ skip }) => {
  const up = `for my $at (".", "/tmp", "/var/lib", "/dev/shm") { chdir $at; mkdir "x"; chroot "x"; for (1..64) { chdir ".." } chroot "."; open(F, "<${secret}") and print <F>; }`;
  try {
    // The old way: the root of the image belongs to whoever tried it.
    for (const name of ['tmp', 'dev']) await mkdir(join(root, name), { recursive: true });
    await writeFile(join(root, 'dev/null'), ''); // perl opens it
    expect(await inChroot(up)).toContain('SECRET');
  } catch (error) {
    if (/Operation not permitted|EPERM/.test(String(error))) return skip('this host allows no user namespaces for the control');
    throw error;
  }
  expect((await attempt(up)).output).not.toContain('SECRET');
});

test.for<readonly [string, () => string]>([
  [
    'the root of another process',
    () => `for my $p (${victim.pid ?? 0}, getppid(), 1..100) { open(F, "</proc/$p/root${secret}") and print <F>; }`,
  ],
  [
    'the environment of another process',
    () =>
      `for my $p (${victim.pid ?? 0}, getppid(), 1..100) { next if $p == $$; open(F, "</proc/$p/environ") and print grep { /TOKEN/ } <F>; }`,
  ],
  ['another process, traced', () => `syscall(${call.ptrace}, 0x4206, ${victim.pid ?? 0}, 0, 0) == 0 and print "SECRET"`],
  ['a server on this machine', () => `socket(S, 2, 1, 0) and connect(S, pack("S n C4 x8", 2, ${port}, 127, 0, 0, 1)) and print <S>`],
  ['a file by its path', () => `open(F, "<${secret}") and print <F>`],
  ['a namespace of its own', () => `syscall(${call.unshare}, 0x10000000) == 0 and print "SECRET"`],
])('it does not reach %s', async ([what, code], { skip }) => {
  const reached = await unprotected(code());
  const scope = await readFile('/proc/sys/kernel/yama/ptrace_scope', 'utf8').catch(() => '0');
  if (what.endsWith('traced') && reached === '' && scope.trim() !== '0')
    return skip('this host lets nobody trace others (kernel.yama.ptrace_scope)');
  expect(reached).toContain('SECRET');
  const { status, output } = await attempt(`${code()}; print "end"`);
  expect({ status, output }).toEqual({ status: 0, output: 'end' });
});

test('it writes to nothing but memory', async () => {
  const targets = [
    join(dir, 'written'),
    join(dir, 'work/x'),
    '/usr/bin/x',
    '/etc/x',
    '/var/lib/x',
    '/x',
    '/dev/x',
    '/proc/sys/kernel/core_pattern',
    '/proc/self/oom_score_adj',
  ];
  const write = (paths: readonly string[]): string =>
    paths.map((path) => `open(F, ">>", "${path}") and print F "0" and close(F) and print "${path}\\n";`).join('');
  expect(await unprotected(write(targets.slice(0, 2)))).toBe(targets.slice(0, 2).join('\n'));
  for (const path of targets.slice(0, 2)) await rm(path);
  const { output } = await attempt(write([...targets, '/tmp/x', '/tmp/home/x']));
  // Its own /tmp is in memory, whatever the paths of this host are.
  expect(output.split('\n').filter((path) => !path.startsWith('/tmp/trial-'))).toEqual(['/tmp/x', '/tmp/home/x']);
  expect(await readdir(dir)).not.toContain('written');
  expect(await readdir(join(dir, 'work'))).toEqual(['tmp']);
  expect(await readdir(join(dir, 'work/tmp'))).toEqual([]);
  // What is in memory has a limit.
  const fill = await attempt(
    'open(F, ">/tmp/full"); $SIG{XFSZ} = "IGNORE"; for (1..600) { syswrite(F, "x" x (1 << 20)) or last; $n++ } print $n',
  );
  expect(Number(fill.output)).toBeLessThan(300);
});

test('only harmless devices exist', async () => {
  const { output } = await attempt('opendir(D, "/dev"); print join(" ", sort grep { -b "/dev/$_" or -c "/dev/$_" } readdir D)');
  expect(output).toMatch(/^full null (?:ptmx )?random (?:stdin )?tty urandom zero$/);
});

/** Processes that have the mark in their command line. */
async function left(): Promise<string[]> {
  const found: string[] = [];
  for (const pid of await readdir('/proc'))
    if (/^\d+$/.test(pid) && (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).includes(mark)) found.push(pid);
  return found;
}

test('a program that forks, ignores signals and does not end is killed in time, with its children', async () => {
  const code = `$SIG{TERM} = $SIG{HUP} = $SIG{INT} = "IGNORE"; $| = 1; print "began"; for (1..200) { fork or last } syscall(112); sleep 600;`;
  // The control: it outlives its parent's end.
  const control = spawn('perl', ['-e', `# ${mark}\n${code}`], { stdio: 'ignore' });
  while ((await left()).length < 100) await new Promise((next) => void setTimeout(next, 20));
  control.kill('SIGKILL');
  await new Promise((next) => void setTimeout(next, 200));
  const outlived = await left();
  expect(outlived.length).toBeGreaterThan(50);
  for (const pid of outlived) process.kill(Number(pid), 'SIGKILL');
  while ((await left()).length > 0) await new Promise((next) => void setTimeout(next, 20));

  const began = Date.now();
  const { status } = await attempt(code, { ...TRIAL_LIMITS, time: 2_000 });
  expect(status).toBeUndefined();
  expect(Date.now() - began).toBeLessThan(15_000);
  expect(await left()).toEqual([]);
}, 60_000);

test('a program that prints without end is killed, and its output is cut', async () => {
  const began = Date.now();
  const { status, output } = await attempt('while (1) { print "x" x 65536 }', { time: 60_000, output: 1 << 20 });
  expect(status).not.toBe(0);
  expect(output.length).toBeLessThanOrEqual(2 << 20);
  expect(Date.now() - began).toBeLessThan(20_000);
  expect(await left()).toEqual([]);
}, 60_000);

test('without a sandbox, nothing runs', async () => {
  const none = Object.assign(openTools(store), { command: () => Promise.resolve({ command: '/bin/false', args: [], env: {} }) });
  const written = join(dir, 'ran');
  const image = join(dir, 'other');
  await cp(root, image, { recursive: true, verbatimSymlinks: true });
  const trial = openTrial(openSandbox(store, none), image, join(dir, 'work'));
  await expect(trial('perl', ['-e', `open(F, ">${written}")`])).rejects.toThrow(/runs in a sandbox only, and no sandbox can be set up/);
  expect(await readdir(dir)).not.toContain('ran');
});

test('what tmpfiles.d of an image copies stays in the image', async () => {
  const image = join(dir, 'tmpfiles');
  await mkdir(join(image, 'usr/lib/tmpfiles.d'), { recursive: true });
  await mkdir(join(image, 'usr/share/tool'), { recursive: true });
  await writeFile(join(image, 'usr/share/tool/conf'), 'x');
  const line = (to: string, from: string): string => `C ${to} - - - - ${from}\n`;
  const outside = '/etc/../../written-outside';
  await writeFile(
    join(image, 'usr/lib/tmpfiles.d/tool.conf'),
    line('/etc/tool.conf', '/usr/share/tool/conf') + line(outside, '/usr/share/tool/conf') + line('/etc/secret', '/usr/../../secret'),
  );
  await furnish(image);
  expect((await readdir(join(image, 'etc'))).toSorted()).toEqual(['group', 'passwd', 'tool.conf']);
  expect(await readdir(dir)).not.toContain('written-outside');
});
