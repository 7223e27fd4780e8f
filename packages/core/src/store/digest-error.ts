import { UserError, type ErrorAbout } from '../util/errors.ts';

/** Bytes that do not have the expected digest. */
export class DigestError extends UserError {
  constructor(what: string, about: Omit<ErrorAbout, 'code'> = {}) {
    super(what, { ...about, code: 'wrong-digest' });
    this.name = 'DigestError';
  }
}
