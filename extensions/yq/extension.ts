import { binary, defineExtension, go } from '@flatcar/core';

export default defineExtension({
  name: 'yq',
  summary: 'yq, a processor for YAML, JSON, XML and TOML',
  versions: { kind: 'go', module: 'github.com/mikefarah/yq/v4', track: 'newest' },
  components: ({ version }) => [binary('yq', version, go('github.com/mikefarah/yq/v4', '.'))],
});
