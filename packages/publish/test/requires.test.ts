import { UserErrors } from '@flatcar/core/engine';
import { expect, test } from 'vitest';
import { checkRequires, type Input } from '../src/publish/inputs.ts';

const image = (name: string, requires: string[]): Input => ({ file: `/${name}.raw`, manifest: { name, requires } }) as unknown as Input;

test('what an image needs beside it must be published, or be published with it', () => {
  const metrics = image('metrics', ['exporter']);
  expect(() => checkRequires({ images: [metrics] }, [])).toThrow(
    expect.objectContaining({
      message: 'metrics needs exporter merged beside it, and the tree has none',
      where: '/metrics.raw',
      next: 'publish exporter first, or together with it',
    }),
  );
  expect(() => checkRequires({ images: [metrics] }, ['exporter'])).not.toThrow();
  expect(() => checkRequires({ images: [metrics, image('exporter', [])] }, [])).not.toThrow();
  expect(() => checkRequires({ images: [metrics, metrics, image('more', ['nothing'])] }, [])).toThrow(UserErrors);
});
