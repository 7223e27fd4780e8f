import { kataLayouts } from '@flatcar/components/layouts';

export default kataLayouts;
