/** The paths of an image's sidecars: beside the image, with its name. */
export function sidecarPaths(image: string): { manifest: string; sbom: string; provenance: string } {
  const base = image.replace(/\.raw$/, '');
  return { manifest: `${base}.manifest.json`, sbom: `${base}.spdx.json`, provenance: `${base}.provenance.json` };
}
