import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cacheRoot } from '@flatcar/core/engine';
import type { Machine } from '../hosts.ts';

/** The last lines of a log. */
export const tail = (text: string, lines: number): string => text.trimEnd().split('\n').slice(-lines).join('\n');

/** Lines of a journal that report trouble. */
const warnings = (journal: string): string =>
  journal
    .split('\n')
    .filter((line) => /fail|error|denied|refus|incompatible|ignor|warn/i.test(line))
    .join('\n');

/** An error that already contains the ends of the machine's logs. */
class MachineError extends Error {}

/** Saves the logs of a failed machine in the cache folder, and returns their ends. */
async function collectLogs(machine: Machine): Promise<string> {
  const folder = join(cacheRoot(), 'machine-logs', new Date().toISOString().replaceAll(/[:.]/g, '-'));
  await mkdir(folder, { recursive: true });
  const parts: string[] = [];
  for (const [name, script] of [
    ['journal', 'journalctl --boot --no-pager --output=short-monotonic'],
    ['status', 'systemd-sysext status --no-pager; systemd-confext status --no-pager; systemctl --failed --no-pager'],
  ] as const) {
    const said = await machine
      .ask(script, 60_000)
      .then(({ said: text }) => text)
      .catch(() => undefined);
    if (said === undefined) continue;
    await writeFile(join(folder, name), said);
    parts.push(`--- ${name}\n${name === 'journal' ? tail(warnings(said), 25) : tail(said, 25)}`);
  }
  const log = await machine.serial();
  await writeFile(join(folder, 'serial'), log);
  if (parts.length === 0) parts.push(`--- serial\n${tail(log, 40)}`);
  return [...parts, `whole logs: ${folder}`].join('\n');
}

/** Does something with a machine; if that fails, the logs are saved and their ends are part of the error. */
export async function withFailureLogs(machine: Machine, use: () => Promise<void>): Promise<void> {
  try {
    await use();
  } catch (error) {
    if (error instanceof MachineError) throw error;
    const logs = await collectLogs(machine).catch((cause: unknown) => `the logs could not be collected: ${String(cause)}`);
    throw new MachineError(`${error instanceof Error ? error.message : String(error)}\n${logs}`, { cause: error });
  }
}
