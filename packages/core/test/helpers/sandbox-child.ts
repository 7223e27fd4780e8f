// Run by sandbox-privilege.test.ts as another user: one command in the sandbox, with a stand-in for bwrap where one is named.
import { join } from 'node:path';
import { openSandbox, openStore, openTools, type Tools } from '@flatcar/core/engine';

const [work = '', bwrap = '', ...command] = process.argv.slice(2);
const store = openStore();
const own = openTools(store);
const tools: Tools = {
  ...own,
  command: (tool) => (tool === 'bwrap' && bwrap !== '' ? Promise.resolve({ command: bwrap, args: [] }) : own.command(tool)),
};
const controller = new AbortController();
process.on('SIGTERM', () => controller.abort(new Error('stop')));
try {
  const result = await openSandbox(store, tools).attempt(command[0] ?? '', command.slice(1), {
    work: join(work),
    signal: controller.signal,
  });
  console.log(result.output);
  process.exitCode = result.exitCode ?? 1;
} catch (error) {
  const { message, next } = error as { message: string; next?: string };
  console.log(`REFUSED ${message}\nDO ${next ?? ''}`);
  process.exitCode = 99;
}
