// What tests of extensions import: vitest's own words, and the merge level of the tests.
export { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
export { mergeTest } from './levels.ts';
export { withHost, type Host } from './host.ts';
export { buildImages, testExtension, type ExtensionTest } from './extension.ts';
export { writeContainer, type TestContainer } from './oci.ts';
