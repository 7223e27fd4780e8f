// Where the sandbox gets its namespaces from: the caller's own right, root by sudo, or nobody.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, chown, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { exec, hostArch, openStore, openToolchains, openTools } from '@flatcar/core/engine';
import { afterAll, beforeAll, expect, test, type TestContext } from 'vitest';

const isRoot = process.geteuid?.() === 0;
const UID = 61_025; // of no package of Debian (policy 9.2.2)
const CHILD = join(import.meta.dirname, 'helpers/sandbox-child.ts');
const store = openStore();

let dir: string;
/** bwrap as AppArmor lets an ordinary user of Ubuntu 24.04 run it: only root gets namespaces. */
let restricted: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'sandbox-privilege-'));
  await chmod(dir, 0o755);
  const { command, args } = await openTools(store).command('bwrap');
  restricted = join(dir, 'bwrap');
  const start = [command, ...args].map((word) => `'${word.replace(store.root, join(dir, 'store'))}'`).join(' ');
  const refuse = `[ "$(id -u)" = 0 ] || { echo 'bwrap: setting up uid map: Permission denied' >&2; exit 1; }`;
  await writeFile(restricted, `#!/bin/sh\n${refuse}\nexec ${start} "$@"\n`, { mode: 0o755 });
});
afterAll(() => rm(dir, { recursive: true, force: true }));

interface Ended {
  readonly code: number | null;
  readonly said: string;
}
async function ended(child: ChildProcess): Promise<Ended> {
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk: Buffer) => (said += chunk.toString()));
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, said };
}

/** What `sudo -n` does for a user who needs no password, and nothing else of sudo: a setuid program that becomes root and closes descriptors. */
const SUDO = `#include <unistd.h>
#include <grp.h>
int main(int argc, char **argv) {
  if (argc < 4 || setgroups(0, 0) || setgid(0) || setuid(0)) return 1;
  for (int fd = 3; fd < 256; fd++) close(fd);
  execvp(argv[3], argv + 3);
  return 127;
}
`;

/** A store and a sudo that an ordinary user can use; skips the test where this is not possible. */
async function ordinaryUser(context: TestContext): Promise<{ env: NodeJS.ProcessEnv; work: string }> {
  if (!isRoot) context.skip('needs root, to make a program setuid');
  const folder = join(dir, 'store');
  if (!existsSync(folder)) {
    await openTools(store).command('setpriv');
    await mkdir(join(folder, 'results'), { recursive: true });
    await exec('cp', ['-a', join(store.root, 'results/tools'), join(folder, 'results')]);
    await exec('chown', ['-R', `${UID}:${UID}`, folder]);
    const { bin } = await openToolchains(store).c(hostArch());
    await writeFile(join(dir, 'sudo.c'), SUDO);
    await exec(join(bin, 'cc'), ['-static', '-o', join(dir, 'sudo'), join(dir, 'sudo.c')]);
    await chmod(join(dir, 'sudo'), 0o4755);
  }
  const env = { PATH: `${dir}:/usr/bin:/bin`, HOME: '/', FLATCAR_EXT_CACHE: folder };
  const work = await mkdtemp(join(dir, 'work-'));
  await chown(work, UID, UID);
  const reads = await ended(
    spawn('sh', ['-c', `test -r '${CHILD}' && sudo -n -- id -u && '${process.execPath}' -v`], { uid: UID, gid: UID, env }),
  );
  if (!reads.said.startsWith('0\n'))
    context.skip(`another user cannot read this checkout, or the disk is mounted without setuid: ${reads.said}`);
  return { env, work };
}

const start = (bwrap: string, { env, work }: { env: NodeJS.ProcessEnv; work: string }, ...command: string[]): ChildProcess =>
  spawn(process.execPath, [CHILD, work, bwrap, ...command], { uid: UID, gid: UID, env });

const LOOK =
  'id -u; grep -E "^(CapEff|CapPrm|CapBnd|NoNewPrivs|Seccomp|Uid):" /proc/self/status; echo made >made; ls /proc | grep -c "^[0-9]"';

