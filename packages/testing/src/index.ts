// What tests of extensions import: vitest's own words, and the merge level of the tests.
export { expect } from 'vitest';
export { afterAll, afterEach, beforeAll, beforeEach, describe, machineTest, mergeTest, test } from './levels.ts';
export { WITHOUT_VERITY, withHost, type Host } from './host.ts';
export { buildImages, testExtension, versionPattern, type ExtensionTest } from './extension.ts';
export { expectOwnPluginsStay } from './cni.ts';
export { writeContainer, type TestContainer } from './oci.ts';
export { imagePath, linkPath, withMachine, type Delivered, type Machine, type MachineOptions } from './machine/machine.ts';
export { describeMachines, type MachineTest, type Selection } from './machine/extensions.ts';
export { NGINX_ROOT, withNginx } from './nginx.ts';
export { freePort, untilAnswers } from './server.ts';
export { SYSUPDATES, updated, type Updated } from './sysupdate.ts';
export { debianRoot, unpackRoot, type RootOptions } from './root.ts';
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
} from './containers.ts';
export { testUpstream, withUpstream, type Layouts, type Upstream, type UpstreamTest } from './upstream.ts';
export { expectOwnObjects, hostLibraries, testRelocated, traced, type RelocatedTest } from './relocated.ts';
export { verifyTls, withTls, type TlsCheck, type TlsChecks, type TlsHost, type TlsServer } from './tls.ts';
export { gnupg } from './machine/gnupg.ts';
export { sharedMachine } from './machine/shared.ts';
export { startUpdateEngine, type UpdateEngine } from './update-engine.ts';
export { standInOnly } from './machine/os.ts';
export { shareStore } from './unit-store.ts';
export { startGitHub, type FakeGitHub } from './github/server.ts';
export { permissionsOf, type FakeIssue, type FakePull, type FakeState, type Permissions } from './github/state.ts';
export { withBucket, type TestBucket } from './s3.ts';
export { declaredUses, testRealUse, USE_ROOTS, type RealUse, type RealUses } from './real-use.ts';
export type { UseRoot, UseRootName } from './use-root.ts';
export { evidenceProblems, sidecarProblems } from './evidence.ts';
export { affects, scan, type Advisory } from './scanner.ts';
