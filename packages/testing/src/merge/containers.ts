import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { exec, openStore, openToolchains, type Arch } from '@flatcar/core/engine';
import type { ContainerHost } from '../hosts.ts';
import { writeContainer } from '../server/oci.ts';

/** Runtimes of containers: arguments of `ctr run`, by the name of the answer. */
export const CTR_RUNTIMES = {
  runc: '--runtime io.containerd.runc.v2',
  crun: '--runtime io.containerd.runc.v2 --runc-binary /usr/bin/crun',
  youki: '--runtime io.containerd.runc.v2 --runc-binary /usr/bin/youki',
  runsc: '--runtime io.containerd.runsc.v1',
  wasmtime: '--runtime io.containerd.wasmtime.v1',
} as const;
export type CtrRuntime = keyof typeof CTR_RUNTIMES;

export interface ContainerRun {
  readonly arch: Arch;
  /** Runtimes to run a container with, by ctr. */
  readonly ctr?: readonly CtrRuntime[];
  /** True to `docker run` a container as well. */
  readonly docker?: boolean;
  /** True to run a container by nerdctl as well. */
  readonly nerdctl?: boolean;
  /** True if no init runs: the script itself starts and ends containerd and dockerd. */
  readonly start: boolean;
}

/** What a container must print, and its exit code. */
export const HELLO = { program: 'hello from a container, pid 1, root', wasm: 'hello from wasm', ends: 7 } as const;

// Static, so that the image needs nothing else. It prints whether it is the first process and sees the image's root.
const PROGRAM = `
#include <stdio.h>
#include <unistd.h>
int main(void) {
  printf("hello from a container, pid %d, %s\\n", (int)getpid(), access("/usr", F_OK) && !access("/program", F_OK) ? "root" : "no root of its own");
  return 7;
}
`;

/** In WebAssembly's text format, which the shim compiles. */
export const WAT = `(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "hello from wasm\\n")
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 16))
    (i32.store (i32.const 4) (i32.const 16))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (call $exit (i32.const 7))))
`;

// The script does what systemd would do, and undoes it at the end: nothing outlives the script.
const START = `
mkdir -p /run/state /run/test-log
# On a machine with both versions of cgroups, crun uses the older one only if it does not see the newer.
[ ! -e /sys/fs/cgroup/unified ] || umount /sys/fs/cgroup/unified
pids=
/usr/lib/containerd-conf/make-config
containerd --config /run/containerd-conf/config.toml --root /run/state/containerd >/run/test-log/containerd 2>&1 &
pids=$!
trap 'kill $pids; wait' EXIT
wait_for() { for _ in $(seq 600); do "$@" >/dev/null 2>&1 && return; sleep 0.1; done; echo "no answer to $*"; tail -n 30 /run/test-log/*; exit 1; }
wait_for ctr version
`;
const START_DOCKER = `
dockerd --host unix:///run/docker.sock --containerd /run/containerd/containerd.sock --data-root /run/state/docker --exec-root /run/state/docker-exec \\
  --pidfile /run/state/docker.pid --bridge none --iptables=false --ip6tables=false --group root >/run/test-log/dockerd 2>&1 &
pids="$! $pids"
wait_for docker version
`;

// What every OCI runtime does: a new cgroup, namespaces, and another root (pivot_root(2) fails on some roots).
const PROBE = `
set -e
groups=/sys/fs/cgroup
[ -e $groups/cgroup.controllers ] || groups=$groups/cpu
mkdir -p /run/probe $groups/flatcar-ext-probe-$$
rmdir $groups/flatcar-ext-probe-$$
unshare --mount --pid --ipc --uts --fork sh -c 'mount -t tmpfs tmpfs /run/probe && mkdir /run/probe/old && cd /run/probe && pivot_root . old'
echo containers can run
`;

/** Tries what every runtime does on a host; returns why no container can run there, or undefined if they can. */
export async function whyNoContainers(host: Pick<ContainerHost, 'run'>): Promise<string | undefined> {
  const said = await host.run(['sh', '-c', PROBE]);
  return said.endsWith('containers can run') ? undefined : `containers cannot run on this machine: ${said.trim()}`;
}

