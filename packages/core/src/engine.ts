// All that the other packages need of core. Extensions import index.ts, the authoring face.
export * from './model/target.ts';
export * from './model/payload.ts';
export * from './model/image.ts';
export { differenceBetween, type Difference, type FileChange, type ImageContent } from './model/difference.ts';
export * from './model/finding.ts';
export * from './util/events.ts';
export * from './util/errors.ts';
export { dropEmpty, envOf, homeOf, isSudo, withoutSecrets, type Environment } from './util/env.ts';
export * from './model/arch.ts';
export { asUpstreamVersion, brandedBy, type ImageVersion, type TargetName, type UpstreamVersion } from './model/brands.ts';
export * from './model/names.ts';
export * from './definition/pins.ts';
export * from './model/proof.ts';
export * from './definition/types.ts';
export * from './definition/version-source.ts';
export * from './definition/builders.ts';
export { pathsBeside } from './definition/beside.ts';
export { allComponents, componentsOf } from './definition/components.ts';
export { findExtensions, loadDefinition, loadExtension } from './definition/load.ts';
export { DefinitionError, lineOfProblem } from './definition/definition-error.ts';
export * as schemas from './definition/schema-kit.ts';
export * from './model/versions.ts';
export * from './model/workflow-identity.ts';
export { LATEST, matchingVersions, parseRef, type ExtensionRef } from './model/ref.ts';
export { nearest } from './model/nearest.ts';
export * from './model/releases.ts';
export { DEFAULT_PATH, exec, execResult, networkEnv, outputOf, ToolError, type ExecOptions, type ExecResult } from './util/exec.ts';
export type { ErrorCode, HttpErrorCode } from './util/error-codes.ts';
export { CHUNK, eachChunk } from './util/chunks.ts';
export { BoundedFile, unreadable, withBounded } from './util/bounded.ts';
export { clockProblem } from './util/clock.ts';
export { asUserError, describeErrno } from './util/errno.ts';
export { interruptible, interruption, throwIfInterrupted, uninterrupted } from './util/interrupt.ts';
export { announceWaits, withLock } from './util/locks.ts';
export { assertKeyCanSign, judgeSignatures, shownFingerprint, type SignatureContext } from './debian/openpgp.ts';
export { mapParallel } from './util/parallel.ts';
export { inThread, isWorthAThread } from './util/threads.ts';
export { measureSteps, timed, type StepTime } from './util/steps.ts';
export { reap } from './util/reaper.ts';
export { ownedName, removeAbandoned, TEMPORARY, temporaryBeside } from './util/temporary.ts';
export {
  copyPublic,
  digestsOf,
  fsync,
  hashFile,
  makeFolder,
  makePublic,
  mkdirPublic,
  PUBLIC_FILE,
  PUBLIC_FOLDER,
  replaceFile,
  writeAtomic,
} from './util/files.ts';
export { digestOf, sha256Of } from './util/digest.ts';
export { cacheRoot } from './store/layout.ts';
export { openStore, type Store } from './store/store.ts';
export type { StoreStats } from './store/upkeep.ts';
export { fetchBlob, fetchNew, type FetchNewOptions, type FetchOptions } from './store/fetch.ts';
export { readBody } from './http/body.ts';
export { getText, httpGet, httpRequest, httpSend } from './http/client.ts';
export { timeFor, type HttpBody, type HttpExchange, type HttpMethod, type HttpOptions, type HttpResponse } from './http/options.ts';
export { HttpError, HttpStatusError, isNetworkFailure, isUnanswered, RateLimitError, UnreachableError } from './http/errors.ts';
export { mirrored } from './http/mirror.ts';
export { checkShape, getJson, getPages, jsonOf, nextPage } from './http/json.ts';
export { withoutPassword } from './http/proxy.ts';
export { headerOf, type ResponseHeaders } from './http/rate-limit.ts';
export { openGo, userGoEnv, type GoCommand } from './tools/go-command.ts';
export { buildGoTool, goSumDigest, mainPackages, pinGo, programName, lockModuleDir } from './tools/go-module.ts';
export { plainGoError } from './tools/go-errors.ts';
export { lockedCrates } from './origins/cargo-lock.ts';
export { cargoHomeOf, downloadCrate, openCargo, type Cargo } from './origins/cargo-command.ts';
export { upstreamWords } from './origins/upstream.ts';
export { expandTemplate } from './util/template.ts';
export { isPackageLocator, locatorText, packageNameOf, parseLocator, type Locator, type PackageName } from './model/locator.ts';
export { archiveKind, unpack, unpackPackage } from './store/unpack.ts';
export { readControlFiles } from './archives/deb.ts';
export { copyTree, filesBelow, insideTree, walk, type WalkEntry } from './util/walk.ts';
export { allOf, isLicense, licenseNames, readCopyright } from './origins/debian/copyright.ts';
export { HOST_PROGRAMS, HOST_USERS } from './inspect/flatcar-host.ts';
export { openArchive, type Archive } from './debian/archive.ts';
export { debianMirror, DEFAULT_MIRROR, parseSources, snapshotArchive, snapshotStamp } from './debian/mirror.ts';
export { packageFields, parsePackages, sourceFileIn, type DebianPackage, type IndexedPackage } from './debian/packages.ts';
export { assertNotOlder, DEBIAN_KEYRING, signedText } from './debian/suite-index.ts';
export { compareDebianVersions, upstreamVersion } from './debian/version.ts';
export { resolveClosure } from './debian/dependencies.ts';
export {
  completeRelocation,
  wrappedPrograms,
  type Added,
  type CompletedOrigin,
  type LeftOut,
} from './origins/debian/complete-relocation.ts';
export { indexPackages, resolveLinks, type Found, type PackageFiles } from './debian/package-index.ts';
export { RUNTIME_PACKAGES } from './origins/debian/runtime-files.ts';
export type { Omission } from './inspect/omission.ts';
export { COMPILING_ORIGINS, SOURCE_ORIGINS } from './origins/origin.ts';
export { relocationOmissions, type RelocationInput } from './origins/debian/compiled-in.ts';
export { assertPackageVersion, resolvePackages, type ResolvedPackages } from './origins/debian/debian.ts';
export { readToolPins, type ToolchainPins, type ToolPins } from './tools/pins.ts';
export { openTools, type Tools } from './tools/tools.ts';
export { checkCompatibility } from './lint/compatibility.ts';
export { readElf, readImports, type Elf } from './inspect/elf.ts';
export { embeddedModules, readAuditableCrates, readGoBuildInfo } from './inspect/go-buildinfo.ts';
export { readTree } from './image/tree.ts';
export { parseReleaseFile, readReleaseFile, releaseFileBlock, stageReleaseFile, STRICT_XATTR } from './image/release-file.ts';
export { packSquashfs, readSquashfs } from './image/squashfs.ts';
export { packErofs, readErofs } from './image/erofs.ts';
export { makeDdi, PARTITION_TYPES, readPartitions, verifyVerity, type SignKeys } from './image/ddi.ts';
export { bindMany, formatOf, readBack, readContent, unpackImage } from './image/bind.ts';
export { formatBytes } from './util/format-bytes.ts';
export { closest } from './util/closest.ts';
export { lintSources, type SourceCheck } from './lint/lint-sources.ts';
export { lintImage, lintNeighbours, lintTree, type Neighbour, ruleOf } from './lint/lint.ts';
export { source as SOURCE_RULES } from './lint/rules/elsewhere.ts';
export { IMAGE_RULES, RULES } from './lint/rules/table.ts';
export { waiveFindings } from './lint/waivers.ts';
export { parsePayload, PayloadSchema, readPayload } from './model/payload-record.ts';
export { ManifestSchema, parseManifest, readManifest, type Manifest } from './sidecars/manifest.ts';
export type { BuildContext } from './sidecars/provenance.ts';
export { formatSums, parseSums } from './sidecars/sums.ts';
export { sidecarPaths } from './sidecars/paths.ts';
export { componentId } from './sidecars/sbom.ts';
export { readDataFile } from './util/data-file.ts';
export { jsonObject, lineOfPath, parseJson } from './util/json.ts';
export { lineOf } from './util/text-position.ts';
export { placeOf } from './lint/locate.ts';
export { locatorOf, locatorsOf } from './origins/resolve.ts';
export { packagingDigest, stalePackaging, type StalePackaging } from './pipeline/packaging.ts';
export {
  checkClaims,
  contentInputs,
  describePayload,
  type ClaimDifference,
  type PayloadClaims,
  type PayloadRequest,
} from './pipeline/describe.ts';
export { openSandbox, takeFile, takeFolder, withoutSandbox, type Sandbox, type SandboxOptions } from './tools/sandbox.ts';
export { openToolchains, type Toolchains } from './tools/toolchains.ts';
export { storedPayload, type PackedPayload } from './pipeline/payload.ts';
export { bindTargets, buildExtension, type BindOptions, type BuildOptions, type BuildResult } from './pipeline/build.ts';
export { parseUnit } from './inspect/units.ts';
export * from './util/text.ts';
