// The public face of upstream, which is used to pin and never to build.
export { archiveOf, memoize, MOST_DOCUMENT, MOST_FILE, newestPackages, type UpstreamContext } from './context.ts';
export { assertOffered, keptVersions, listVersions, newerMajor } from './sources/versions.ts';
export { debianVersion } from './sources/debian.ts';
export { findOutdated, type Outdated, type OutdatedError, type OutdatedRow } from './update/outdated.ts';
export { fetchVerified, type VerifiedFile } from './verify/verify.ts';
export { checksumOf, readChecksums } from './verify/checksums.ts';
export { attestationsOf, descriptionOf, licenseOf, releaseOf } from './sources/github.ts';
export { pinVersion, type PinnedLine, type PinRequest, type PinResult } from './pin/pin.ts';
export { checkPins, type CheckedPin, type CheckRequest } from './pin/check.ts';
export { signerOf, trustMaterial, type Signer } from './verify/sigstore.ts';
export { verifyDetached, type Signers } from './verify/openpgp.ts';
export { proofRank, proofStrength, type ProofStrength } from './verify/proof.ts';
export { addChangelogEntry, type ChangelogEntry } from './update/changelog.ts';
export { applyBump, bumpTo, findBumps, type Bump, type BumpResult, type ProofChange } from './update/bump.ts';
export { findUnused, pruneLock, type Unused } from './update/prune.ts';
