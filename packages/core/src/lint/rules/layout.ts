import { basename } from 'node:path';
import { releaseFilePath } from '../../model/names.ts';
import { follower } from './follow.ts';
import { below, type RuleViolation, type LintContext, type Rule } from './rule.ts';

const hits = (context: LintContext, wrong: (entry: LintContext['entries'][number]) => string | undefined): RuleViolation[] =>
  context.entries.flatMap((entry) => {
    const what = wrong(entry);
    return what === undefined ? [] : [{ what, path: entry.path }];
  });

/** Paths, types, modes and owners of files. */
export const layout: Readonly<Record<string, Rule>> = {
  'outside-usr': {
    level: 'error',
    checks: 'every path is below usr/ (of a confext: etc/)',
    reason:
      'a sysext may contain /usr only, a confext /etc only: /opt in a sysext makes all of /opt read-only, and systemd merges nothing else',
    fix: 'move it below usr/ (of a confext: etc/), and link to it (L) or copy it (C) by tmpfiles.d',
    fixed: 'systemd merges nothing else',
    check: (context) => {
      const root = context.kind === 'sysext' ? 'usr' : 'etc';
      return hits(context, ({ path }) => (below(path, root) ? undefined : `'${path}' is outside ${root}/`));
    },
  },
  'usr-sbin': {
    level: 'error',
    checks: 'no path replaces /usr/sbin or /usr/local/sbin, which are links on the host',
    reason: "/usr/sbin is a link on Flatcar: a folder at its path hides the host's programs and breaks the boot",
    fix: 'move it to usr/bin',
    fixed: 'the node would not boot',
    check: (context) =>
      hits(context, ({ path }) =>
        below(path, 'usr/sbin') || below(path, 'usr/local/sbin') ? `'${path}' replaces a link of the host` : undefined,
      ),
  },
  'usr-lib64': {
    level: 'error',
    checks: 'no path is below /usr/lib64, which is a link on some hosts',
    reason: '/usr/lib64 is a folder on Flatcar and a link elsewhere, and contains the libraries of the host',
    fix: 'move it to usr/lib/<extension>; if programs of the host load it as a module from there, waive the rule with that reason',
    check: (context) => hits(context, ({ path }) => (path === 'usr/lib64' ? `'${path}' replaces a link of some hosts` : undefined)),
  },
  'usr-local': {
    level: 'warning',
    checks: 'no path is below usr/local',
    reason: '/usr/local belongs to the operator',
    fix: 'move it to usr/bin, usr/lib or usr/share',
    check: (context) => hits(context, ({ path }) => (path === 'usr/local' ? 'the image contains usr/local' : undefined)),
  },
  'modules-index': {
    level: 'error',
    checks: 'the image contains no depmod index (usr/lib/modules/*/modules.*)',
    reason: "the depmod index of an image hides the host's index, and with it all modules of the host",
    fix: 'ship only the .ko files, and run depmod over a merged copy when loading',
    fixed: 'the node would find none of its modules',
    check: (context) =>
      hits(context, ({ path }) => (/^usr\/lib\/modules\/[^/]+\/modules\./.test(path) ? `'${path}' is a depmod index` : undefined)),
  },
  'special-file': {
    level: 'error',
    checks: 'every entry is a file, a folder or a link',
    reason: 'device nodes, pipes and sockets do not belong in an image; a character device 0:0 is a whiteout that deletes a host file',
    fix: 'create it by tmpfiles.d at run time',
    fixed: 'images are packed without them',
    check: (context) => hits(context, ({ type }) => (['file', 'dir', 'link'].includes(type) ? undefined : `a ${type} node`)),
  },
  ownership: {
    level: 'error',
    checks: 'root owns every entry',
    reason: 'ids of the build machine belong to other users on the node',
    fix: 'pack with all files owned by root',
    fixed: 'packing makes root own everything',
    check: (context) => hits(context, ({ uid, gid }) => (uid === 0 && gid === 0 ? undefined : `belongs to ${uid}:${gid}`)),
  },
  setuid: {
    level: 'error',
    checks: 'no file has the setuid or setgid bit',
    reason: 'a setuid program gives every user a way to root',
    fix: 'clear the bit; if the program does not work without it, waive this rule with the reason',
    check: (context) =>
      hits(context, ({ type, mode }) => (type === 'file' && (mode & 0o6000) !== 0 ? `has mode ${mode.toString(8)}` : undefined)),
  },
  'world-writable': {
    level: 'error',
    checks: 'no entry is writable by every user',
    reason: 'every user could change it if the hierarchy is writable',
    fix: 'chmod o-w',
    check: (context) =>
      hits(context, ({ type, mode }) => (type !== 'link' && (mode & 0o002) !== 0 ? `has mode ${mode.toString(8)}` : undefined)),
  },
  xattr: {
    level: 'error',
    checks: 'no entry has extended attributes, except the one of the release file',
    reason: 'opaque and whiteout attributes hide files of the host, and other attributes belong to the build machine',
    fix: "remove all attributes except the release file's user.extension-release.strict",
    check: (context) =>
      hits(context, ({ path, xattrs }) => {
        const names = Object.keys(xattrs).filter(
          (name) => !(name === 'user.extension-release.strict' && path === releaseFilePath(context.name, context.kind)),
        );
        return names.length === 0 ? undefined : `has the attributes ${names.join(', ')}`;
      }),
  },
  'broken-link': {
    level: 'error',
    sees: 'whole',
    checks: 'the target of every link is in the image, or in a folder that is filled at run time (/var, /etc, /run, ...)',
    reason: 'a dangling link fails when it is used, long after the build',
    fix: 'ship its target, or create the link at run time by tmpfiles.d',
    check: (context) => {
      const there = new Set(context.entries.map(({ path }) => path));
      const follow = follower(context.entries);
      return hits(context, ({ type, path, link }) => {
        if (type !== 'link' || link === undefined) return undefined;
        const target = follow(path);
        if (target === undefined) return `links to '${link}', which leads in a circle`;
        // A relocated program uses the name services of the host, if there are any (relocate.ts).
        if (basename(path) === basename(link) && /^\/usr\/lib64\/libnss_\w+\.so\.2$/.test(link)) return undefined;
        const atRunTime = ['var', 'etc', 'opt', 'run', 'dev', 'proc', 'sys', 'tmp'].some((folder) => below(target, folder));
        return atRunTime || there.has(target) ? undefined : `links to '${link}', which is not in the image`;
      });
    },
  },
  'required-path': {
    level: 'error',
    sees: 'whole',
    checks: "every path under 'requiredPaths' is in the image",
    reason: 'an image without a required path was shipped once, and nobody noticed until a user booted it',
    fix: "ship the path, or remove it from 'requiredPaths'",
    fixed: "remove the path from 'requiredPaths' instead",
    check: ({ requiredPaths, entries }) =>
      requiredPaths
        .filter((path) => !entries.some((entry) => entry.path === path))
        .map((path) => ({ what: `the image lacks the required path '${path}'`, path })),
  },
  empty: {
    level: 'error',
    sees: 'whole',
    checks: 'the image contains a file',
    reason: 'an image without files merges, and adds nothing',
    fix: 'check where the components install their files',
    fixed: 'an image without files is of no use',
    check: ({ entries }) =>
      entries.some(({ type, path }) => type === 'file' && !path.includes('/extension-release.d/'))
        ? []
        : [{ what: 'the image contains no file' }],
  },
  size: {
    level: 'error',
    sees: 'target',
    checks: 'the image is smaller than 2 GiB',
    reason: 'GitHub accepts assets below 2 GiB, and nodes keep several versions',
    fix: 'remove unneeded files, or split the extension',
    fixed: 'it could not be published',
    check: ({ size }) => (size !== undefined && size >= 2 * 2 ** 30 ? [{ what: `the image is ${size} bytes long` }] : []),
  },
};
