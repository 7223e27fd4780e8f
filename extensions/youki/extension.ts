import { containerdConf } from '@flatcar/components';
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
      cargo('youki', ['youki'], { env: { LIBSECCOMP_LINK_TYPE: 'static', LIBSECCOMP_LIB_PATH: '{sysroot}/usr/lib/{triplet}' } }),
    ),
    containerdConf,
  ],
});
