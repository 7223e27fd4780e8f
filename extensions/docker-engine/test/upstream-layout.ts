import { dockerLayout } from '@flatcar/components/test/upstream-layouts';
import type { Layouts } from '@flatcar/testing';

export default [dockerLayout] satisfies Layouts;
