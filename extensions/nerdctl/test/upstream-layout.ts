import { cniLayout } from '@flatcar/components/test/upstream-layouts';
import type { Layouts } from '@flatcar/testing';

export default [[/^nerdctl-/, ['nerdctl', 'containerd-rootless.sh', 'containerd-rootless-setuptool.sh']], cniLayout] satisfies Layouts;
