import { createServer, type AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { withHost } from './host.ts';
import type { RootOptions } from './root.ts';

/** Debian 13 with nginx, and with what an update by systemd-sysupdate takes: one root for both. */
export const NGINX_ROOT: RootOptions = { packages: ['nginx', 'systemd', 'systemd-container', 'gpg', 'gpgv'] };

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => {
    server.close(resolve);
  });
  return port;
}

/** Serves a folder by Debian's own nginx, with its settings as they come but for the folder and the port. */
export async function withNginx(dir: string, use: (url: string) => Promise<void>): Promise<void> {
  const port = await freePort();
  await withHost({ release: '0.0.0', root: NGINX_ROOT }, async (host) => {
    await host.share(dir, '/srv/tree');
    // Folders that `mkdtemp` makes are for their owner only.
    const site = `server { listen 127.0.0.1:${port}; root /srv/tree; }`;
    const setUp = `echo '${site}' > /etc/nginx/sites-enabled/default; sed -i 's/^user .*/user root;/' /etc/nginx/nginx.conf; nginx`;
    await host.run(['sh', '-c', setUp]);
    try {
      for (let tries = 0; ; tries += 1) {
        const up = await fetch(`http://127.0.0.1:${port}/`).then(
          () => true,
          () => false,
        );
        if (up) break;
        if (tries === 50) throw new Error(`nginx does not answer: ${await host.run(['nginx', '-t'])}`);
        await sleep(100);
      }
      await use(`http://127.0.0.1:${port}`);
    } finally {
      await host.run(['nginx', '-s', 'stop']);
    }
  });
}
