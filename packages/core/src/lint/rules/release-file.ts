import { releaseFilePath } from '../../model/names.ts';
import { parseReleaseFile, RELEASE_FILE_SIZE, STRICT_XATTR } from '../../image/release-file.ts';
import type { RuleViolation, LintContext, Rule } from './rule.ts';

const withFile = (context: LintContext, check: (fields: Record<string, string>) => readonly string[]): RuleViolation[] => {
  const path = releaseFilePath(context.name, context.kind);
  if (context.releaseFile === undefined) return [];
  return check(parseReleaseFile(context.releaseFile)).map((what) => ({ what, path }));
};

const GENERATED = 'flatcar-ext writes the release file itself, and systemd merges nothing without it';

/** The file by which systemd decides whether to merge an image (UAPI.4). */
export const releaseFile: Readonly<Record<string, Rule>> = {
  'release-file': {
    level: 'error',
    checks: "the release file has the image's name and the size of one block",
    reason: 'without a release file of its name an image fails to merge, and all other images fail with it',
    fix: 'build it with flatcar-ext, which writes the file',
    fixed: GENERATED,
    check: (context) => {
      const path = releaseFilePath(context.name, context.kind);
      const entry = context.entries.find((one) => one.path === path);
      if (entry === undefined) return [{ what: 'the release file is missing', path }];
      if (entry.size !== RELEASE_FILE_SIZE)
        return [{ what: `the release file is ${entry.size} bytes long, not ${RELEASE_FILE_SIZE}: bind cannot rewrite it`, path }];
      return [];
    },
  },
  'release-strict': {
    level: 'error',
    checks: 'the release file has the attribute user.extension-release.strict=false',
    reason: 'without user.extension-release.strict=false a renamed file fails with "No medium found"',
    fix: 'build it with flatcar-ext, which sets the attribute',
    fixed: GENERATED,
    check: (context) => {
      const path = releaseFilePath(context.name, context.kind);
      const entry = context.entries.find((one) => one.path === path);
      return entry !== undefined && entry.xattrs[STRICT_XATTR] !== 'false' ? [{ what: `${STRICT_XATTR} is not set to false`, path }] : [];
    },
  },
  'sysext-level': {
    level: 'error',
    checks: 'the release file has no SYSEXT_LEVEL or CONFEXT_LEVEL',
    reason: 'SYSEXT_LEVEL overrides VERSION_ID, and every Flatcar has SYSEXT_LEVEL=1.0: the image would merge on all releases',
    fix: 'remove SYSEXT_LEVEL',
    fixed: GENERATED,
    check: (context) =>
      withFile(context, (fields) =>
        Object.keys(fields)
          .filter((key) => key.endsWith('EXT_LEVEL'))
          .map((key) => `${key}=${fields[key]}`),
      ),
  },
  'bound-id': {
    level: 'error',
    checks: 'ID and VERSION_ID of the release file are those of the target',
    reason: 'with ID=_any systemd ignores VERSION_ID: a bound image would merge on every release',
    fix: 'bind the payload again',
    fixed: GENERATED,
    check: (context) =>
      withFile(context, ({ ID, VERSION_ID }) => {
        const { target } = context;
        if (target === undefined) return [];
        if (target === 'portable')
          return ID === '_any' && VERSION_ID === undefined ? [] : [`a portable image has ID=${ID} VERSION_ID=${VERSION_ID}`];
        return ID === 'flatcar' && VERSION_ID === target.number
          ? []
          : [`an image for Flatcar ${target.number} has ID=${ID} VERSION_ID=${VERSION_ID}`];
      }),
  },
  'release-arch': {
    level: 'error',
    checks: "ARCHITECTURE of the release file is the image's",
    reason: 'ARCHITECTURE= keeps an image off a machine that cannot run it',
    fix: 'build it with flatcar-ext for the right architecture',
    fixed: GENERATED,
    check: (context) =>
      withFile(context, ({ ARCHITECTURE }) =>
        ARCHITECTURE === context.arch ? [] : [`ARCHITECTURE=${ARCHITECTURE}, and the image is for ${context.arch}`],
      ),
  },
  'release-version': {
    level: 'error',
    checks: "the release file has the extension's id and version",
    reason: 'tools identify an image by these fields',
    fix: 'build it with flatcar-ext, which writes the fields',
    fixed: GENERATED,
    check: (context) =>
      withFile(context, (fields) => {
        const prefix = context.kind === 'sysext' ? 'SYSEXT' : 'CONFEXT';
        return [`${prefix}_ID`, `${prefix}_VERSION_ID`].filter((key) => !fields[key]).map((key) => `${key} is missing`);
      }),
  },
};
