import { UserError } from '../util/errors.ts';

/** Bytes that do not have the expected digest. */
export class DigestError extends UserError {}
