import type { RuleText } from './rule.ts';

const BYTES = 'the image would not work on this release';

/** Rules about several images, about an image and its target, and about waivers. */
export const between = {
  collision: {
    level: 'error',
    checks: 'images that one node may merge have the same bytes at each common path',
    reason: 'systemd takes the file of one image, by the order of their names, and the other extension runs with it',
    fix: "take both files from one shared component, or list each extension under 'conflicts' of the other",
    fixed: "list each extension under 'conflicts' of the other instead",
  },
  'portable-needs-host': {
    level: 'error',
    checks: "no program of a portable image needs the host's libraries, and the image has no kernel modules",
    reason: 'a portable image runs on hosts with any libraries and any kernel',
    fix: 'build the program statically, ship its libraries under usr/lib/<extension>/, or bind the image to Flatcar releases only',
  },
  'needs-glibc': {
    level: 'error',
    checks: 'the release has the C library that the programs of the image need',
    reason: "a program that needs a newer C library than the release's fails when it starts",
    fix: 'leave the release out, or build the program statically or against an older C library',
  },
  'needs-systemd': {
    level: 'error',
    checks: "the release's systemd knows all settings of the units in the image",
    reason: 'systemd ignores a setting that it does not know, and the unit behaves differently',
    fix: 'leave the release out, or remove the setting',
  },
  'needs-containerd': {
    level: 'error',
    checks: "the kubelet of the image works with the release's containerd",
    reason: 'kubelet 1.38 and later does not start with a containerd before 2.0',
    fix: "leave the release out, or add a newer containerd: requires: ['containerd']; if another extension ships it (docker), waive 'needs-containerd'",
  },
  'needs-kernel': {
    level: 'error',
    checks: 'kernel modules in the image are for the kernel of the release',
    reason: 'a kernel does not load modules of another kernel',
    fix: 'build the modules for this release',
    fixed: BYTES,
  },
  waiver: {
    level: 'error',
    checks: "every entry under 'waive' names a rule that can be waived, and has a reason",
    reason: 'a mistyped waiver waives nothing, and nobody can review a waiver without a reason',
    fix: 'correct the entry; flatcar-ext explain lists the rules',
    fixed: 'the rule is about waivers',
  },
  'unused-waiver': {
    level: 'warning',
    checks: "every entry under 'waive' waives a finding",
    reason: 'an unused waiver would hide the next fault before anybody sees it',
    fix: "remove it from 'waive' in extension.ts",
    fixed: 'the rule is about waivers',
  },
} as const satisfies Record<string, RuleText>;

/** Rules about an extension's folder; packages/workspace has their checks. */
export const source = {
  'missing-pin': {
    level: 'error',
    checks: 'pins.json has the digest of every file that the components are built from',
    reason: 'nothing is fetched without a digest, so the version cannot be built',
    fix: 'run flatcar-ext pin',
    fixed: 'the version could not be built',
  },
  'unused-pin': {
    level: 'error',
    checks: 'a component uses every digest and every licence in pins.json',
    reason: 'a pin that no component uses misleads readers about the images',
    fix: 'run flatcar-ext lint --fix',
    fixed: 'flatcar-ext lint --fix removes the pin, and no image changes',
  },
  'restricted-license': {
    level: 'error',
    checks: 'an extension whose license does not permit everybody to distribute it is for local use only (localOnly)',
    reason: 'whoever publishes its images would need permission of the owner, and so would everybody who mirrors them',
    fix: "add localOnly: 'REASON' to extension.ts, or take the program from an origin with another license",
    fixed: 'the license applies to whoever publishes the image',
  },
  packaging: {
    level: 'error',
    checks: 'files and definition match the digest in pins.json, and a change to a released version raises its revision',
    reason: 'a published name never changes its bytes: a change without a higher revision is not shipped, and nobody notices',
    fix: 'run flatcar-ext pin NAME --revision',
    fixed: 'the bytes of a published name never change',
  },
  'unused-lock-module': {
    level: 'error',
    checks: 'every lock module of Go below go/ belongs to a pinned version',
    reason: 'a lock module that no pinned version uses is never built',
    fix: 'run flatcar-ext lint --fix',
    fixed: 'flatcar-ext lint --fix removes the lock module, and no image changes',
  },
  readme: {
    level: 'error',
    checks: "the generated parts of the extension's README and of the root README are current",
    reason: 'the README must match pins.json',
    fix: 'run flatcar-ext lint --fix or flatcar-ext docs',
    fixed: 'it is generated',
  },
  package: {
    level: 'error',
    checks: 'package.json has the name, the scripts and the dependencies of an extension',
    reason: 'turbo finds an extension by the name of its package, and builds it by its script',
    fix: 'run flatcar-ext lint --fix',
    fixed: 'turbo could not build the extension',
  },
  'file-mode': {
    level: 'warning',
    checks: 'units and settings below files/ are not executable',
    reason: 'the image contains files with the modes that they have below files/',
    fix: 'run flatcar-ext lint --fix, which sets mode 644',
  },
  'stale-image': {
    level: 'warning',
    checks: 'images in dist/ are built from the current sources',
    reason: 'findings about an image of earlier sources do not apply to the sources, so lint skips such an image',
    fix: 'run flatcar-ext build NAME',
    fixed: 'a build updates the image',
  },
  'no-test': {
    level: 'warning',
    checks: 'the extension has a test/extension.test.ts',
    reason: 'only a test that merges an image proves that it works',
    fix: 'write test/extension.test.ts; flatcar-ext new writes an example',
  },
  'not-tried': {
    level: 'error',
    checks: 'test/extension.test.ts has no placeholder of flatcar-ext new',
    reason: 'new writes a placeholder when it does not build the image, and the test fails until a person replaces it',
    fix: 'run the program, and write what it prints: its version, or a line that no other program prints',
    fixed: 'the test fails',
  },
} as const satisfies Record<string, RuleText>;
