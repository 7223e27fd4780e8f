import { containerdLayout, dockerLayout } from '@flatcar/components/test/upstream-layouts';
import type { Layouts } from '@flatcar/testing';

export default [dockerLayout, containerdLayout] satisfies Layouts;
