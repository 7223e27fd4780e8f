import { spawn } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { digestOf, hashFile, openGo, openSandbox, openStore, openTools, takeFile } from '@flatcar/core/engine';
import { freePort, untilAnswers } from './server.ts';

const MODULE = join(import.meta.dirname, '../../versitygw');

/** Versity's S3 gateway from the Go module proxy, compiled once and kept in the store. */
async function gateway(): Promise<string> {
  const store = openStore();
  const key = digestOf({ number: 1, sums: await hashFile(join(MODULE, 'go.sum')), mod: await hashFile(join(MODULE, 'go.mod')) });
  const { dir } = await store.result('test-s3', key, async (fresh) => {
    console.error('compiling an S3 server for the tests (some minutes, once)');
    const go = await openGo(store, openTools(store), () => undefined);
    const program = 'github.com/versity/versitygw/cmd/versitygw';
    await go.online(['mod', 'download'], { cwd: MODULE });
    await store.withTemp(async (work) => {
      await go.build(openSandbox(store, openTools(store)), ['-trimpath', '-o', join(work, 'versitygw'), program], {
        work,
        cwd: MODULE,
        inputs: [MODULE],
        env: { CGO_ENABLED: '0' },
      });
      await takeFile(work, 'versitygw', join(fresh, 'versitygw'));
    });
  });
  return join(dir, 'versitygw');
}

export interface TestBucket {
  /** For s3Destination. */
  readonly env: Readonly<Record<string, string>>;
  /** The bucket's folder: its objects are files there. */
  readonly dir: string;
}

/** Runs an S3 server with one empty bucket, `bucket`, whose objects are files in a folder. */
export async function withBucket(dir: string, use: (bucket: TestBucket) => Promise<void>): Promise<void> {
  const program = await gateway();
  const port = await freePort();
  await mkdir(join(dir, 'bucket'), { recursive: true });
  const server = spawn(program, ['--port', `127.0.0.1:${port}`, '--access', 'tester', '--secret', 'a secret of this test', 'posix', dir], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let said = '';
  for (const stream of [server.stdout, server.stderr]) stream.on('data', (chunk: Buffer) => (said += chunk.toString()));
  try {
    const hasEnded = (): boolean => server.exitCode !== null;
    await untilAnswers(`http://127.0.0.1:${port}/`, () => said, hasEnded);
    await use({
      env: { AWS_ACCESS_KEY_ID: 'tester', AWS_SECRET_ACCESS_KEY: 'a secret of this test', AWS_ENDPOINT_URL: `http://127.0.0.1:${port}` },
      dir: join(dir, 'bucket'),
    });
  } finally {
    server.kill('SIGKILL');
  }
}
