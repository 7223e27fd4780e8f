import { readdir, readFile } from 'node:fs/promises';

/** All processes that descend from one, itself included, whatever group or session they are in (proc_pid_stat(5)). */
export async function processTree(root: number): Promise<number[]> {
  const parents = new Map<number, number>();
  for (const name of await readdir('/proc').catch(() => [])) {
    if (!/^\d+$/.test(name)) continue;
    // The program's name, in parentheses, may contain any character.
    const stat = await readFile(`/proc/${name}/stat`, 'utf8').catch(() => '');
    const parent = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
    if (Number.isInteger(parent)) parents.set(Number(name), parent);
  }
  const tree = [root];
  for (const pid of tree) for (const [child, parent] of parents) if (parent === pid) tree.push(child);
  return tree;
}

function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // The process has ended, or belongs to another user.
  }
}

/**
 * Ends a process that leads a group: sends SIGTERM to the group, and kills what is left of the whole tree after `grace` milliseconds.
 * `ended` settles when the process has ended.
 */
export async function endTree(pid: number, ended: Promise<unknown>, grace = 10_000): Promise<void> {
  const tree = await processTree(pid);
  send(-pid, 'SIGTERM');
  let timer: NodeJS.Timeout | undefined;
  await Promise.race([ended.catch(() => undefined), new Promise((done) => (timer = setTimeout(done, grace)))]);
  clearTimeout(timer);
  // The tree of now has what was started since; the former one has processes whose parents have ended.
  for (const one of new Set([...tree, ...(await processTree(pid))])) if (one !== pid) send(one, 'SIGKILL');
  send(-pid, 'SIGKILL');
  send(pid, 'SIGKILL');
}
