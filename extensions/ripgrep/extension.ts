import { debian, defineExtension, packaged } from '@flatcar/core';

export default defineExtension({
  name: 'ripgrep',
  summary: 'ripgrep, a fast search in files',
  versions: { kind: 'debian', package: 'trixie/main/ripgrep', track: 'newest' },
  components: ({ version }) => [packaged('ripgrep', version, debian(['ripgrep'], { programs: ['rg'] }))],
});
