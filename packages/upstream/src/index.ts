// The public face of upstream: used to pin, never to build.
export type { UpstreamContext } from './context.ts';
export { listVersions, keptVersions } from './versions.ts';
export { findOutdated, type Outdated, type OutdatedError, type OutdatedRow } from './outdated.ts';
export { fetchVerified, type VerifiedFile } from './verify.ts';
export { checksumOf, readChecksums } from './checksums.ts';
export { licenseOf } from './github.ts';
export { ask, askJson, askText, type Asking } from './http.ts';
export { pinVersion, type PinnedLine, type PinRequest, type PinResult } from './pin.ts';
export { formatProof, readProof, type Proof } from './proof.ts';
