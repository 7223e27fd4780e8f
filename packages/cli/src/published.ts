import type { Destination } from '@flatcar/publish';
import { Option } from 'commander';

export const keysOption = (): Option => new Option('--keys <dir>', 'folder of keys that keys init made').env('FLATCAR_EXT_KEYS');
export const baseUrlOption = (): Option =>
  new Option('--base-url <url>', 'URL under which the tree is served, for transfer files; that of the tree unless said').env(
    'FLATCAR_EXT_BASE_URL',
  );

/** The place that `--to` names. */
export async function openDestination(where: string): Promise<Destination> {
  const { localDestination } = await import('@flatcar/publish');
  return localDestination(where);
}
