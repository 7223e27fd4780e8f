import { containerdLayout } from '@flatcar/components/test/upstream-layouts';
import type { Layouts } from '@flatcar/testing';

export default [containerdLayout] satisfies Layouts;
