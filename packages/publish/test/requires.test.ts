import { UserErrors } from '@flatcar/core/engine';
import { expect, test } from 'vitest';
import { checkRequires, type Input } from '../src/publish/inputs.ts';

const image = (name: string, requires: string[]): Input => ({ file: `/${name}.raw`, manifest: { name, requires } }) as unknown as Input;

test('an extension that an image requires must be published, before or with it', () => {
  const metrics = image('metrics', ['exporter']);
  expect(() => checkRequires({ images: [metrics] }, [])).toThrow(
    expect.objectContaining({
      message: 'metrics requires exporter, which is not published',
      where: '/metrics.raw',
      next: 'publish exporter first, or both together',
    }),
  );
  expect(() => checkRequires({ images: [metrics] }, ['exporter'])).not.toThrow();
  expect(() => checkRequires({ images: [metrics, image('exporter', [])] }, [])).not.toThrow();
  expect(() => checkRequires({ images: [metrics, metrics, image('more', ['nothing'])] }, [])).toThrow(UserErrors);
});
