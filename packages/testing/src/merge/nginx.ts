import { withHost } from './host.ts';
import type { RootOptions } from './root.ts';
import { freePort, untilAnswers } from '../server/server.ts';

/** The root that all tests share, Debian 13: it has nginx, and everything that systemd-sysupdate needs. */
export const NGINX_ROOT: RootOptions = {};

/**
 * Serves a folder by Debian's nginx with its default settings, except for the folder (`/srv/tree` there), the port and the settings that are
 * passed: `http` beside the server, `server` in it.
 */
export async function withNginx(
  dir: string,
  use: (url: string) => Promise<void>,
  { http = '', server = '' }: { http?: string; server?: string } = {},
): Promise<void> {
  const port = await freePort();
  await withHost({ release: '0.0.0', root: NGINX_ROOT }, async (host) => {
    await host.share(dir, '/srv/tree');
    // Only their owner can read folders of `mkdtemp`.
    const site = `${http} server { listen 127.0.0.1:${port}; root /srv/tree; ${server} }`;
    const setUp = `echo '${site}' > /etc/nginx/sites-enabled/default; sed -i 's/^user .*/user root;/' /etc/nginx/nginx.conf; nginx`;
    await host.run(['sh', '-c', setUp]);
    try {
      await untilAnswers(`http://127.0.0.1:${port}/`, () => host.run(['nginx', '-t']));
      await use(`http://127.0.0.1:${port}`);
    } finally {
      await host.run(['nginx', '-s', 'stop']);
    }
  });
}
