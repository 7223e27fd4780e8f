import type { Layouts } from '@flatcar/testing';

export default [[/^youki-/, ['youki', 'README.md', 'LICENSE']]] satisfies Layouts;
