import { execFileSync, spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  buildImages,
  channelHead,
  exec,
  expect,
  expectOwnObjects,
  freePort,
  hostArch,
  linkName,
  mergeTest,
  testExtension,
  testRealUse,
  testRelocated,
  traced,
  withHost,
  type RealUse,
} from '@flatcar/testing';

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

/** Makes a repository of one commit, `repo.git` in this folder. */
async function makeRepository(dir: string): Promise<void> {
  const git = (...args: string[]): Promise<string> =>
    exec('git', ['-c', 'user.name=a', '-c', 'user.email=a@example.org', ...args], { cwd: dir });
  await git('init', '--quiet', '--initial-branch=main', 'work');
  await writeFile(join(dir, 'work/file'), 'content\n');
  await git('-C', 'work', 'add', '.');
  await git('-C', 'work', 'commit', '--quiet', '-m', 'first');
  await git('clone', '--quiet', '--bare', 'work', 'repo.git');
}

/** Makes a certificate of 127.0.0.1 that nobody else signed, `cert.pem` in this folder. */
async function makeCertificate(dir: string): Promise<{ cert: Buffer; key: Buffer }> {
  const names = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1'];
  const out = ['-keyout', join(dir, 'key.pem'), '-out', join(dir, 'cert.pem')];
  await exec('openssl', ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', ...names, ...out]);
  return { cert: await readFile(join(dir, 'cert.pem')), key: await readFile(join(dir, 'key.pem')) };
}

/** Serves the repositories of a folder over https, by git's own CGI program on this machine. */
async function serve(dir: string, certificate: { cert: Buffer; key: Buffer }): Promise<Server> {
  const backend = join(execFileSync('git', ['--exec-path'], { encoding: 'utf8' }).trim(), 'git-http-backend');
  const server = createServer(certificate, (request, response) => {
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
      const headers = answer
        .toString('latin1', 0, end)
        .split('\r\n')
        .map((line) => line.split(': '));
      for (const [name = '', value = ''] of headers) if (name !== 'Status') response.setHeader(name, value);
      response.statusCode = Number.parseInt(headers.find(([name]) => name === 'Status')?.[1] ?? '200', 10);
      response.end(answer.subarray(end + 4));
    });
  });
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
  await makeRepository(dir);
  const server = await serve(dir, await makeCertificate(dir));
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

const identity =
  'git config --global user.name a; git config --global user.email a@example.org; git config --global init.defaultBranch main';
const commit = `${identity}; git init -q r; cd r; echo one >a; git add a; git commit -qm first`;
const listens = 'until echo | busybox nc -w 1 127.0.0.1 $FREE >/dev/null 2>&1; do sleep 0.2; done';

