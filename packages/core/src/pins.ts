import * as v from 'valibot';
import { messageOf, UserError } from './errors.ts';
import { lineOfKeys } from './locate.ts';
import { PLAIN_VERSION } from './versions.ts';

const sha256 = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/, 'must be 64 lowercase hex digits'));

const PinnedBytes = v.strictObject({
  sha256,
  size: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1))),
  proof: v.pipe(v.string(), v.nonEmpty('must say what it was checked by')),
});

const PinnedVersionSchema = v.strictObject({
  /** Raised when packaging changes under the same upstream version. */
  revision: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0)), 0),
  /** Digest of all that this repository decides about its bytes, when it was pinned; see packaging.ts. Only in an extension's own lock. */
  packaging: v.optional(sha256),
  /** Versions of coupled components. */
  with: v.optional(v.record(v.string(), v.string()), {}),
  /** SPDX expression of each component. */
  licenses: v.record(v.string(), v.string()),
  /** Timestamp at which a snapshot archive has all Debian packages of this version, such as `20261121T091544Z`. */
  snapshot: v.optional(v.pipe(v.string(), v.regex(/^\d{8}T\d{6}Z$/, 'must be a timestamp such as 20261121T091544Z'))),
  bytes: v.record(v.string(), PinnedBytes),
});

/** Versions never carry a leading v or a pre-release (systemd ranks `-rc1` above the release). */
const Version = v.pipe(v.string(), v.regex(PLAIN_VERSION, 'must be a plain version such as 1.36.4'));

export const PinsSchema = v.objectWithRest({ $schema: v.optional(v.string()) }, v.unknown());

/** The exact bytes of one version, as pins.json has them. */
export type PinnedVersion = v.InferOutput<typeof PinnedVersionSchema>;
/** pins.json: version to its exact components and digests. */
export type Pins = Readonly<Record<string, PinnedVersion>>;

/** Reads pins.json; every problem is shown at once, with its place in the file. */
export function readPins(text: string, where: string): Pins {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    // V8 says where: `… in JSON at position 12 (line 2 column 3)`.
    const line = /\(line (\d+) column/.exec(messageOf(cause))?.[1];
    throw new UserError(`pins.json is not JSON: ${messageOf(cause)}`, {
      where: line === undefined ? where : `${where}:${line}`,
      cause,
      next: 'restore it from git or run flatcar-ext pin',
    });
  }
  const { $schema: _, ...versions } = v.parse(PinsSchema, json);
  const parsed = v.safeParse(v.record(Version, PinnedVersionSchema), versions);
  if (!parsed.success) {
    const issues = parsed.issues.map((issue) => {
      const keys = (issue.path ?? []).map(({ key }) => String(key));
      return { line: lineOfKeys(text, keys), what: `${v.getDotPath(issue) ?? 'file'}: ${issue.message}` };
    });
    throw new UserError(`pins.json is wrong:\n${issues.map(({ line, what }) => `  line ${line}: ${what}`).join('\n')}`, {
      where: `${where}:${issues[0]?.line ?? 1}`,
    });
  }
  return parsed.output;
}
