import { expect, test } from 'vitest';
import { purl } from '../src/sidecars/purl.ts';

// Canonical forms by the reference implementation in Python (packageurl-python), which the full run validates every SPDX document with.
test.each([
  [
    purl('deb', 'debian/iftop', '1.0~pre4-9+b1', { arch: 'amd64', distro: 'debian-13', upstream: 'iftop@1.0~pre4-9' }),
    'pkg:deb/debian/iftop@1.0~pre4-9%2Bb1?arch=amd64&distro=debian-13&upstream=iftop%401.0~pre4-9',
  ],
  [purl('deb', 'debian/vim', '2:9.1.1', { upstream: 'vim@2:9.1.1' }), 'pkg:deb/debian/vim@2:9.1.1?upstream=vim%402:9.1.1'],
  [
    purl('golang', 'github.com/Azure/go-autorest', 'v14.2.0+incompatible'),
    'pkg:golang/github.com/Azure/go-autorest@v14.2.0%2Bincompatible',
  ],
])('%s', (made, canonical) => expect(made).toBe(canonical));
