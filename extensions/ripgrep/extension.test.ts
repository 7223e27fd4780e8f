import { testExtension } from '@flatcar/testing';

testExtension(import.meta.dirname, {
  small: true,
  commands: [{ run: ['rg', '--version'], says: 'version' }],
  machine: { answers: [{ run: 'rg --count "^Description=" /usr/lib/systemd/system/multi-user.target', says: /^1$/ }] },
});
