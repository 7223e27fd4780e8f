import { debian, defineExtension, packaged, type VersionSource } from '@flatcar/core';

const git: VersionSource = { kind: 'debian', at: 'trixie/main/git', keep: 'newest' };
const programs = ['git', 'git-receive-pack', 'git-shell', 'git-upload-archive', 'git-upload-pack', 'scalar'];

const origin = debian(['git', 'openssh-client'], {
  programs,
  data: [
    'usr/lib/git-core/**',
    'usr/share/git-core/templates/**',
    // Scripts that need Perl, which Flatcar does not have, or a web server.
    ...['filter-branch', 'instaweb', 'request-pull', 'web--browse'].map((name) => `!usr/lib/git-core/git-${name}`),
  ],
  // Git finds the programs of its own folder first: files/ links to ssh from there, and the host keeps its own.
  beside: ['usr/bin/ssh'],
});

export default defineExtension({
  name: 'git',
  summary: 'git with https and ssh transport, on libraries of its own',
  versions: git,
  components: ({ version }) => [packaged('git', version, origin)],
  replaces: programs.map((name) => `usr/bin/${name}`),
  waive: {
    'script-interpreter:usr/share/git-core/templates/hooks/*.sample': 'samples, which git runs only where somebody renames them',
  },
});
