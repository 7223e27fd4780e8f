import { readFile } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { expect, freePort, testExtension, testRealUse } from '@flatcar/testing';

testExtension(import.meta.dirname, {
  commands: [{ run: ['restic', 'version'], says: 'version' }],
  machine: {
    async also(machine) {
      const restic = 'restic --quiet --no-cache --repo /var/restic';
      await machine.run(
        `export RESTIC_PASSWORD=test; ${restic} init && ${restic} backup /etc/systemd && ${restic} restore latest --target /var/restored`,
      );
      expect(await machine.run('cat /var/restored/etc/systemd/network/10-all.network')).toContain('DHCP=yes');
    },
  },
});

/** A server of restic's REST protocol (restic.readthedocs.io, REST Backend, version 1), with its files in memory. */
function restServer(): (request: IncomingMessage, response: ServerResponse) => void {
  const files = new Map<string, Buffer>();
  return (request, response) => {
    const { pathname } = new URL(request.url ?? '/', 'https://localhost');
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const file = files.get(pathname);
      if (request.method === 'POST') files.set(pathname, Buffer.concat(chunks));
      else if (request.method === 'DELETE') files.delete(pathname);
      else if (file !== undefined) {
        const [, from = '0', to] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '') ?? [];
        if (request.headers.range !== undefined) response.statusCode = 206;
        const part = file.subarray(Number(from), to === undefined || to === '' ? undefined : Number(to) + 1);
        response.setHeader('content-length', part.length);
        return response.end(request.method === 'HEAD' ? undefined : part);
      } else if (pathname.length > 1 && pathname.endsWith('/')) {
        const names = [...files.keys()].filter((name) => name.startsWith(pathname)).map((name) => name.slice(pathname.length));
        return response.end(JSON.stringify(names));
      } else response.statusCode = 404;
      response.end();
    });
  };
}

async function serve(certificate: { cert: Buffer; key: Buffer }): Promise<Server> {
  const server = createServer(certificate, restServer());
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  return server;
}

/** Starts sshd with keys of its own, and makes those of a client that may log in. */
const SSHD = `
set -e
mkdir -p /run/sshd /run/tls/ssh
cd /run/tls/ssh
for key in host client; do ssh-keygen -q -t ed25519 -N '' -f $key; done
/usr/sbin/sshd -f /dev/null -p "$1" -o ListenAddress=127.0.0.1 -o HostKey=$PWD/host -o AuthorizedKeysFile=$PWD/client.pub -o StrictModes=no \\
  -o UsePAM=no -o PermitRootLogin=yes -o PidFile=/run/sshd.pid -E /run/sshd.log -o 'Subsystem=sftp internal-sftp'
for _ in $(seq 100); do [ -e /run/sshd.pid ] && break; sleep 0.1; done
echo "[127.0.0.1]:$1 $(cut -d' ' -f1,2 host.pub)" >known
`;
const SSH_OPTIONS = '-i /run/tls/ssh/client -o UserKnownHostsFile=/run/tls/ssh/known -o BatchMode=yes';

const repository = `export RESTIC_PASSWORD=test RESTIC_REPOSITORY=$PWD/repository; mkdir data; echo one >data/a; ln -s a data/b
restic -q init; restic -q backup data`;

testRealUse(import.meta.dirname, {
  uses: [
    {
      does: 'backs up a folder, lists it, and restores it',
      run: `${repository}; restic ls -q latest | grep '/data/a$' | grep -c .; restic -q restore latest --target out >/dev/null; cat out/data/a; readlink out/data/b`,
      gives: '1\none\na',
    },
    { does: 'checks the data of a repository', run: `${repository}; restic check --read-data 2>&1`, gives: /no errors were found$/ },
    {
      does: 'finds data that is damaged',
      run: `${repository}; for file in repository/data/*/*; do chmod +w $file; printf x | dd of=$file bs=1 seek=9 conv=notrunc 2>/dev/null; done; restic check --read-data 2>&1 || echo damaged`,
      gives: /damaged$/,
    },
    {
      does: 'refuses a wrong password',
      run: `${repository}; RESTIC_PASSWORD=other restic snapshots 2>&1 || true`,
      gives: /wrong password or no key found/,
    },
    {
      does: 'stores only what changed, compares snapshots, and forgets old ones',
      run: `${repository}; echo two >data/c; restic -q backup data; set -- $(restic snapshots --json | grep -o '"short_id":"[^"]*"' | cut -d'"' -f4); restic diff $1 $2 | grep '/data/c$'; restic -q forget --keep-last 1 --prune; restic snapshots --json | grep -o short_id | grep -c .`,
      gives: /^\+ +\S*\/data\/c\n1$/,
    },
    {
      does: "backs up to a server over https, by a CA of the host's store, and refuses others",
      run: `export RESTIC_PASSWORD=test; echo one >a
restic -q -r rest:$TRUSTED init; restic -q -r rest:$TRUSTED backup a; restic -q -r rest:$TRUSTED dump latest /a
timeout 20 restic -r rest:$STRANGER init --retry-lock 0s 2>&1 || true`,
      gives: /^one\n[^]*certificate signed by unknown authority/,
    },
    {
      does: 'backs up to another host over sftp, by the ssh of the host',
      run: `export RESTIC_PASSWORD=test RESTIC_REPOSITORY=$SFTP$PWD/repository; echo one >a
restic() { command restic -q -o sftp.args="$SSH_OPTIONS" "$@"; }
restic init; restic backup a; restic dump latest /a; restic check 2>&1; ls repository`,
      gives: /^one\n[^]*config\ndata\nindex\nkeys\nlocks\nsnapshots$/,
      except: { bare: 'a bare root has no ssh, which Flatcar has', emulated: 'a bare root has no ssh, which Flatcar has' },
    },
  ],
  packages: ['openssh-server', 'openssh-client'],
  async withServers({ path, tls, host }, rows) {
    const ssh = await freePort();
    const servers: Server[] = [];
    try {
      for (const { certificate, key } of [tls.trusted, tls.stranger])
        servers.push(await serve({ cert: await readFile(path + certificate), key: await readFile(path + key) }));
      const [TRUSTED = '', STRANGER = ''] = servers.map((one) => `https://127.0.0.1:${(one.address() as AddressInfo).port}/`);
      expect(await host.run(['sh', '-c', SSHD, 'sh', String(ssh)])).toBe('');
      await rows({ TRUSTED, STRANGER, SFTP: `sftp://root@127.0.0.1:${ssh}/`, SSH_OPTIONS });
    } finally {
      await host.run(['sh', '-c', 'kill $(cat /run/sshd.pid)']);
      for (const one of servers) {
        one.closeAllConnections();
        one.close();
      }
    }
  },
});
