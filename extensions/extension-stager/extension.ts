import { defineExtension } from '@flatcar/core';

export default defineExtension({
  name: 'extension-stager',
  summary: 'updates extension images, and fetches those for the next Flatcar release before the node boots into it',
  versions: { kind: 'date', track: 'newest' },
  // It consists of files/ only: units and one shell script.
  components: () => [],
  start: ['extension-stager.service', 'extension-stager-update.timer'],
  essential: true,
  requiredPaths: ['usr/bin/extension-stager'],
});
