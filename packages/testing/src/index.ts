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
export { extensionFolder } from './folders.ts';
export type { ContainerHost, Host, Machine, TlsHost, TlsServer, UseRoot, UseRootName } from './hosts.ts';
export { afterAll, afterEach, beforeAll, beforeEach, describe, machineTest, mergeTest, test } from './levels.ts';
export type { ExtensionTest, Layouts, MachineTest, RealUse, RealUses, RelocatedTest, TlsCheck, TlsChecks, UpstreamTest } from './spec.ts';
export { evidenceProblems, sidecarProblems } from './evidence.ts';
export { affects, scan, type Advisory } from './scanner.ts';
export { shareStore } from './unit-store.ts';
export { startUpdateEngine, type UpdateEngine } from './update-engine.ts';
export { startGitHub, type FakeGitHub } from './github/server.ts';
export { permissionsOf, type FakeIssue, type FakePull, type FakeState, type Permissions } from './github/state.ts';
export { writeContainer, type TestContainer } from './server/oci.ts';
export { withBucket, type TestBucket } from './server/s3.ts';
export { freePort, untilAnswers } from './server/server.ts';
export { verifyTls, withTls } from './server/tls.ts';
export { expectOwnPluginsStay } from './merge/cni.ts';
export { compileStatic, HELLO, runContainers, WAT, whyNoContainers, type ContainerRun } from './merge/containers.ts';
export { WITHOUT_VERITY, withHost } from './merge/host.ts';
export { NGINX_ROOT, withNginx } from './merge/nginx.ts';
export { debianRoot, unpackRoot, type RootOptions } from './merge/root.ts';
export { SYSUPDATES, updated, type Updated } from './merge/sysupdate.ts';
export { standInOnly } from './machine/chosen-os.ts';
export { expectContainers, hostOf } from './machine/containers.ts';
export { imagePath, linkPath, withMachine, type Delivered, type MachineOptions } from './machine/machine.ts';
export { sharedMachine } from './machine/shared.ts';
export { testExtension } from './extension/extension.ts';
export { withUpstream, type Upstream } from './extension/fake-upstream.ts';
export { buildImages, versionPattern } from './extension/images.ts';
export { describeMachines, type Selection } from './extension/machines.ts';
export { declaredUses, testRealUse, USE_ROOTS } from './extension/real-use.ts';
export { expectOwnObjects, hostLibraries, testRelocated, traced } from './extension/relocated.ts';
export { testUpstream } from './extension/upstream.ts';
