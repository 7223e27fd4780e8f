import { testExtension, testUpstream } from '@flatcar/testing';

testExtension(import.meta.dirname, {
  commands: [{ run: ['youki', '--version'], says: /^youki .*0\.7\.0/m }],
  paths: ['/usr/share/containerd/conf.d/50-youki.toml', '/usr/lib/containerd-conf/make-config'],
});

testUpstream(import.meta.dirname, {
  programs: ['/usr/bin/youki'],
});
