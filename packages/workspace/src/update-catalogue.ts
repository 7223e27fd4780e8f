import { fileURLToPath } from 'node:url';
import { readCatalogue, writeAtomic } from '@flatcar/core/engine';
import { catalogueChanges, catalogueFrom, readReleaseList } from '@flatcar/upstream/sources/flatcar-releases';

export type CatalogueChanges = ReturnType<typeof catalogueChanges>;

/** Writes the catalogue of Flatcar releases from a copy of the official list (a file or a URL); returns what changed. */
export async function updateCatalogue(file: URL, from: string): Promise<CatalogueChanges> {
  const releases = catalogueFrom(await readReleaseList(from), from);
  const changes = catalogueChanges(readCatalogue(file), releases);
  await writeAtomic(fileURLToPath(file), `${JSON.stringify(releases, undefined, 2)}\n`);
  return changes;
}
