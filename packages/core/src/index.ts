// What the definition of an extension imports: defineExtension, the builders of its components, and their types.
export {
  binary,
  cargo,
  debian,
  defineExtension,
  github,
  go,
  packaged,
  programs,
  release,
  source,
  type Component,
  type PgpSignature,
  type Signature,
  type SigstoreSignature,
  type VersionSource,
} from './definition/builders.ts';
