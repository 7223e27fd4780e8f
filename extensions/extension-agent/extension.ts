import { binary, defineExtension, go } from '@flatcar/core';

export default defineExtension({
  name: 'extension-agent',
  summary: 'installs and updates extension images, and fetches those for the next Flatcar release before the node boots into it',
  versions: { kind: 'date', track: 'newest' },
  essential: true,
  components: ({ version }) => [
    binary(
      'extension-agent',
      version,
      go('github.com/flatcar/extensions/packages/agent', 'cmd/extension-agent', { folder: '../../packages/agent' }),
    ),
  ],
  start: ['extension-agent.service', 'extension-agent-update.timer'],
  requiredPaths: ['usr/bin/extension-agent'],
});
