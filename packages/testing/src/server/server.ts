import { createServer, type AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { httpRequest } from '@flatcar/core/engine';

/** A free TCP port of this machine. */
export async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve) => {
    probe.listen(0, '127.0.0.1', resolve);
  });
  const { port } = probe.address() as AddressInfo;
  await new Promise((resolve) => {
    probe.close(resolve);
  });
  return port;
}

/** Waits until a server answers with any status. After half a minute, or once `ended` is true, throws an Error with the text of `why`. */
export async function untilAnswers(url: string, why: () => Promise<string> | string, ended: () => boolean = () => false): Promise<void> {
  for (let tries = 0; ; tries += 1) {
    const answered = await httpRequest(url, { attempts: 1, redirects: 0, max: 1 << 20 }).then(
      () => true,
      () => false,
    );
    if (answered) return;
    if (tries === 300 || ended()) throw new Error(`${url} does not answer: ${await why()}`);
    await sleep(100);
  }
}
