import { kataLayouts } from '@flatcar/components/test/upstream-layouts';

export default kataLayouts;