test('an ordinary user needs no sudo where user namespaces are allowed', async (context) => {
  const user = await ordinaryUser(context);
  const { code, said } = await ended(start('', { ...user, env: { ...user.env, PATH: '/usr/bin:/bin' } }, 'sh', '-c', LOOK));
  if (said.includes('REFUSED')) context.skip(`user namespaces are restricted: ${said}`);
  expect({ code, said }).toMatchObject({ code: 0, said: expect.stringMatching(/^1000\n/) as string });
});

test('where only root can make namespaces, sudo does, and what runs is the caller without any capability', async (context) => {
  const user = await ordinaryUser(context);
  const { code, said } = await ended(start(restricted, user, 'sh', '-c', LOOK));
  expect(said).toMatch(new RegExp(`^${UID}\n`));
  expect(said).toContain(`Uid:\t${UID}\t${UID}\t${UID}\t${UID}`);
  for (const line of [
    'CapEff:\t0000000000000000',
    'CapPrm:\t0000000000000000',
    'CapBnd:\t0000000000000000',
    'NoNewPrivs:\t1',
    'Seccomp:\t2',
  ])
    expect(said).toContain(line);
  expect(code).toBe(0);
  expect(await readFile(join(user.work, 'made'), 'utf8')).toBe('made\n');
  const escape =
    'sudo -n -- sh -c "id -u"; cat /etc/shadow; echo x >/proc/sys/kernel/core_pattern; kill -9 1; exec 3<>/dev/tcp/127.0.0.1/1';
  expect((await ended(start(restricted, user, 'sh', '-c', escape))).said).not.toMatch(/^0$|root:/m);
  expect(await ended(start(restricted, user, 'sh', '-c', 'exit 7'))).toMatchObject({ code: 7 });
});

test.for(['SIGTERM', 'SIGKILL'] as const)('under sudo nothing runs on after %s', async (signal, context: TestContext) => {
  const user = await ordinaryUser(context);
  const mark = `held${process.pid}${signal}`;
  const child = start(
    restricted,
    user,
    'sh',
    '-c',
    `trap '' TERM; setsid sh -c 'sleep 600; : ${mark}' & echo up >up; sleep 600; : ${mark}`,
  );
  const end = ended(child);
  const running = (): Promise<string> => exec('sh', ['-c', `ps ax | grep -v grep | grep '[:] ${mark}' || true`]);
  while (!existsSync(join(user.work, 'up')) && child.exitCode === null) await sleep(20);
  expect(await running()).toContain(mark);
  child.kill(signal);
  await end;
  for (let waited = 0; (await running()) !== '' && waited < 5000; waited += 100) await sleep(100);
  expect(await running()).toBe('');
});

test('without namespaces and without sudo the sandbox refuses, and says what to do', async () => {
  const work = await mkdtemp(join(dir, 'none-'));
  const bwrap = join(dir, 'refuses');
  await writeFile(bwrap, "#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n", { mode: 0o755 });
  const env = { PATH: '/usr/bin:/bin', HOME: '/', FLATCAR_EXT_CACHE: store.root };
  const { code, said } = await ended(spawn(process.execPath, [CHILD, work, bwrap, 'touch', join(work, 'ran')], { env }));
  expect(said).toMatch(
    /^REFUSED other people's code runs in a sandbox only, and no sandbox can be set up: .*setting up uid map: Permission denied/,
  );
  expect(said).toMatch(/DO .*--no-sandbox/);
  expect(code).toBe(99);
  expect(existsSync(join(work, 'ran'))).toBe(false);
});

test('the setting that forbids user namespaces is named', async (context) => {
  const work = await mkdtemp(join(dir, 'max-'));
  const inner = 'echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"';
  const command = ['--user', '--map-root-user', 'sh', '-c', inner, 'sh', process.execPath, CHILD, work, '', 'true'];
  const env = { PATH: '/usr/bin:/bin:/usr/sbin:/sbin', HOME: '/', FLATCAR_EXT_CACHE: store.root };
  const { said } = await ended(spawn('unshare', command, { env }));
  if (said.startsWith('unshare:') || said.startsWith('sh:')) context.skip(`no user namespace to forbid them in: ${said}`);
  expect(said).toMatch(/^REFUSED .*max_\*_namespaces exceeded/);
  expect(said).toContain('sysctl user.max_user_namespaces=');
});
