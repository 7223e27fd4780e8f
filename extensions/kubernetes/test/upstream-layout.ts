import { cniLayout } from '@flatcar/components/test/upstream-layouts';
import type { Layouts } from '@flatcar/testing';

export default [[/^crictl-/, ['crictl']], cniLayout] satisfies Layouts;
