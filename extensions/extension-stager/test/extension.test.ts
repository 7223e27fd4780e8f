import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { connect, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SUMS, targetFolder, transferText } from '@flatcar/publish';
import {
  afterAll,
  beforeAll,
  buildImages,
  channelHead,
  describe,
  expect,
  hostArch,
  linkName,
  mergeTest,
  startUpdateEngine,
  testExtension,
  withHost,
  type Host,
} from '@flatcar/testing';

const name = 'extension-stager';
const running = channelHead('stable');
const next = channelHead('beta');

testExtension(import.meta.dirname, {
  small: true,
  commands: [],
  machine: { active: ['extension-stager-update.timer'], answers: [{ run: 'extension-stager --help', says: /^usage: extension-stager/ }] },
  units: ['extension-stager.service', 'extension-stager-update.service', 'extension-stager-update.timer'],
  // A script of the image, by the host's own shell on both architectures.
  also: async (host) => expect(await host.run(['extension-stager', '--help'])).toMatch(/^usage: extension-stager/),
});

describe('the next release, by the real systemd-sysupdate', () => {
  let dir: string;
  let server: Server;
  let baseUrl: string;
  const files = new Map<string, Buffer>();
  const folder = `/${targetFolder(name, next.number)}`;
  let keyring: Buffer;
  let otherKeyring: Buffer;
  let sign: (text: string) => Promise<Buffer>;
  let portable = '';
  let image = '';

  /** What a server has for the next release: its image, the sums and their signature. */
  async function serve(bytes: Buffer, sumOf: Buffer = bytes): Promise<void> {
    const sums = `${createHash('sha256').update(sumOf).digest('hex')}  ${image.split('/').at(-1)}\n`;
    files.set(`${folder}/${image.split('/').at(-1)}`, bytes);
    files.set(`${folder}/${SUMS}`, Buffer.from(sums));
    files.set(`${folder}/${SUMS}.gpg`, await sign(sums));
  }

  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'stager-merge-'));
    const { createMessage, generateKey, readPrivateKey, sign: signMessage } = await import('openpgp');
    const keys = await Promise.all(
      ['ours', 'theirs'].map((who) =>
        generateKey({ type: 'ecc', curve: 'ed25519Legacy', userIDs: [{ name: who }], format: 'object', config: { v6Keys: false } }),
      ),
    );
    const [ours, theirs] = keys;
    if (ours === undefined || theirs === undefined) throw new Error('no keys');
    [keyring, otherKeyring] = [Buffer.from(ours.publicKey.write()), Buffer.from(theirs.publicKey.write())];
    const armored = ours.privateKey.armor();
    sign = async (text) => {
      const signingKeys = await readPrivateKey({ armoredKey: armored });
      const signed = await signMessage({ message: await createMessage({ text }), signingKeys, detached: true, format: 'binary' });
      return Buffer.from(signed as Uint8Array);
    };
    server = createServer((request, response) => {
      const body = files.get(request.url ?? '');
      if (body === undefined) response.writeHead(404).end();
      else response.writeHead(200, { 'content-length': body.length }).end(body);
    });
    await new Promise<void>((done) => {
      server.listen(0, '127.0.0.1', done);
    });
    baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const images = await buildImages(import.meta.dirname, hostArch(), ['portable', running, next]);
    portable = images.find(({ target }) => target === 'portable')?.file ?? '';
    image = images.find(({ target }) => target === next.number)?.file ?? '';
  });
  afterAll(async () => {
    server.closeAllConnections();
    server.close();
    await rm(dir, { recursive: true, force: true });
  });

  /** A node of the running release with the stager merged, a transfer file, and our keys. */
  async function node(use: (host: Host) => Promise<void>): Promise<void> {
    const put = async (host: Host, content: string | Buffer, path: string): Promise<void> => {
      await writeFile(join(dir, 'file'), content);
      await host.copyIn(join(dir, 'file'), path);
    };
    await withHost({ release: running.number }, async (host) => {
      await host.setRelease(running.number);
      await host.install(portable, linkName(name, 'portable'));
      expect(await host.merge()).toContain(`Using extensions '${name}`);
      await host.run(['mkdir', '-p', `/etc/sysupdate.${name}.d`]);
      await put(
        host,
        transferText({ name, kind: 'release', channel: { kind: 'latest' }, baseUrl }),
        `/etc/sysupdate.${name}.d/${name}.transfer`,
      );
      await put(host, keyring, '/etc/systemd/import-pubring.gpg');
      await use(host);
    });
  }
  const link = `/etc/extensions/${linkName(name, next)}`;

  mergeTest('is fetched, verified and linked; after the update it merges, and after a rollback the old one does', async () => {
    await serve(await readFile(image));
    await node(async (host) => {
      const said = await host.run(['extension-stager', 'stage', next.number]);
      expect(said).toContain(`${name}: the image for Flatcar ${next.number} is there`);
      expect(await host.run(['sha256sum', link])).toContain(
        createHash('sha256')
          .update(await readFile(image))
          .digest('hex'),
      );
      // The portable one would do for both releases: it is taken away, so that the bound one shows.
      await host.run(['rm', `/etc/extensions/${linkName(name, 'portable')}`]);
      expect(await host.merge()).not.toContain('Using extensions');
      await host.setRelease(next.number);
      expect(await host.merge({ policy: 'root=unprotected+absent:usr=absent' })).toContain(
        `Using extensions '${linkName(name, next).replace('.raw', '')}`,
      );
      await host.setRelease(running.number);
      expect(await host.merge()).not.toContain('Using extensions');
    });
  });

  mergeTest('is refused when the image, the sums or the key is another; the same node takes the right one', async () => {
    const right = await readFile(image);
    const wrong = Buffer.from(right);
    wrong[wrong.length >> 1] = (wrong[wrong.length >> 1] ?? 0) ^ 1;
    const missing = `${name}: there is no image for Flatcar ${next.number} yet`;
    await node(async (host) => {
      const refused = async (why: RegExp): Promise<void> => {
        const said = await host.run(['extension-stager', 'stage', next.number]);
        expect(said).toMatch(why);
        expect(said).toContain(missing);
        expect(await host.exists(link)).toBe(false);
      };
      await serve(wrong, right);
      await refused(/DOWNLOAD INVALID|[Cc]hecksum|hash/);
      await serve(right);
      files.set(`${folder}/${SUMS}`, Buffer.concat([files.get(`${folder}/${SUMS}`) ?? Buffer.alloc(0), Buffer.from('\n')]));
      await refused(/[Ss]ignature/);
      await serve(right);
      await writeFile(join(dir, 'keyring'), otherKeyring);
      await host.copyIn(join(dir, 'keyring'), '/etc/systemd/import-pubring.gpg');
      await refused(/[Ss]ignature|public key/);
      await writeFile(join(dir, 'keyring'), keyring);
      await host.copyIn(join(dir, 'keyring'), '/etc/systemd/import-pubring.gpg');
      expect(await host.run(['extension-stager', 'stage', next.number])).toContain('is there');
      expect(await host.exists(link)).toBe(true);
    });
  });

  mergeTest('is fetched as soon as update-engine stages it, as its own bus says', async () => {
    await serve(await readFile(image));
    const bus = `unix:abstract=stager-${process.pid}`;
    await node(async (host) => {
      await writeFile(
        join(dir, 'bus.conf'),
        `<busconfig><type>system</type><listen>${bus}</listen><auth>EXTERNAL</auth><policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/></policy></busconfig>`,
      );
      await host.copyIn(join(dir, 'bus.conf'), '/run/bus.conf');
      // systemd does not run here: a block inhibitor is a line in a file.
      await writeFile(join(dir, 'systemd-inhibit'), '#!/bin/sh\necho "$*" >>/run/inhibited\nexec sleep 1000\n', { mode: 0o755 });
      await host.run(['mkdir', '-p', '/run/bin']);
      await host.copyIn(join(dir, 'systemd-inhibit'), '/run/bin/systemd-inhibit');
      await host.run(['chmod', '755', '/run/bin/systemd-inhibit']);
      const daemon = await host.run(['dbus-daemon', '--config-file=/run/bus.conf', '--fork', '--print-pid']);
      const engine = await startUpdateEngine(connect(bus.replace('unix:abstract=', '\0')));
      try {
        const env = {
          DBUS_SYSTEM_BUS_ADDRESS: bus,
          PATH: '/run/bin:/usr/bin:/usr/sbin',
          EXTENSION_STAGER_POLL: '0.2',
          EXTENSION_STAGER_RETRY: '1',
        };
        engine.set('UPDATE_STATUS_IDLE', '0.0.0');
        expect(await host.run(['extension-stager', 'status'], { env })).toContain('next: none (UPDATE_STATUS_IDLE)');
        engine.set('UPDATE_STATUS_DOWNLOADING', next.number);
        const said = await host.run(
          ['timeout', '20', 'sh', '-c', 'extension-stager watch & while ! test -s "$0"; do sleep 0.2; done; sleep 1; kill $!; wait', link],
          {
            env,
          },
        );
        expect(said).toContain(`ready for Flatcar ${next.number}`);
        expect(await host.exists(link)).toBe(true);
        expect(await host.run(['cat', '/run/inhibited'])).toMatch(/--what=shutdown --mode=block/);
      } finally {
        engine.close();
        process.kill(Number(daemon.trim()));
      }
    });
  });
});
