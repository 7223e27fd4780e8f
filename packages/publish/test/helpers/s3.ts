import { spawn } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { digestOf, hashFile, openGo, openStore, openTools } from '@flatcar/core';

const MODULE = join(import.meta.dirname, '../versitygw');

/** Versity's S3 gateway, compiled once out of the Go module proxy and kept in the store. */
async function gateway(): Promise<string> {
  const store = openStore();
  const key = digestOf({ number: 1, sums: await hashFile(join(MODULE, 'go.sum')), mod: await hashFile(join(MODULE, 'go.mod')) });
  const { dir } = await store.result('test-s3', key, async (fresh) => {
    console.error('compiling an S3 server for the tests (some minutes, once)');
    const go = await openGo(store, openTools(store), () => undefined);
    const program = 'github.com/versity/versitygw/cmd/versitygw';
    await go.online(['build', '-trimpath', '-o', join(fresh, 'versitygw'), program], { cwd: MODULE, env: { CGO_ENABLED: '0' } });
  });
  return join(dir, 'versitygw');
}

export interface TestBucket {
  /** For s3Destination. */
  readonly env: Readonly<Record<string, string>>;
  /** The bucket's folder: its objects are files there. */
  readonly dir: string;
}

/** Runs an S3 server with one empty bucket, `bucket`, whose objects are files of a folder. */
export async function withBucket(dir: string, use: (bucket: TestBucket) => Promise<void>): Promise<void> {
  const program = await gateway();
  const probe = createServer();
  await new Promise<void>((resolve) => {
    probe.listen(0, '127.0.0.1', resolve);
  });
  const { port } = probe.address() as AddressInfo;
  await new Promise((resolve) => {
    probe.close(resolve);
  });
  await mkdir(join(dir, 'bucket'), { recursive: true });
  const server = spawn(program, ['--port', `127.0.0.1:${port}`, '--access', 'tester', '--secret', 'a secret of this test', 'posix', dir], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let said = '';
  for (const stream of [server.stdout, server.stderr]) stream.on('data', (chunk: Buffer) => (said += chunk.toString()));
  try {
    for (let tries = 0; ; tries += 1) {
      const up = await fetch(`http://127.0.0.1:${port}/`).then(
        () => true,
        () => false,
      );
      if (up) break;
      if (tries === 100 || server.exitCode !== null) throw new Error(`the S3 server does not answer: ${said}`);
      await sleep(100);
    }
    await use({
      env: { AWS_ACCESS_KEY_ID: 'tester', AWS_SECRET_ACCESS_KEY: 'a secret of this test', AWS_ENDPOINT_URL: `http://127.0.0.1:${port}` },
      dir: join(dir, 'bucket'),
    });
  } finally {
    server.kill('SIGKILL');
  }
}
