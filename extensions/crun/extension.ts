import { containerdConf, containerdConfWaiver } from '@flatcar/components';
import { binary, defineExtension, github, source } from '@flatcar/core';

const crun = github('containers/crun', 'newest', { tagPrefix: '' });
/** Debian's stable release keeps the source of this version for years, so it can always be compiled; no digest of upstream's binary is known. */
const COMPILED = '1.21';

export default defineExtension({
  name: 'crun',
  summary: 'crun, an OCI runtime in C, as a runtime of containerd',
  versions: crun,
  components: (v) => [
    binary(
      'crun',
      v.version,
      ...(v.version === COMPILED ? [] : [crun.asset('crun-{version}-linux-{arch}')]),
      source('pool/main/c/crun/crun_{version}.orig.tar.gz', 'build.sh'),
    ),
    containerdConf,
  ],
  waive: containerdConfWaiver,
});
