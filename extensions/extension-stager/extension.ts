import { defineExtension } from '@flatcar/core';

export default defineExtension({
  name: 'extension-stager',
  summary: "updates extension images, and has the next Flatcar release's on the node before it is booted",
  versions: { kind: 'date', at: '', keep: 'newest' },
  // All of it is in files/: units and one shell script.
  components: () => [],
  start: ['extension-stager.service', 'extension-stager-update.timer'],
  promises: ['usr/bin/extension-stager'],
});
