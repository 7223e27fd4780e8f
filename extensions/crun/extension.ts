import { containerdConf } from '@flatcar/components';
import { binary, defineExtension, github, source } from '@flatcar/core';

const crun = github('containers/crun', 'newest', { tagPrefix: '' });

export default defineExtension({
  name: 'crun',
  summary: 'crun, an OCI runtime in C, as a runtime of containerd',
  versions: crun,
  components: (v) => [
    binary('crun', v.version, crun.asset('crun-{version}-linux-{arch}'), source('pool/main/c/crun/crun_{version}.orig.tar.gz', 'build.sh')),
    containerdConf,
  ],
});
