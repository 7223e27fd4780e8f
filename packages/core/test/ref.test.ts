import { expect, test } from 'vitest';
import { UsageError } from '../src/util/errors.ts';
import { matchingVersions, parseRef } from '../src/model/ref.ts';

test.each([
  ['kubernetes', { name: 'kubernetes', version: undefined }],
  ['kubernetes@1.36', { name: 'kubernetes', version: '1.36' }],
  ['k3s@1.33.1+k3s1', { name: 'k3s', version: '1.33.1+k3s1' }],
  ['docker-engine@29.8.1-2', { name: 'docker-engine', version: '29.8.1-2' }],
])("'%s' names an extension", (word, ref) => {
  expect(parseRef(word)).toEqual(ref);
});

test.each(['', '@1', 'kubernetes@', 'kubernetes@v1.36', 'a@1@2', 'a/b', 'a b', 'Kubernetes'])("'%s' does not", (word) => {
  expect(() => parseRef(word)).toThrow(UsageError);
});

test.each<[string | undefined, string[]]>([
  ['53.0', ['53.0']],
  ['53', ['53.0.1', '53.0']],
  ['53.0.1', ['53.0.1']],
  ['5', []],
  ['52', ['52']],
  [undefined, ['53.0.1', '53.0', '52']],
])('of 53.0.1, 53.0 and 52, %s means %j', (word, versions) => {
  expect(matchingVersions(['53.0.1', '53.0', '52'], word)).toEqual(versions);
});
