import type { RuleText } from './rule.ts';

const BYTES = 'what does not merge, or merges where it must not, is no matter of opinion';

/** What is reported of several images, of an image and its target, and of waivers. */
export const between = {
  collision: {
    level: 'error',
    checks: 'images that one node may merge together have the same bytes under each common path',
    reason: 'systemd takes the file of one of them, by the order of their names, and the other extension runs with it',
    fix: "take both from one shared component, or list each other under 'conflicts' in both extension.ts",
    fixed: "two extensions that cannot be merged together list each other under 'conflicts'",
  },
  'portable-needs-host': {
    level: 'error',
    checks: "a portable image needs none of the host's libraries and modules for no kernel",
    reason: 'a portable image meets hosts with any libraries and any kernel',
    fix: 'bind it to Flatcar releases, or ship the libraries under usr/lib/<extension>/',
  },
  'needs-glibc': {
    level: 'error',
    checks: 'the release has the C library that the programs of the image need',
    reason: "a program that needs a newer C library than the release's fails when it starts",
    fix: 'leave the release out, or build against an older C library',
  },
  'needs-systemd': {
    level: 'error',
    checks: 'the release has a systemd that knows the settings of the units in the image',
    reason: 'systemd ignores a setting that it does not know, and the unit does something else',
    fix: 'leave the release out, or do without the setting',
  },
  'needs-containerd': {
    level: 'error',
    checks: 'the release has a containerd that the kubelet of the image can talk to',
    reason: 'kubelet 1.38 and later does not start with a containerd before 2.0',
    fix: "leave the release out, or bring a newer containerd: requires: ['containerd'] has that extension beside it; where another one does (docker), waive 'needs-containerd'",
  },
  'needs-kernel': {
    level: 'error',
    checks: 'kernel modules in the image are for the kernel of the release',
    reason: 'a kernel loads no module that was made for another',
    fix: 'build the modules for this release',
    fixed: BYTES,
  },
  waiver: {
    level: 'error',
    checks: "every entry under 'waive' names a rule that can be waived, and has a reason",
    reason: 'a waiver that waives nothing by mistake, or that nobody can judge, hides the next fault',
    fix: 'correct the entry; flatcar-ext explain lists the rules',
    fixed: 'it is about the waivers themselves',
  },
  'unused-waiver': {
    level: 'warning',
    checks: "every entry under 'waive' waives something",
    reason: 'a waiver of nothing waives the next fault before anybody has seen it',
    fix: "take it out of 'waive' in extension.ts",
    fixed: 'it is about the waivers themselves',
  },
} as const satisfies Record<string, RuleText>;

/** What is reported of an extension's folder; the checks are those of the command line (source-lint.ts). */
export const source = {
  'missing-pin': {
    level: 'error',
    checks: 'pins.json has the digest of everything that the components are fetched from',
    reason: 'nothing is fetched without a digest, so the version cannot be built',
    fix: 'flatcar-ext pin writes it',
    fixed: 'the version could not be built',
  },
  'unused-pin': {
    level: 'error',
    checks: 'pins.json has no digest and no licence that no component asks for',
    reason: 'a pin that no component asks for says nothing true of the images',
    fix: 'flatcar-ext lint --fix takes it out',
    fixed: 'flatcar-ext lint --fix takes it out, and nothing is lost',
  },
  packaging: {
    level: 'error',
    checks: 'files and definition are those that pins.json has a digest of, and a released version has a higher revision than before',
    reason: 'a name that is published never changes its bytes: what was changed under it is not shipped, and nobody is told',
    fix: 'flatcar-ext pin NAME --revision',
    fixed: 'a released name has one content: whoever fetched it has that one',
  },
  'unused-lock-module': {
    level: 'error',
    checks: 'every lock module of Go below go/ belongs to a pinned version',
    reason: 'a lock module that no pinned version asks for is never built',
    fix: 'flatcar-ext lint --fix removes it',
    fixed: 'flatcar-ext lint --fix removes it, and nothing is lost',
  },
  readme: {
    level: 'error',
    checks: "the generated parts of the extension's README and of the root README are current",
    reason: 'the README must say what pins.json says',
    fix: 'flatcar-ext lint --fix writes it, as flatcar-ext docs does',
    fixed: 'it is generated',
  },
  package: {
    level: 'error',
    checks: 'package.json has the name, the scripts and the dependencies of an extension',
    reason: 'turbo finds an extension by the name of its package, and builds it by its script',
    fix: 'flatcar-ext lint --fix corrects it',
    fixed: 'turbo could not build the extension',
  },
  'file-mode': {
    level: 'warning',
    checks: 'units and settings below files/ are not executable',
    reason: 'units and settings that are executable end up so in the image',
    fix: 'flatcar-ext lint --fix sets 644',
  },
  'stale-image': {
    level: 'warning',
    checks: 'images in dist/ are made of the sources as they are now',
    reason: 'what is said of an image of earlier sources says nothing of the sources; such an image is not looked at',
    fix: 'flatcar-ext build NAME',
    fixed: 'a build brings it up to date',
  },
  'no-test': {
    level: 'warning',
    checks: 'the extension has a test/extension.test.ts',
    reason: 'an image that nobody merged is broken until shown otherwise',
    fix: 'write test/extension.test.ts; flatcar-ext new shows its form',
  },
  'not-tried': {
    level: 'error',
    checks: 'test/extension.test.ts has no command that flatcar-ext new left to be filled in',
    reason: 'new writes such a command where it did not build the image, and the test fails until a person replaces it',
    fix: 'run the program, and write what it says: the version where it says that, else a line that only it prints',
    fixed: 'the test fails',
  },
} as const satisfies Record<string, RuleText>;
