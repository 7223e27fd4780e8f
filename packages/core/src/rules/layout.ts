import { basename } from 'node:path';
import { releaseFilePath } from '../names.ts';
import { below, type Hit, type LintContext, type Rule } from './rule.ts';

const hits = (context: LintContext, wrong: (entry: LintContext['entries'][number]) => string | undefined): Hit[] =>
  context.entries.flatMap((entry) => {
    const what = wrong(entry);
    return what === undefined ? [] : [{ what, path: entry.path }];
  });

/** Where files may be, and how. */
export const layout: Readonly<Record<string, Rule>> = {
  'outside-usr': {
    level: 'error',
    reason:
      'a sysext may hold /usr only, a confext /etc only: /opt in a sysext makes all of /opt read-only, and anything else is not merged',
    fix: 'put it below usr/ (of a confext: etc/) and link to it by tmpfiles (L+), or copy it by tmpfiles (C)',
    check: (context) => {
      const root = context.kind === 'sysext' ? 'usr' : 'etc';
      return hits(context, ({ path }) => (below(path, root) ? undefined : `'${path}' is outside ${root}/`));
    },
  },
  'usr-sbin': {
    level: 'error',
    reason: "/usr/sbin is a link on Flatcar: a folder in its place hides the host's programs and breaks the boot",
    fix: 'move it to usr/bin',
    check: (context) =>
      hits(context, ({ path }) =>
        below(path, 'usr/sbin') || below(path, 'usr/local/sbin') || path === 'usr/lib64'
          ? `'${path}' replaces a link of the host`
          : undefined,
      ),
  },
  'usr-local': {
    level: 'warning',
    reason: "/usr/local is the operator's",
    fix: 'move it to usr/bin, usr/lib or usr/share',
    check: (context) => hits(context, ({ path }) => (path === 'usr/local' ? 'the image holds usr/local' : undefined)),
  },
  'modules-index': {
    level: 'error',
    reason: "the depmod index of an image hides the host's, and with it all modules of the host",
    fix: 'ship the .ko files only, and run depmod over a merged copy when loading',
    check: (context) =>
      hits(context, ({ path }) => (/^usr\/lib\/modules\/[^/]+\/modules\./.test(path) ? `'${path}' is an index of depmod` : undefined)),
  },
  'special-file': {
    level: 'error',
    reason: 'device nodes, pipes and sockets have no place in an image; a character device 0:0 is a whiteout that deletes a host file',
    fix: 'create it by tmpfiles at run time',
    check: (context) => hits(context, ({ type }) => (['file', 'dir', 'link'].includes(type) ? undefined : `a ${type} node`)),
  },
  ownership: {
    level: 'error',
    reason: 'ids of the build machine mean other users on the node',
    fix: 'pack with all files owned by root',
    check: (context) => hits(context, ({ uid, gid }) => (uid === 0 && gid === 0 ? undefined : `belongs to ${uid}:${gid}`)),
  },
  setuid: {
    level: 'error',
    reason: 'a setuid program is a door to root that nobody asked for',
    fix: 'drop the bit; where the program is of no use without it, waive this rule with the reason',
    check: (context) =>
      hits(context, ({ type, mode }) => (type === 'file' && (mode & 0o6000) !== 0 ? `has mode ${mode.toString(8)}` : undefined)),
  },
  'world-writable': {
    level: 'error',
    reason: 'anyone could change it where the hierarchy is writable',
    fix: 'chmod o-w',
    check: (context) =>
      hits(context, ({ type, mode }) => (type !== 'link' && (mode & 0o002) !== 0 ? `has mode ${mode.toString(8)}` : undefined)),
  },
  xattr: {
    level: 'error',
    reason: 'opaque and whiteout attributes hide files of the host, and others belong to the build machine',
    fix: "strip all attributes but the release file's user.extension-release.strict",
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
    reason: 'a link that leads nowhere fails when it is used, long after the build',
    fix: 'ship its target, or make the link at run time by tmpfiles',
    check: (context) => {
      const there = new Set(context.entries.map(({ path }) => path));
      return hits(context, ({ type, path, link }) => {
        if (type !== 'link' || link === undefined) return undefined;
        const target = link.startsWith('/') ? link.slice(1) : new URL(link, `file:///${path}`).pathname.slice(1);
        // A relocated program may use the host's name services (relocate.ts); where those are not, it does without.
        if (basename(path) === basename(link) && /^\/usr\/lib64\/libnss_\w+\.so\.2$/.test(link)) return undefined;
        const atRunTime = ['var', 'etc', 'opt', 'run', 'dev', 'proc', 'sys', 'tmp'].some((folder) => below(target, folder));
        return atRunTime || there.has(target) ? undefined : `links to '${link}', which is not in the image`;
      });
    },
  },
  promise: {
    level: 'error',
    reason: 'an image that lacks what it promises was shipped once, and nobody noticed until a user booted it',
    fix: "ship the path, or take it out of 'promises'",
    check: ({ promises, entries }) =>
      promises
        .filter((path) => !entries.some((entry) => entry.path === path))
        .map((path) => ({ what: `promises '${path}', and does not hold it`, path })),
  },
  empty: {
    level: 'error',
    reason: 'an image without files merges, and brings nothing',
    fix: 'check the places of the components',
    check: ({ entries }) =>
      entries.some(({ type, path }) => type === 'file' && !path.includes('/extension-release.d/'))
        ? []
        : [{ what: 'the image holds no file' }],
  },
  size: {
    level: 'error',
    reason: 'GitHub takes assets below 2 GiB, and nodes hold several versions',
    fix: 'leave out what is not needed, or split the extension',
    check: ({ size }) => (size !== undefined && size >= 2 * 2 ** 30 ? [{ what: `the image is ${size} bytes long` }] : []),
  },
};
