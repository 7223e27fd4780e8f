import { execFileSync, spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { channelHead, exec, hostArch, linkName } from '@flatcar/core';
import { buildImages, expect, expectOwnObjects, mergeTest, testExtension, testRelocated, traced, withHost } from '@flatcar/testing';

const folder = '/usr/lib/git';

testExtension(import.meta.dirname, {
  commands: [{ run: ['git', '--version'], says: 'version' }],
  paths: ['/usr/lib/git-core/git-remote-https', '/usr/lib/git-core/ssh', '/usr/share/git-core/templates/description'],
});

testRelocated(import.meta.dirname, {
  folder,
  tls: [
    {
      run: ({ url }) => ['git', 'ls-remote', `${url}repo.git`],
      accepts: /not valid: is this a git repository/, // it read the answer
      refuses: /certificate signer not trusted/,
    },
  ],
  commands: [
    { run: ['git', '--version'], says: 'version' },
    { run: ['scalar', 'version'], says: /^scalar version|^git version/ },
    { run: ['/usr/lib/git-core/ssh', '-V'], says: /^OpenSSH_\d/ },
    { run: ['/usr/lib/git-core/git-remote-https'], says: /usage: git remote-curl/ },
    { run: ['git', 'init', '--quiet', '--initial-branch=main', '/run/own'], says: /^$/ },
    { run: ['git', '-C', '/run/own', 'status', '--porcelain', '--branch'], says: /^## No commits yet on main$/ },
  ],
});

/** A repository of one commit, served over https by git's own CGI program on this machine, with a certificate of its own. */
async function serve(dir: string): Promise<Server> {
  const git = (...args: string[]): Promise<string> =>
    exec('git', ['-c', 'user.name=a', '-c', 'user.email=a@example.org', ...args], { cwd: dir });
  await git('init', '--quiet', '--initial-branch=main', 'work');
  await writeFile(join(dir, 'work/file'), 'content\n');
  await git('-C', 'work', 'add', '.');
  await git('-C', 'work', 'commit', '--quiet', '-m', 'first');
  await git('clone', '--quiet', '--bare', 'work', 'repo.git');
  const names = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1'];
  await exec('openssl', ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', ...names, '-keyout', join(dir, 'key.pem'), '-out', join(dir, 'cert.pem')]); // prettier-ignore
  const backend = join(execFileSync('git', ['--exec-path'], { encoding: 'utf8' }).trim(), 'git-http-backend');
  const server = createServer(
    { key: await readFile(join(dir, 'key.pem')), cert: await readFile(join(dir, 'cert.pem')) },
    (request, response) => {
      const url = new URL(request.url ?? '/', 'https://localhost');
      const child = spawn(backend, {
        env: {
          PATH: process.env['PATH'],
          GIT_PROJECT_ROOT: dir,
          GIT_HTTP_EXPORT_ALL: '1',
          PATH_INFO: url.pathname,
          QUERY_STRING: url.search.slice(1),
          REQUEST_METHOD: request.method,
          CONTENT_TYPE: request.headers['content-type'] ?? '',
          HTTP_CONTENT_ENCODING: request.headers['content-encoding'] ?? '',
          GIT_PROTOCOL: String(request.headers['git-protocol'] ?? ''),
        },
      });
      request.pipe(child.stdin);
      const chunks: Buffer[] = [];
      child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
      child.on('close', () => {
        const answer = Buffer.concat(chunks);
        const end = answer.indexOf('\r\n\r\n');
        const headers = answer.toString('latin1', 0, end).split('\r\n').map((line) => line.split(': ')); // prettier-ignore
        for (const [name = '', value = ''] of headers) if (name !== 'Status') response.setHeader(name, value);
        response.statusCode = Number.parseInt(headers.find(([name]) => name === 'Status')?.[1] ?? '200', 10);
        response.end(answer.subarray(end + 4));
      });
    },
  );
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return server;
}

/** Starts sshd on the host, with keys of its own, and gives the options of a client that knows them. */
const SSHD = `
set -e
mkdir -p /run/sshd /run/keys
for key in host client; do ssh-keygen -q -t ed25519 -N '' -f /run/keys/$key; done
/usr/sbin/sshd -f /dev/null -p "$1" -o ListenAddress=127.0.0.1 -o HostKey=/run/keys/host -o AuthorizedKeysFile=/run/keys/client.pub \\
  -o StrictModes=no -o UsePAM=no -o PermitRootLogin=yes -o PidFile=/run/sshd.pid -E /run/sshd.log
for _ in $(seq 100); do [ -e /run/sshd.pid ] && break; sleep 0.1; done
echo "[127.0.0.1]:$1 $(cut -d' ' -f1,2 /run/keys/host.pub)" >/run/keys/known
`;

mergeTest('clones over https and over ssh, on its own libraries, from servers on this machine', async () => {
  const [image] = await buildImages(import.meta.dirname, hostArch(), ['portable']);
  const dir = await mkdtemp(join(tmpdir(), 'git-'));
  const server = await serve(dir);
  const { port } = server.address() as AddressInfo;
  const sshPort = String(20_000 + (process.pid % 10_000));
  try {
    // Only the server is the host's: openssh-server, whose sessions run the merged git.
    await withHost({ release: channelHead('stable').number, root: { packages: ['systemd', 'openssh-server'] } }, async (host) => {
      await host.install(image?.file ?? '', linkName('git', 'portable'));
      expect(await host.merge()).toContain("Using extensions 'git");
      await host.copyIn(join(dir, 'cert.pem'), '/run/cert.pem');
      const url = `https://127.0.0.1:${port}/repo.git`;

      expect(await host.run(['git', 'clone', '--quiet', url, '/run/untrusted']), 'a certificate that nobody knows').toMatch(
        /certificate verification failed|SSL CA cert/i,
      );
      const https = await traced(host, ['git', 'clone', '--quiet', url, '/run/https'], folder, {
        env: { GIT_SSL_CAINFO: '/run/cert.pem' },
      });
      expect(https.said).toBe('');
      expectOwnObjects(https.objects, folder, 'git clone https');
      expect(https.objects).toContain(`${folder}/libcurl-gnutls.so.4`);
      expect(await host.run(['cat', '/run/https/file'])).toBe('content');

      expect(await host.run(['sh', '-c', SSHD, 'sh', sshPort])).toBe('');
      try {
        await host.run(['git', 'clone', '--quiet', '--bare', '/run/https', '/run/repo.git']);
        const command = 'ssh -i /run/keys/client -o UserKnownHostsFile=/run/keys/known -o BatchMode=yes';
        const ssh = await traced(host, ['git', 'clone', '--quiet', `ssh://root@127.0.0.1:${sshPort}/run/repo.git`, '/run/ssh'], folder, {
          env: { GIT_SSH_COMMAND: command },
        });
        expect(ssh.said, await host.run(['cat', '/run/sshd.log'])).toBe('');
        expectOwnObjects(ssh.objects, folder, 'git clone ssh');
        expect(ssh.objects, 'its own ssh').toContain(`${folder}/libcrypto.so.3`);
        expect(await host.run(['cat', '/run/ssh/file'])).toBe('content');
      } finally {
        await host.run(['sh', '-c', 'kill $(cat /run/sshd.pid)']);
      }
    });
  } finally {
    server.close();
    await rm(dir, { recursive: true, force: true });
  }
});
