// What threads.test.ts calls in other threads.
import { open as openFile } from 'node:fs/promises';
import { UserError } from '@flatcar/core/engine';

export const echo = (value: unknown): unknown => value;

export async function open(path: string): Promise<void> {
  await (await openFile(path)).close();
}

export function refuse(): never {
  throw new UserError('refused', { where: 'here', next: 'go on', code: 'usage', cause: new Error('not sent') });
}

export const end = (): never => process.exit(0);

export function spin(): never {
  for (;;);
}
