import { debian, defineExtension, packaged } from '@flatcar/core';

export default defineExtension({
  name: 'ripgrep',
  summary: 'ripgrep, a fast search through files',
  versions: { kind: 'debian', at: 'trixie/main/ripgrep', keep: 'newest' },
  components: ({ version }) => [packaged('ripgrep', version, debian(['ripgrep'], { programs: ['rg'] }))],
});