/** The script that runs all containers; each answer is between two lines that mark it. */
function scriptOf({ ctr = [], docker = false, nerdctl = false, start }: ContainerRun): string {
  const answer = (name: string, command: string): string => `echo "== ${name}"; code=0; ${command} 2>&1 || code=$?; echo "ends with $code"`;
  return [
    'set -eu',
    ...(start ? [START, ...(docker ? [START_DOCKER] : [])] : []),
    ...(ctr.length > 0 ? ['ctr images import /run/test-images/hello.tar >/dev/null'] : []),
    ...(ctr.includes('wasmtime') ? ['ctr images import /run/test-images/wasm.tar >/dev/null'] : []),
    ...ctr.map((name) =>
      answer(name, `ctr run --rm ${CTR_RUNTIMES[name]} test.example/${name === 'wasmtime' ? 'wasm' : 'hello'}:1 test-${name}`),
    ),
    ...(docker
      ? [
          'docker load --quiet --input /run/test-images/hello.tar >/dev/null',
          answer('docker', 'docker run --rm --network none test.example/hello:1'),
          // By docker-init, which has the first number then.
          answer('docker --init', 'docker run --rm --init --network none test.example/hello:1'),
        ]
      : []),
    ...(nerdctl
      ? [
          'nerdctl load --input /run/test-images/hello.tar >/dev/null',
          answer('nerdctl', 'nerdctl run --rm --network none test.example/hello:1'),
        ]
      : []),
    // The reason, if something failed.
    ...(start ? ['tail -n 40 /run/test-log/* >&2'] : []),
  ].join('\n');
}

/** Compiles a static C program, for an image that contains nothing else. */
export async function compileStatic(text: string, arch: Arch, out: string): Promise<void> {
  const { bin } = await openToolchains(openStore()).c(arch);
  await exec(join(bin, 'cc'), ['-static', '-s', '-x', 'c', '-o', out, '-'], { input: text });
}

/** Writes two container images: of a static C program, and of a WebAssembly module. */
async function writeImages(arch: Arch, dir: string): Promise<string[]> {
  await mkdir(dir, { recursive: true });
  const [program, module] = ['hello', 'hello.wat'].map((name) => join(dir, name)) as [string, string];
  await compileStatic(PROGRAM, arch, program);
  await writeFile(module, WAT);
  await writeContainer({ name: 'test.example/hello:1', program, args: [], arch }, join(dir, 'hello.tar'));
  await writeContainer({ name: 'test.example/wasm:1', program: module, as: 'hello.wat', args: [], arch }, join(dir, 'wasm.tar'));
  return ['hello.tar', 'wasm.tar'].map((name) => join(dir, name));
}

/**
 * Runs containers of new images with every runtime and client that `how` lists; returns what each printed, by its name (`docker --init` is one
 * more for docker). `log` has the output of the daemons.
 */
export async function runContainers(host: ContainerHost, how: ContainerRun): Promise<{ answers: Record<string, string>; log: string }> {
  const store = openStore();
  await host.run(['mkdir', '-p', '/run/test-images']);
  await store.withTemp(async (temp) => {
    for (const file of await writeImages(how.arch, join(temp, 'images')))
      await host.copyIn(file, `/run/test-images/${file.split('/').at(-1)}`);
    const script = join(temp, 'run.sh');
    await writeFile(script, scriptOf(how));
    await host.copyIn(script, '/run/test-images/run.sh');
  });
  const log = await host.run(['sh', '/run/test-images/run.sh']);
  const [, ...parts] = `\n${log}`.split('\n== ');
  const answers = Object.fromEntries(
    parts.map((part) => {
      const [name = '', ...lines] = part.split('\n');
      const end = lines.findIndex((line) => line.startsWith('ends with '));
      // Without log lines of the commands.
      const said = lines.slice(0, end + 1).filter((line) => !/^time="[^"]*" level=/.test(line));
      return [name, said.join('\n')];
    }),
  );
  return { answers, log };
}
