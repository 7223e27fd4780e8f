import { readFile } from 'node:fs/promises';
import * as v from 'valibot';
import { UserError } from '../util/errors.ts';
import { jsonObject, parseJson } from '../util/json.ts';
import { parseProof, PROOF_FORMS } from '../model/proof.ts';
import { PLAIN_VERSION } from '../model/versions.ts';

const sha256 = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/, 'must be 64 lowercase hex digits'));

const PinnedBytes = v.strictObject({
  sha256,
  size: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1))),
  /** What the digest was checked by, as `pin` writes it: see parseProof. */
  proof: v.pipe(
    v.string(),
    v.check(
      (text) => parseProof(text) !== undefined,
      ({ input }) => `'${input}' is not a proof that pin writes (${PROOF_FORMS})`,
    ),
  ),
});

const PinnedVersionSchema = v.strictObject({
  /** Raised when packaging changes and the upstream version does not. */
  revision: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0)), 0),
  /** Digest of everything in this repository that decides the bytes, at the time of pinning; see packaging.ts. Only in an extension's own lock. */
  packaging: v.optional(sha256),
  /** Versions of coupled components. */
  coupled: v.optional(v.record(v.string(), v.string()), {}),
  /** SPDX expression of each component. */
  licenses: v.record(v.string(), v.string()),
  /** Timestamp at which a snapshot archive has all Debian packages of this version, such as `20261121T091544Z`. */
  snapshot: v.optional(v.pipe(v.string(), v.regex(/^\d{8}T\d{6}Z$/, 'must be a timestamp such as 20261121T091544Z'))),
  bytes: v.record(v.string(), PinnedBytes),
});

/** Versions have no leading v and no pre-release suffix (systemd ranks `-rc1` above the release). */
const Version = v.pipe(v.string(), v.regex(PLAIN_VERSION, 'must be a plain version such as 1.36.4'));

/** A lock: versions, and the URL of a schema for editors. */
const PinsSchema = v.pipe(
  jsonObject,
  v.rawTransform(({ dataset: { value }, addIssue }) => {
    const { $schema, ...versions } = value;
    if ($schema !== undefined && typeof $schema !== 'string')
      addIssue({
        message: 'expected the URL of a schema',
        path: [{ type: 'object', origin: 'value', input: value, key: '$schema', value: $schema }],
      });
    return versions;
  }),
  v.record(Version, PinnedVersionSchema),
);

/** The exact bytes of one version in pins.json. */
export type PinnedVersion = v.InferOutput<typeof PinnedVersionSchema>;
/** pins.json: version to its exact components and digests. */
export type Pins = Readonly<Record<string, PinnedVersion>>;

/** Reads pins.json. Throws a UserError with every problem and its line. */
export function readPins(text: string, where: string): Pins {
  return parseJson(PinsSchema, text, { what: 'pins.json', where, next: 'restore it from git or run flatcar-ext pin' });
}

/** Reads the lock in a file. Throws a UserError when it cannot be read or is not valid. */
export async function loadPins(where: string): Promise<Pins> {
  const text = await readFile(where, 'utf8').catch((cause: unknown) => {
    throw new UserError('cannot read the pins', { where, cause, next: 'run flatcar-ext pin' });
  });
  return readPins(text, where);
}
