import { createHash } from 'node:crypto';

/** sha256 of bytes, hex. */
export const sha256Of = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');
