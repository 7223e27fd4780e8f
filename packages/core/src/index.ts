// What the definition of an extension imports: defineExtension, the builders of its components, and their types.
export { binary, cargo, debian, defineExtension, github, go, packaged, programs, upstream, source } from './definition/builders.ts';
export type { Component, PgpSignature, Signature, SigstoreSignature } from './definition/types.ts';
export type { VersionSource } from './definition/version-source.ts';
