import { containerdConf, containerdConfWaiver } from '@flatcar/components';
import { binary, cargo, defineExtension, github } from '@flatcar/core';

const youki = github('youki-dev/youki');

export default defineExtension({
  name: 'youki',
  summary: 'youki, an OCI runtime in Rust, as a runtime of containerd',
  versions: youki,
  components: (v) => [
    binary(
      'youki',
      v.version,
      youki.asset('youki-{version}-{machine}-musl.tar.gz'),
      // The crate has no default features; without these it does not create cgroups or filter system calls.
      cargo('youki', ['youki'], {
        features: ['v1', 'v2', 'systemd', 'seccomp'],
        env: { LIBSECCOMP_LINK_TYPE: 'static', LIBSECCOMP_LIB_PATH: '{sysroot}/usr/lib/{triplet}' },
      }),
    ),
    containerdConf,
  ],
  waive: containerdConfWaiver,
});
