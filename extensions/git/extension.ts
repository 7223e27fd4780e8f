import { debian, defineExtension, packaged, type VersionSource } from '@flatcar/core';

const git: VersionSource = { kind: 'debian', package: 'trixie/main/git', track: 'newest' };
const programs = ['git', 'git-receive-pack', 'git-shell', 'git-upload-archive', 'git-upload-pack', 'scalar'];

const origin = debian(['git', 'openssh-client'], {
  programs,
  relocate: {
    data: [
      'usr/lib/git-core/**',
      'usr/share/git-core/templates/**',
      // ssh's helpers for keys on FIDO and PKCS#11 devices, at the paths that are compiled into it.
      'usr/lib/openssh/ssh-sk-helper',
      'usr/lib/openssh/ssh-pkcs11-helper',
      // Scripts that need Perl, which Flatcar does not have, or a web server.
      ...['filter-branch', 'instaweb', 'request-pull', 'web--browse'].map((name) => `!usr/lib/git-core/git-${name}`),
    ],
    // Git looks into its own folder first: files/ links to these programs from there, and the host keeps its own. ssh-keygen signs commits.
    siblings: ['usr/bin/ssh', 'usr/bin/ssh-keygen'],
  },
});

export default defineExtension({
  name: 'git',
  summary: 'git with https and ssh transport, and its own libraries',
  versions: git,
  components: ({ version }) => [packaged('git', version, origin)],
  replaces: programs.map((name) => `usr/bin/${name}`),
  waive: {
    'compiled-in-path:usr/lib/openssh/ssh-keysign': 'for logins by the key of the host, for which it must be setuid',
    'script-interpreter:usr/share/git-core/templates/hooks/*.sample': 'samples, which git runs only where somebody renames them',
  },
});
