import { spawn, type ChildProcess } from 'node:child_process';

/**
 * Reads `+ TARGET` and `- TARGET` (targets of kill(1): a process, or with a minus a group) until its input ends, however the process at the
 * other end of the pipe died, and then kills the remaining targets.
 */
const SCRIPT = `
trap '' INT TERM HUP
targets=' '
while read -r sign target; do
  case $sign in
    +) targets="$targets$target " ;;
    -) case $targets in *" $target "*) targets="\${targets%% "$target" *} \${targets#* "$target" }" ;; esac ;;
  esac
done
for target in $targets; do kill -KILL "$target" 2>/dev/null; done
`;

let reaper: ChildProcess | undefined;

function send(line: string): void {
  if (reaper === undefined || reaper.exitCode !== null || reaper.signalCode !== null) {
    // A group of its own: signals of a terminal to this program's group must not end it.
    reaper = spawn('/bin/sh', ['-c', SCRIPT], { cwd: '/', detached: true, env: {}, stdio: ['pipe', 'ignore', 'ignore'] });
    for (const part of [reaper, reaper.stdin]) part?.on('error', () => undefined); // without the reaper, only a SIGKILL leaves processes
    reaper.unref();
    (reaper.stdin as unknown as { unref(): void }).unref();
  }
  reaper.stdin?.write(`${line}\n`);
}

/**
 * Kills a child of this process if this process dies without having ended it: SIGKILL and out of memory leave no time to clean up.
 * `target` is the child's process id, negative for its process group. Returns the function to call when the child has ended.
 */
export function reap(target: number): () => void {
  send(`+ ${target}`);
  return () => send(`- ${target}`);
}