/** A row of git starts dozens of programs; emulated, that takes minutes. The programs themselves are emulated by the tests above. */
const slow = { emulated: 'starts too many programs for qemu-user' };
const uses: readonly RealUse[] = [
  {
    does: "clones over https, by a CA of the host's store, and refuses others",
    run: 'git clone -q $TRUSTED/repo.git c; cat c/file; git clone -q $STRANGER/repo.git d 2>&1 || true',
    gives: /^content\nfatal: .*: server verification failed: certificate signer not trusted/,
  },
  {
    does: 'clones and pushes over ssh, and refuses a host that it does not know',
    run: `${commit}; git clone -q --bare . ../r.git; cd ..; export GIT_SSH_COMMAND="ssh $SSH_OPTIONS"
git clone -q $SSH$PWD/r.git c; cd c; cat a; echo two >a; git commit -qam second; git push -q; git -C ../r.git log --format=%s
GIT_SSH_COMMAND="ssh -o BatchMode=yes -o UserKnownHostsFile=/dev/null" git ls-remote $SSH$PWD/../r.git 2>&1 | grep -o 'Host key verification failed'`,
    gives: 'one\nsecond\nfirst\nHost key verification failed',
  },
  {
    does: 'pushes over the protocol of git, to its own daemon',
    run: `${commit}; git clone -q --bare . ../r.git; git daemon --base-path=.. --export-all --enable=receive-pack --port=$FREE --listen=127.0.0.1 >/dev/null 2>&1 & ${listens}
echo two >a; git commit -qam second; git push -q git://127.0.0.1:$FREE/r.git main; git -C ../r.git log --format=%s`,
    gives: 'second\nfirst',
  },
  {
    does: "ssh starts its helpers for keys on FIDO and PKCS#11 devices, each at git's own place",
    run: `for helper in sk pkcs11; do echo | /usr/lib/openssh/ssh-$helper-helper >out 2>&1 || true; echo "$helper $(grep -c -i 'not found' out)"; done
/usr/lib/git-core/ssh-keygen -q -t ed25519-sk -N '' -f key 2>&1 || true`,
    gives: /^sk 0\npkcs11 0\n(?![^]*helper exited)[^]*(?:device not found|No FIDO)/i,
  },
  {
    does: 'signs commits and verifies them by an ssh key',
    run: `${commit}; /usr/lib/git-core/ssh-keygen -q -t ed25519 -N '' -f ../key; echo "a@example.org $(cat ../key.pub)" >../signers
git config gpg.format ssh; git config user.signingKey $PWD/../key; git config gpg.ssh.allowedSignersFile $PWD/../signers
git commit -q --allow-empty -S -m signed; git log -1 --format=%G?`,
    gives: 'G',
  },
  {
    does: 'adds and checks out files in UTF-16 (`working-tree-encoding`)',
    run: `${identity}; git init -q r; cd r; echo '*.ps1 text working-tree-encoding=UTF-16LE eol=crlf' >.gitattributes
printf '\\351\\0\\r\\0\\n\\0' >x.ps1; git add .; git commit -qm first; git cat-file -p :x.ps1; git clone -q . ../c; cmp x.ps1 ../c/x.ps1`,
    gives: 'é',
  },
  {
    does: 'shows messages of commits in Latin-1 as UTF-8, and the other way round',
    run: `${commit}; printf 'caf\\351\\n' | git -c i18n.commitEncoding=ISO-8859-1 commit -q --allow-empty -F -; git log -1 --format=%s; git log -1 --encoding=ISO-8859-1 --format=%s | od -An -tx1`,
    gives: 'café\n 63 61 66 e9 0a',
  },
  {
    does: 'has submodules, worktrees and subtrees',
    run: `${commit}; git -c protocol.file.allow=always submodule --quiet add "$PWD/.git" sub; git submodule status | cut -c42-; git worktree add -q ../w; cat ../w/a
git commit -qm sub; git subtree add -q --prefix=tree . HEAD >/dev/null 2>&1; cat tree/a`,
    gives: /^ ?sub.*\none\none$/,
  },
  {
    does: 'stashes, rebases, cherry-picks and bisects',
    run: `${commit}; git checkout -qb b; echo b >b; git add b; git commit -qm b; git checkout -q main; echo two >a; git commit -qam two; git rebase -q main b
echo three >a; git stash -q; git stash pop -q; git checkout -q a; git checkout -q main; git cherry-pick b >/dev/null; git log --format=%s
git bisect start HEAD HEAD~2 >/dev/null; git bisect run grep -q one a | grep 'first bad'; git bisect log | tail -1`,
    gives: /^b\ntwo\nfirst\n[^]*first bad commit: \[[0-9a-f]+\] two$/m,
  },
  {
    does: 'adds parts of a file (`add -p`)',
    run: `${commit}; printf '0\\none\\n2\\n' >a; printf 's\\ny\\nn\\n' | git add -p >/dev/null; git diff --cached | grep '^+[0-9]'`,
    gives: '+0',
  },
  {
    does: 'sends and takes patches by file (`format-patch`, `am`), bundles and archives',
    run: `${commit}; git clone -q . ../c; echo two >a; git commit -qam second; git format-patch -q -1; git -C ../c am -q "$PWD/0001-second.patch"; git -C ../c log -1 --format=%s
git bundle create -q ../b main; git clone -q -b main ../b ../d; cat ../d/a; git archive --format=tar.gz HEAD | tar -tz`,
    gives: 'second\ntwo\na',
  },
  {
    does: 'maintains a repository (`gc`, `fsck`, commit graph)',
    run: `${commit}; git gc -q; git commit-graph write; git fsck --strict; git count-objects -v | grep -E '^(count|packs)'`,
    gives: 'count: 0\npacks: 1',
  },
  {
    does: 'says that what needs Perl is not there (`send-email`, `svn`)',
    run: 'for one in send-email svn cvsserver; do git $one 2>&1 || true; done',
    gives: /^git: 'send-email' is not a git command[^]*'svn' is not a git command/,
  },
];

/** Keys of the server and of a client that may log in; sessions run in the root of the test, as a login on it would. */
const SSHD_FOR_USE = `
set -e
mkdir -p /run/sshd /run/tls/ssh
cd /run/tls/ssh
for key in host client; do ssh-keygen -q -t ed25519 -N '' -f $key; done
/usr/sbin/sshd -f /dev/null -p "$1" -o ListenAddress=127.0.0.1 -o HostKey=$PWD/host -o AuthorizedKeysFile=$PWD/client.pub -o StrictModes=no \\
  -o UsePAM=no -o PermitRootLogin=yes -o PidFile=/run/sshd.pid -E /run/sshd.log -o ForceCommand="exec chroot $2 /bin/sh -c \\"\\$SSH_ORIGINAL_COMMAND\\""
for _ in $(seq 100); do [ -e /run/sshd.pid ] && break; sleep 0.1; done
echo "[127.0.0.1]:$1 $(cut -d' ' -f1,2 host.pub)" >known
`;
const SSH_OPTIONS = '-i /run/tls/ssh/client -o UserKnownHostsFile=/run/tls/ssh/known -o BatchMode=yes';

testRealUse(import.meta.dirname, {
  uses: uses.map((use) => ({ ...use, except: { ...slow, ...use.except } })),
  packages: ['openssh-server'],
  async withServers({ path, tls, host, folder: root }, rows) {
    const ssh = await freePort();
    const dir = await mkdtemp(join(tmpdir(), 'git-'));
    const servers: Server[] = [];
    try {
      await makeRepository(dir);
      for (const { certificate, key } of [tls.trusted, tls.stranger])
        servers.push(await serve(dir, { cert: await readFile(path + certificate), key: await readFile(path + key) }));
      const [TRUSTED = '', STRANGER = ''] = servers.map((one) => `https://127.0.0.1:${(one.address() as AddressInfo).port}`);
      expect(await host.run(['sh', '-c', SSHD_FOR_USE, 'sh', String(ssh), root])).toBe('');
      await rows({ TRUSTED, STRANGER, FREE: String(await freePort()), SSH: `ssh://root@127.0.0.1:${ssh}`, SSH_OPTIONS });
    } finally {
      await host.run(['sh', '-c', 'kill $(cat /run/sshd.pid)']);
      for (const one of servers) one.close();
      await rm(dir, { recursive: true, force: true });
    }
  },
});
