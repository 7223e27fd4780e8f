import { containerdLayout } from '@flatcar/components/layouts';
import type { Layouts } from '@flatcar/testing';

export default [containerdLayout] satisfies Layouts;
