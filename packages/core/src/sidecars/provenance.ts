import { envOf } from '../env.ts';
import type { Image, Payload } from '../types.ts';

/** Who built, where it is known. */
export interface BuildContext {
  /** Commit of this repository, with `-dirty` when there were changes. */
  readonly gitCommit?: string;
}

/**
 * The build record: an in-toto statement with SLSA provenance v1 (slsa.dev/spec/v1.0/provenance). It has no times:
 * the same inputs give the same record.
 */
export function provenanceOf(image: Image, payload: Payload, { gitCommit }: BuildContext): object {
  const { components, tools, profile, publishable, key, waived } = payload;
  const repository = 'git+https://github.com/flatcar/extensions';
  return {
    _type: 'https://in-toto.io/Statement/v1',
    subject: [{ name: image.file.split('/').at(-1), digest: { sha256: image.sha256, sha512: image.sha512 } }],
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
          publishable,
          waived,
          components: components.map(({ name, version, origin, parameters }) => ({ name, version, origin, parameters })),
        },
        resolvedDependencies: [
          ...(gitCommit === undefined ? [] : [{ uri: repository, digest: { gitCommit } }]),
          ...components.flatMap(({ name, materials }) =>
            materials.map(({ locator, sha256, proof }) => ({ name, uri: locator, digest: { sha256 }, annotations: { proof } })),
          ),
          ...tools.map(({ name, version, sha256, status }) => ({
            name: `${name} ${version}`,
            uri: `pkg:generic/${encodeURIComponent(name)}@${encodeURIComponent(version)}`,
            digest: { sha256 },
            annotations: { status },
          })),
        ],
      },
      runDetails: {
        builder: {
          id:
            envOf('GITHUB_WORKFLOW_REF') === undefined
              ? 'https://extensions.flatcar.org/builder/local'
              : `https://github.com/${process.env['GITHUB_WORKFLOW_REF']}`,
        },
      },
    },
  };
}
