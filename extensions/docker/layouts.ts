import { containerdLayout, dockerLayout } from '@flatcar/components/layouts';
import type { Layouts } from '@flatcar/testing';

export default [dockerLayout, containerdLayout] satisfies Layouts;
