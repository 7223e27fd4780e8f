// The published tree: what other packages may use of it.
export * from './schema.ts';
export * from './layout.ts';
export * from './transfer.ts';
export * from './destination.ts';
export * from './state.ts';
export * from './keys.ts';
export { httpSource } from './http.ts';
export * from './node-config.ts';
export { localDestination } from './local.ts';
export { checkPayload, writePayload, type PayloadDigests } from './crau.ts';
export { goodSignatures, keyringOf, readKeyring, readPublicKeys } from './pgp.ts';
export { publish, transferFiles, type PublishOptions, type PublishResult } from './publish.ts';
export type { DeclaredOrigins } from './inputs.ts';
