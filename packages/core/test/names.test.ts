import { describe, expect, test } from 'vitest';
import { imageBase, payloadBase, type ImageVersion, type TargetName } from '../src/engine.ts';

const base = (name: string, version: string, target: string, arch: 'x86-64' | 'arm64'): string =>
  imageBase(name, version as ImageVersion, target as TargetName, arch);

describe('file names', () => {
  test('an image is named by extension, target, version and architecture; a payload has no target', () => {
    expect(base('docker', '29.8.1', '4593.2.5', 'x86-64')).toBe('docker.4593.2.5_29.8.1_x86-64');
    expect(base('docker-engine', '29.8.1-2', 'portable', 'arm64')).toBe('docker-engine.portable_29.8.1-2_arm64');
    expect(base('k3s', '1.33.1+k3s1', 'portable', 'x86-64')).toBe('k3s.portable_1.33.1+k3s1_x86-64');
    expect(payloadBase('docker', '29.8.1' as ImageVersion, 'x86-64')).toBe('docker_29.8.1_x86-64');
  });

  test.each([
    ['a_b', '1.0', 'portable', "'a_b' is not a valid extension name"],
    ['a.portable', '1.0', 'portable', "'a.portable' is not a valid extension name"],
    ['', '1.0', 'portable', "'' is not a valid extension name"],
    ['a', '1_0', 'portable', "'1_0' is not a valid version in a file name"],
    ['a', '1.0/..', 'portable', "'1.0/..' is not a valid version in a file name"],
    ['a', '1.0~rc1', 'portable', "'1.0~rc1' is not a valid version in a file name"],
    ['a', '1.0', 'portable_2.0', "'portable_2.0' is not a valid target in a file name"],
    ['a', '1.0', '', "'' is not a valid target in a file name"],
  ])('refuses parts that could run into each other: %j %j %j', (name, version, target, message) => {
    expect(() => base(name, version, target, 'x86-64')).toThrow(message);
  });
});
