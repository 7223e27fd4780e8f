import { dockerLayout } from '@flatcar/components/layouts';
import type { Layouts } from '@flatcar/testing';

export default [dockerLayout] satisfies Layouts;
