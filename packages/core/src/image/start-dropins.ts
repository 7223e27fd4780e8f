import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Extension } from '../definition/types.ts';
import { parseUnit } from '../inspect/units.ts';
import { UserError } from '../util/errors.ts';
import { makeFolder } from '../util/files.ts';

/** The target that a unit belongs to: its own WantedBy=, else the usual one of its kind. */
function targetOf(unit: string, text: string): string {
  const wanted = parseUnit(text)
    .find(({ section, key }) => section === 'Install' && key === 'WantedBy')
    ?.value.split(/\s+/)[0];
  if (wanted !== undefined) return wanted;
  return unit.endsWith('.socket') ? 'sockets.target' : unit.endsWith('.timer') ? 'timers.target' : 'multi-user.target';
}

/**
 * Makes units run as soon as the image is merged: an `Upholds=` drop-in for each, since systemd does not look at `.wants` links
 * on a live merge (systemd.unit(5): Upholds= is re-evaluated after daemon-reload).
 */
export async function writeStartDropins(dir: string, { name, kind, start }: Pick<Extension, 'name' | 'kind' | 'start'>): Promise<void> {
  const folder = kind === 'sysext' ? 'usr/lib/systemd/system' : 'etc/systemd/system';
  const units = join(dir, folder);
  for (const unit of start) {
    const text = await readFile(join(units, unit), 'utf8').catch((cause: unknown) => {
      throw new UserError(`the image has no unit '${unit}', which 'start' names`, {
        where: `${folder}/${unit}`,
        next: "ship it in files/, or correct 'start' in extension.ts",
        cause,
      });
    });
    const dropins = join(units, `${targetOf(unit, text)}.d`);
    await makeFolder(dropins);
    await writeFile(join(dropins, `10-${name}-${unit.replaceAll('.', '-')}.conf`), `[Unit]\nUpholds=${unit}\n`);
  }
}
