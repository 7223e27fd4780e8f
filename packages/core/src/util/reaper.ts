import { spawn, type ChildProcess } from 'node:child_process';

/**
 * Reads `+ TARGET` and `- TARGET` (targets of kill(1): a process, or with a minus a group) until its input ends, however the process at the
 * other end of the pipe died, and then kills what is left of them.
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

function tell(line: string): void {
  if (reaper === undefined || reaper.exitCode !== null || reaper.signalCode !== null) {
    // A group of its own: what a terminal sends to this program's group must not end it.
    reaper = spawn('/bin/sh', ['-c', SCRIPT], { cwd: '/', detached: true, env: {}, stdio: ['pipe', 'ignore', 'ignore'] });
    for (const part of [reaper, reaper.stdin]) part?.on('error', () => undefined); // without it, only a SIGKILL leaves processes
    reaper.unref();
    (reaper.stdin as unknown as { unref(): void }).unref();
  }
  reaper.stdin?.write(`${line}\n`);
}

/**
 * Has a child of this process killed when this process dies without having ended it: SIGKILL and out of memory let nobody clean up.
 * `target` is its process id, negative for its process group. Gives the function to call when it has ended.
 */
export function reap(target: number): () => void {
  tell(`+ ${target}`);
  return () => tell(`- ${target}`);
}
