// The public face of core: all that extensions and the other packages may import.
export * from './types.ts';
export * from './errors.ts';
export { dropEmpty, envOf, homeOf, withoutSecrets, type Environment } from './env.ts';
export * from './arch.ts';
export * from './names.ts';
export * from './pins.ts';
export * from './proof.ts';
export * from './extension.ts';
export { pathsBeside } from './beside.ts';
export { componentsOf, loadDefinition, loadExtension } from './load.ts';
export { DefinitionError, lineOfProblem } from './definition-error.ts';
export * as schemas from './schema-kit.ts';
export * from './versions.ts';
export * from './workflow-identity.ts';
export { matchingVersions, parseRef, type ExtensionRef } from './ref.ts';
export * from './releases.ts';
export { DEFAULT_PATH, exec, execResult, networkEnv, type ExecOptions, type ExecResult } from './exec.ts';
export { BoundedFile, unreadable, withBounded } from './bounded.ts';
export { clockProblem } from './clock.ts';
export { asUserError, describeErrno } from './errno.ts';
export { interruptible, interruption, throwIfInterrupted, uninterrupted } from './interrupt.ts';
export { announceWaits, withLock } from './locks.ts';
export { assertKeyCanSign, judgeSignatures, shownFingerprint, type SignatureContext } from './openpgp.ts';
export { mapParallel } from './parallel.ts';
export { reap } from './reaper.ts';
export { ownedName, removeAbandoned, TEMPORARY, temporaryBeside } from './temporary.ts';
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
} from './files.ts';
export { cacheRoot, digestOf, openStore, type Store, type StoreStats } from './store.ts';
export { DigestError, fetchBlob, fetchNew, type FetchNewOptions, type FetchOptions } from './fetch.ts';
export {
  getJson,
  getText,
  httpGet,
  httpRequest,
  httpSend,
  jsonOf,
  nextPage,
  readBody,
  timeFor,
  type HttpBody,
  type HttpExchange,
  type HttpMethod,
  type HttpOptions,
  type HttpResponse,
} from './http/client.ts';
export {
  HttpError,
  HttpStatusError,
  isNetworkFailure,
  isUnanswered,
  RateLimitError,
  UnreachableError,
  type HttpErrorCode,
} from './http/errors.ts';
export { mirrored } from './http/mirror.ts';
export { checkShape, getPages } from './http/pages.ts';
export { withoutPassword } from './http/proxy.ts';
export { headerOf, type ResponseHeaders } from './http/rate-limit.ts';
export {
  goProgram,
  goSumDigest,
  mainPackages,
  openGo,
  pinGo,
  plainGoError,
  programName,
  userGoEnv,
  wrapperDir,
  type GoCommand,
} from './gomodule.ts';
export { cargoHomeOf, downloadCrate, openCargo, type Cargo } from './origins/cargo.ts';
export { fillWords, releaseWords } from './origins/release.ts';
export { archiveKind, unpack, unpackPackage } from './unpack.ts';
export { readControlFiles } from './archives/deb.ts';
export { copyTree, filesBelow, insideTree, walk, type WalkEntry } from './walk.ts';
export { isLicense, licenseNames, readCopyright } from './copyright.ts';
export { HOST_PROGRAMS, HOST_USERS } from './rules/host.ts';
export {
  assertNotOlder,
  DEBIAN_KEYRING,
  debianMirror,
  DEFAULT_MIRROR,
  openArchive,
  snapshotArchive,
  snapshotStamp,
  packageFields,
  upstreamVersion,
  type Archive,
  type DebianPackage,
  IndexUnavailableError,
} from './debian.ts';
export { compareDebianVersions } from './debian-version.ts';
export { resolveClosure } from './dependencies.ts';
export { completeRelocation, wrappedPrograms, type Added, type CompletedOrigin, type LeftOut } from './complete-relocation.ts';
export { indexPackages, resolveLinks, type Found, type PackageFiles } from './package-index.ts';
export { RUNTIME_PACKAGES } from './runtime-files.ts';
export { relocationOmissions, type Omission, type RelocationInput } from './compiled-in.ts';
export { assertPackageVersion, isPackageLocator, resolvePackages, type ResolvedPackages } from './origins/debian.ts';
export { openTools, readToolPins, type Tools } from './tools.ts';
export { fits } from './needs.ts';
export { readElf, type Elf } from './elf.ts';
export { readTree } from './tree.ts';
export { parseReleaseFile, readReleaseFile, releaseFileBlock, stageReleaseFile, STRICT_XATTR } from './release-file.ts';
export { packSquashfs, readSquashfs } from './squashfs.ts';
export { packErofs, readErofs } from './erofs.ts';
export { makeDdi, PARTITION_TYPES, readPartitions, verifyVerity, type SignKeys } from './ddi.ts';
export { bindMany, formatOf, readBack, readContent, unpackImage } from './bind.ts';
export { closest } from './closest.ts';
export { lintSources, type SourceCheck } from './lint-sources.ts';
export { lintImage, lintNeighbours, lintTree, type Neighbour, ruleOf } from './lint.ts';
export { source as SOURCE_RULES } from './rules/elsewhere.ts';
export { IMAGE_RULES, RULES } from './rules/table.ts';
export { waiveFindings } from './waivers.ts';
export { parsePayload, PayloadSchema, readPayload } from './payload-record.ts';
export { ManifestSchema, parseManifest, readManifest, type Manifest } from './sidecars/manifest.ts';
export type { BuildContext } from './sidecars/provenance.ts';
export { formatSums, parseSums } from './sidecars/sums.ts';
export { sidecarPaths } from './sidecars/paths.ts';
export { componentId } from './sidecars/sbom.ts';
export { jsonObject, lineOfPath, parseJson } from './json.ts';
export { lineOf, lineOfKeys, placeOf } from './locate.ts';
export { locatorOf, locatorsOf } from './resolve.ts';
export { packagingDigest, stalePackaging, type StalePackaging } from './packaging.ts';
export {
  allComponents,
  checkClaims,
  contentInputs,
  describePayload,
  type ClaimDifference,
  type PayloadClaims,
  type PayloadRequest,
} from './describe.ts';
export { openSandbox, takeFile, takeFolder, withoutSandbox, type Sandbox, type SandboxOptions } from './sandbox.ts';
export { openToolchains, type Toolchains } from './toolchains.ts';
export { bindTargets, buildExtension, findExtensions, type BuildOptions, type BuildResult } from './pipeline.ts';
export { parseUnit } from './units.ts';
