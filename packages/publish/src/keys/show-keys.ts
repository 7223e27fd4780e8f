import { createHash, X509Certificate } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { UserError } from '@flatcar/core/engine';
import { ROLES, type Role } from '../metadata/metadata.ts';
import { METADATA_KEYS } from './role-keys.ts';
import { readRoots } from '../metadata/root.ts';
import { exists, PUBLIC, textsOf } from './key-files.ts';
import { readPublicKeys } from './openpgp.ts';

/** The public parts of a set of keys, or of a root of trust: what two people compare. */
export interface KeySummary {
  /** sha256 of the newest root.json. */
  readonly fingerprint: string;
  readonly version: number;
  readonly expires: string;
  readonly roles: readonly { readonly role: Role; readonly threshold: number; readonly keys: readonly string[] }[];
  /** Fingerprints of OpenPGP keys that sign sums. */
  readonly sums: readonly string[];
  /** sha256 fingerprint of the certificate of disk images. */
  readonly certificate?: string | undefined;
}

/** Summarizes a folder of keys, a folder of roots or a root.json. */
export async function showKeys(path: string): Promise<KeySummary> {
  const isFolder = (await stat(path).catch(() => undefined))?.isDirectory();
  if (isFolder === undefined)
    throw new UserError('there is no such file or folder', { where: path, next: 'name a folder of keys, or a root.json' });
  const folder = join(path, METADATA_KEYS);
  const last = (await readRoots((await exists(folder)) ? folder : path)).at(-1);
  if (last === undefined) throw new Error('readRoots returns a root');
  const { version, expires, roles } = last.root.signed;
  const publics = await textsOf(join(path, 'sums'), PUBLIC, false);
  const sums = (await Promise.all(publics.map(({ text, where }) => readPublicKeys(text, where)))).flat();
  const certificate = await readFile(join(path, 'roothash.crt'), 'utf8').catch(() => undefined);
  return {
    fingerprint: createHash('sha256').update(last.bytes).digest('hex'),
    version,
    expires,
    roles: ROLES.map((role) => ({ role, threshold: roles[role]?.threshold ?? 0, keys: roles[role]?.keyIDs ?? [] })),
    sums: sums.map((key) => key.getFingerprint().toUpperCase()),
    certificate: certificate === undefined ? undefined : new X509Certificate(certificate).fingerprint256,
  };
}
