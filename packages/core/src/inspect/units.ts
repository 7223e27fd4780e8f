import { access, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { makeFolder } from '../util/files.ts';
import { UserError } from '../util/errors.ts';
import type { Extension } from '../definition/builders.ts';

/** The lines of a unit file that say something: continuation lines joined, comments and blank lines left out (systemd.syntax(7)). */
export function unitLines(text: string): string[] {
  return text
    .replaceAll('\r\n', '\n')
    .replaceAll(/\\\n(?:[ \t]*[#;].*\n)*/g, ' ')
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#') && !line.startsWith(';'));
}

/** A unit file's settings in order: section, key, value. */
export function parseUnit(text: string): { section: string; key: string; value: string }[] {
  let section = '';
  return unitLines(text).flatMap((line) => {
    const header = /^\[(.+)\]$/.exec(line);
    if (header !== null) {
      section = header[1] ?? '';
      return [];
    }
    const at = line.indexOf('=');
    return at === -1 ? [] : [{ section, key: line.slice(0, at).trim(), value: line.slice(at + 1).trim() }];
  });
}

/** The target that a unit belongs to: its own WantedBy=, else the usual one of its kind. */
function targetOf(unit: string, text: string): string {
  const wanted = parseUnit(text)
    .find(({ section, key }) => section === 'Install' && key === 'WantedBy')
    ?.value.split(/\s+/)[0];
  if (wanted !== undefined) return wanted;
  return unit.endsWith('.socket') ? 'sockets.target' : unit.endsWith('.timer') ? 'timers.target' : 'multi-user.target';
}

/**
 * Makes units run as soon as the image is merged: an `Upholds=` drop-in for each, since `.wants` links are not looked at
 * on a live merge (systemd.unit(5): Upholds= is re-evaluated after daemon-reload).
 */
export async function writeStartDropins(dir: string, { name, kind, start }: Pick<Extension, 'name' | 'kind' | 'start'>): Promise<void> {
  const folder = kind === 'sysext' ? 'usr/lib/systemd/system' : 'etc/systemd/system';
  const units = join(dir, folder);
  for (const unit of start) {
    const file = join(units, unit);
    if (
      !(await access(file).then(
        () => true,
        () => false,
      ))
    ) {
      throw new UserError(`'${unit}' is to be started, but the image has no such unit`, {
        where: `${folder}/${unit}`,
        next: "ship it in files/, or correct 'start' in extension.ts",
      });
    }
    const dropins = join(units, `${targetOf(unit, await readFile(file, 'utf8'))}.d`);
    await makeFolder(dropins);
    await writeFile(join(dropins, `10-${name}-${unit.replaceAll('.', '-')}.conf`), `[Unit]\nUpholds=${unit}\n`);
  }
}
