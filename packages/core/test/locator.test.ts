import { expect, test } from 'vitest';
import { isPackageLocator, locatorText, packageNameOf, parseLocator, type Locator } from '../src/model/locator.ts';

const LOCATORS: readonly [string, Locator][] = [
  ['https://example.org/v1/tool@2.tar.gz', { kind: 'file', url: 'https://example.org/v1/tool@2.tar.gz' }],
  ['go:example.org/tool/v2@v2.1.0+incompatible', { kind: 'module', module: 'example.org/tool/v2', version: '2.1.0+incompatible' }],
  ['cargo:ripgrep@14.1.1', { kind: 'crate', crate: 'ripgrep', version: '14.1.1' }],
  ['debian:pool/main/g/git/git_2.47_amd64.deb', { kind: 'package', path: 'pool/main/g/git/git_2.47_amd64.deb' }],
  ['debian:pool/main/c/crun/crun_1.2.orig.tar.gz', { kind: 'source', path: 'pool/main/c/crun/crun_1.2.orig.tar.gz' }],
  ['files:files', { kind: 'folder', folder: 'files' }],
];

test.each(LOCATORS)('%s is read, and written the same', (text, locator) => {
  expect(parseLocator(text)).toEqual(locator);
  expect(locatorText(locator)).toBe(text);
});

test('only binary packages are packages, not the sources of the same archive', () => {
  expect(LOCATORS.map(([text]) => text).filter(isPackageLocator)).toEqual(['debian:pool/main/g/git/git_2.47_amd64.deb']);
});

test('the path of a package names it, its version, its architecture and its source', () => {
  expect(packageNameOf('pool/main/v/vim/xxd_2%3a9.1-1_arm64.deb')).toEqual({
    name: 'xxd',
    version: '2:9.1-1',
    arch: 'arm64',
    source: 'vim',
  });
});
