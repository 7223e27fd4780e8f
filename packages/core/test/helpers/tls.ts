import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import { promisify } from 'node:util';

/** A certificate for loopback that signs itself, and its key. */
export interface Authority {
  /** The certificate in PEM, for NODE_EXTRA_CA_CERTS. */
  readonly file: string;
  readonly cert: Buffer;
  readonly key: Buffer;
  /** Makes this process trust it from now on. */
  trust(): void;
  /** Forgets it again, and removes its files. */
  close(): Promise<void>;
}

/** Makes a certificate for 127.0.0.1 and localhost. */
export async function makeAuthority(): Promise<Authority> {
  const dir = await mkdtemp(join(tmpdir(), 'tls-test-'));
  const before = getCACertificates('default');
  const subject = ['-subj', '/CN=127.0.0.1', '-addext', 'subjectAltName=IP:127.0.0.1,DNS:localhost'];
  const args = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', 'key.pem', '-out', 'cert.pem', '-days', '2', ...subject];
  await promisify(execFile)('openssl', args, { cwd: dir });
  const [cert, key] = await Promise.all([readFile(join(dir, 'cert.pem')), readFile(join(dir, 'key.pem'))]);
  return {
    file: join(dir, 'cert.pem'),
    cert,
    key,
    trust: () => setDefaultCACertificates([...before, cert.toString()]),
    async close() {
      setDefaultCACertificates(before);
      await rm(dir, { recursive: true, force: true });
    },
  };
}
