import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { archWords } from '../model/arch.ts';
import { imageVersion } from '../model/names.ts';
import type { Arch } from '../model/arch.ts';
import { UserError } from '../util/errors.ts';
import { loadPins, type PinnedVersion, type Pins } from './pins.ts';
import type { FilesOrigin, LoadedExtension, PinnedComponent } from './types.ts';

/** The folder of an origin, relative to its extension, for an architecture. */
export const folderOf = (origin: FilesOrigin, arch: Arch): string => origin.dir.replaceAll('{arch}', archWords(arch).go);

function pinOf(pins: Pins, version: string, name: string, where: string): PinnedVersion {
  const pin = pins[version];
  if (pin !== undefined) return pin;
  throw new UserError(`${name} ${version} is not pinned`, { where, next: `pinned versions: ${Object.keys(pins).join(', ')}` });
}

/** The components of one pinned version, each with its pins. */
export async function componentsOf(
  loaded: LoadedExtension,
  version: string,
): Promise<{ pin: PinnedVersion; components: readonly PinnedComponent[] }> {
  const { extension, dir } = loaded;
  const pin = pinOf(loaded.pins, version, extension.name, dir);
  for (const name of Object.keys(extension.coupled)) {
    if (pin.coupled[name] === undefined)
      throw new UserError(`${extension.name} ${version}: pins.json has no version of '${name}' under "with"`, { where: dir });
  }
  const components = extension.components({ ...pin.coupled, version }).map(async (component) => {
    const { lock, origins } = component;
    if (lock === undefined) return { component, dir, pin };
    // A component with files of this repository only needs no pins.
    if (loaded.fixture || origins.every(({ kind }) => kind === 'files')) return { component, dir: lock, pin };
    const where = join(lock, 'pins.json');
    return { component, dir: lock, pin: pinOf(await loadPins(where), component.version, component.name, where) };
  });
  return { pin, components: await Promise.all(components) };
}

/** The extension's own `files/` folder as a component; none without that folder. */
async function ownFiles({ dir, extension }: LoadedExtension, version: string, pin: PinnedVersion): Promise<PinnedComponent[]> {
  const exists = await access(join(dir, 'files')).then(
    () => true,
    () => false,
  );
  const install = [{ from: '**', to: '' }];
  return exists ? [{ component: { name: extension.name, version, origins: [{ kind: 'files', dir: 'files' }], install }, dir, pin }] : [];
}

/** All components of an image: those of the definition, and the extension's own files. */
export async function allComponents(
  loaded: LoadedExtension,
  version: string,
): Promise<{ pin: PinnedVersion; components: readonly PinnedComponent[]; own: readonly PinnedComponent[] }> {
  const { pin, components } = await componentsOf(loaded, version);
  return { pin, components, own: await ownFiles(loaded, imageVersion(version, pin.revision), pin) };
}
