import { cniLayout } from '@flatcar/components/layouts';
import type { Layouts } from '@flatcar/testing';

export default [[/^crictl-/, ['crictl']], cniLayout] satisfies Layouts;
