import { PUBLIC_FILE, writeAtomic } from '../util/files.ts';
import type { Store } from '../store/store.ts';
import type { Image } from '../model/image.ts';
import type { Payload } from '../model/payload.ts';
import { manifestOf } from './manifest.ts';
import { sidecarPaths } from './paths.ts';
import { provenanceOf, type BuildContext } from './provenance.ts';
import { sbomOf } from './sbom.ts';
import { addToSums } from './sums.ts';

/** Writes manifest, SBOM and build record beside an image, then adds the image to SHA256SUMS: images listed there are complete. */
export async function writeSidecars(image: Image, payload: Payload, context: BuildContext, store: Store): Promise<void> {
  const paths = sidecarPaths(image.file);
  const text = (value: object): string => `${JSON.stringify(value, undefined, 2)}\n`;
  await writeAtomic(paths.manifest, text(manifestOf(image, payload)), PUBLIC_FILE);
  await writeAtomic(paths.sbom, text(sbomOf(image, payload)), PUBLIC_FILE);
  await writeAtomic(paths.provenance, text(provenanceOf(image, payload, context)), PUBLIC_FILE);
  await addToSums(store, image);
}
