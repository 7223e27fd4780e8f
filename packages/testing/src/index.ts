// What tests of extensions import: vitest's own words, what they need of the engine, and the helpers of all three levels.
export { expect } from 'vitest';
export {
  ARCHES,
  archWords,
  buildExtension,
  catalogue,
  channelHead,
  exec,
  hostArch,
  linkName,
  loadExtension,
  newestFirst,
  openStore,
  openTools,
  type Arch,
  type Image,
  type Release,
} from '@flatcar/core/engine';
export { afterAll, afterEach, beforeAll, beforeEach, describe, machineTest, mergeTest, test } from './levels.ts';
export { extensionFolder } from './folders.ts';
export { WITHOUT_VERITY, withHost, type Host } from './merge/host.ts';
export { buildImages, testExtension, versionPattern, type ExtensionTest } from './extension.ts';
export { expectOwnPluginsStay } from './merge/cni.ts';
export { writeContainer, type TestContainer } from './server/oci.ts';
export { imagePath, linkPath, withMachine, type Delivered, type Machine, type MachineOptions } from './machine/machine.ts';
export { describeMachines, type MachineTest, type Selection } from './machine/extensions.ts';
export { NGINX_ROOT, withNginx } from './server/nginx.ts';
export { freePort, untilAnswers } from './server/server.ts';
export { SYSUPDATES, updated, type Updated } from './sysupdate.ts';
export { debianRoot, unpackRoot, type RootOptions } from './merge/root.ts';
export {
  compileStatic,
  expectContainers,
  HELLO,
  hostOf,
  runContainers,
  WAT,
  whyNoContainers,
  type ContainerHost,
  type ContainerRun,
} from './merge/containers.ts';
export { testUpstream, withUpstream, type Layouts, type Upstream, type UpstreamTest } from './server/upstream.ts';
export { expectOwnObjects, hostLibraries, testRelocated, traced, type RelocatedTest } from './merge/relocated.ts';
export { verifyTls, withTls, type TlsCheck, type TlsChecks, type TlsHost, type TlsServer } from './server/tls.ts';
export { gnupg } from './machine/gnupg.ts';
export { sharedMachine } from './machine/shared.ts';
export { startUpdateEngine, type UpdateEngine } from './update-engine.ts';
export { standInOnly } from './machine/os.ts';
export { shareStore } from './unit-store.ts';
export { startGitHub, type FakeGitHub } from './github/server.ts';
export { permissionsOf, type FakeIssue, type FakePull, type FakeState, type Permissions } from './github/state.ts';
export { withBucket, type TestBucket } from './server/s3.ts';
export { declaredUses, testRealUse, USE_ROOTS, type RealUse, type RealUses } from './merge/real-use.ts';
export type { UseRoot, UseRootName } from './merge/use-root.ts';
export { evidenceProblems, sidecarProblems } from './evidence.ts';
export { affects, scan, type Advisory } from './scanner.ts';
