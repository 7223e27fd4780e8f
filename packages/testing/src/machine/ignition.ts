import { createReadStream } from 'node:fs';
import { stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { hashFile } from '@flatcar/core/engine';
import { modeOf, type Seed } from './seed.ts';

/** Address of the server of a machine's files in QEMU's user network. */
const SERVER = { address: '10.0.2.100', port: 80 };

/** Name of Ignition's config in QEMU's firmware configuration device. */
const FLATCAR_CONFIG = 'opt/org.flatcar-linux/config';

/** A seed as an Ignition config (spec 3.3.0, which every release of the catalogue reads); copies are fetched from `url` and a number. */
export async function ignitionConfig({ files = {}, copies = {}, links = {} }: Seed, url: string): Promise<object> {
  const fetched = await Promise.all(
    Object.entries(copies).map(async ([path, from], index) => ({
      path,
      mode: (await stat(from)).mode & 0o777,
      overwrite: true,
      contents: { source: `${url}${index}`, verification: { hash: `sha512-${await hashFile(from, 'sha512')}` } },
    })),
  );
  const written = Object.entries(files).map(([path, text]) => ({
    path,
    mode: modeOf(path, text),
    overwrite: true,
    contents: { source: `data:;base64,${Buffer.from(text).toString('base64')}` },
  }));
  return {
    ignition: { version: '3.3.0' },
    storage: {
      files: [...written, ...fetched],
      links: Object.entries(links).map(([path, target]) => ({ path, target, overwrite: true, hard: false })),
    },
  };
}

/** Files of this machine by their number, over HTTP on the loopback interface. */
export async function serveFiles(paths: readonly string[]): Promise<AsyncDisposable & { readonly port: number }> {
  const server = createServer((request, response) => {
    const path = paths[Number(request.url?.slice(1))];
    if (path === undefined) response.writeHead(404).end();
    else pipeline(createReadStream(path), response).catch(() => response.destroy()); // the machine is gone and reports it
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    port,
    [Symbol.asyncDispose]: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

/**
 * QEMU's arguments that pass a seed to a machine by Ignition: the config in the firmware's configuration device, and a network with the
 * server of its files, which is restricted to that server unless `network` is true.
 */
export async function ignitionArgs(
  seed: Seed,
  temp: string,
  network: boolean,
): Promise<AsyncDisposable & { readonly args: readonly string[] }> {
  const { address, port } = SERVER;
  const config = join(temp, 'config.ign');
  await writeFile(config, JSON.stringify(await ignitionConfig(seed, `http://${address}/`)));
  const server = await serveFiles(Object.values(seed.copies ?? {}));
  const relay = `${process.execPath} ${join(import.meta.dirname, 'relay.ts')} ${server.port}`;
  const netdev = `user,id=net,restrict=${network ? 'off' : 'on'},guestfwd=tcp:${address}:${port}-cmd:${relay}`;
  const nic = ['-netdev', netdev, '-device', 'virtio-net-pci,netdev=net,romfile='];
  return {
    args: ['-fw_cfg', `name=${FLATCAR_CONFIG},file=${config}`, ...nic],
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}
