import type * as v from 'valibot';

// Texts of different meaning whose mix-up would be a bug have types of their own; outside of this file, only schemas and the functions of
// names.ts make them.

declare const BRAND: unique symbol;
type Branded<Name extends string> = string & { readonly [BRAND]: Name };

/** Version of an image: the upstream version, with `-<revision>` if the revision is not 0. It is in file names, the index and SYSEXT_VERSION_ID. */
export type ImageVersion = Branded<'image version'>;
/** Version of a component as upstream names it; a key of pins.json. */
export type UpstreamVersion = Branded<'upstream version'>;
/** A target in names and records: `portable` or the number of a Flatcar release. */
export type TargetName = Branded<'target'>;

/** A version from a source that checks versions, such as pins.json. */
export const asUpstreamVersion = (version: string): UpstreamVersion => version as UpstreamVersion;

/** A schema of a text as one of a brand: what the schema accepts is such a text. */
export const brandedBy = <B extends string>(schema: v.GenericSchema<string, string>): v.GenericSchema<string, B> =>
  schema as v.GenericSchema<string, B>;
