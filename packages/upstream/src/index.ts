// The public face of upstream: used to pin, never to build.
export type { UpstreamContext } from './context.ts';
export { listVersions, keptVersions } from './versions.ts';
export { findOutdated, type Outdated, type OutdatedError, type OutdatedRow } from './outdated.ts';
export { fetchVerified, type VerifiedFile } from './verify.ts';
export { checksumOf, readChecksums } from './checksums.ts';
export { descriptionOf, licenseOf, releaseOf } from './github.ts';
export { pinVersion, type PinnedLine, type PinRequest, type PinResult } from './pin.ts';
export { checkPins, type CheckedPin, type CheckRequest } from './pin/check.ts';
export { verifyDetached, type Signers } from './pgp.ts';
export { formatProof, proofRank, readProof, type Proof } from './proof.ts';
export { generalizeUrl, proposeAssets, readListing, splitTag, type AssetProposal, type Listing, type SignatureFile } from './propose.ts';
export { inspectCargo, inspectFile, inspectGo, oneLine, recognizeLicense, type Layout, type Source } from './inspect.ts';
export { NOT_TRIED, scaffold, untried, type Plan, type Probe, type ScaffoldFile } from './scaffold.ts';
export { proposeSignatures } from './signers.ts';
export { planNew, wrongLicense, type Ask, type NewRequest } from './plan.ts';
export { addChangelogEntry, type ChangelogEntry } from './changelog.ts';
export { applyBump, bumpTo, findBumps, type Bump, type BumpResult, type ProofChange } from './bump.ts';
export { findUnused, pruneLock, type Unused } from './prune.ts';
