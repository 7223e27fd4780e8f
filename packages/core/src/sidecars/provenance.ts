import { basename } from 'node:path';
import type { Image } from '../model/image.ts';
import type { Payload } from '../model/payload.ts';
import { purl } from './purl.ts';

/** The checkout and the builder in a build record. Unknown fields are left out. */
export interface BuildContext {
  /** Commit of the repository, with `-dirty` if there were changes that can decide bytes. */
  readonly gitCommit?: string;
  /** URL of the repository, such as `https://github.com/flatcar/extensions`. */
  readonly repository?: string;
  /** URI of the workflow that builds; by default a local machine. */
  readonly builder?: string;
}

const LOCAL_BUILDER = 'https://extensions.flatcar.org/builder/local';

/**
 * The build record: an in-toto statement with SLSA provenance v1 (slsa.dev/spec/v1.0/provenance). It has no times and no input but the arguments:
 * the same inputs give the same record.
 */
export function provenanceOf(image: Image, payload: Payload, { gitCommit, repository, builder = LOCAL_BUILDER }: BuildContext): object {
  const { components, tools, profile, publishBlockers, key, waived, builders } = payload;
  const source = repository === undefined ? {} : { uri: `git+${repository}` };
  return {
    _type: 'https://in-toto.io/Statement/v1',
    subject: [{ name: basename(image.file), digest: { sha256: image.sha256, sha512: image.sha512 } }],
    predicateType: 'https://slsa.dev/provenance/v1',
    predicate: {
      buildDefinition: {
        buildType: 'https://extensions.flatcar.org/build/v1',
        externalParameters: {
          extension: image.extension,
          version: image.version,
          architecture: image.arch,
          target: image.target,
          format: image.format,
          profile,
        },
        internalParameters: {
          payload: key,
          publishBlockers,
          waived,
          // JSON leaves it out if undefined: nothing was compiled.
          builders,
          components: components.map(({ name, version, origin, parameters }) => ({ name, version, origin, parameters })),
        },
        resolvedDependencies: [
          ...(gitCommit === undefined ? [] : [{ ...source, digest: { gitCommit } }]),
          ...components.flatMap(({ name, materials }) =>
            materials.map(({ locator, sha256, proof }) => ({ name, uri: locator, digest: { sha256 }, annotations: { proof } })),
          ),
          ...tools.map(({ name, version, sha256, status }) => ({
            name: `${name} ${version}`,
            uri: purl('generic', name, version),
            digest: { sha256 },
            annotations: { status },
          })),
        ],
      },
      runDetails: {
        builder: { id: builder },
      },
    },
  };
}
