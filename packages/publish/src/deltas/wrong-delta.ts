import { UserError } from '@flatcar/core/engine';

/** A delta that does not make the image that it was made for. */
export class WrongDeltaError extends UserError {
  constructor(from: string, to: string) {
    super(`the delta from ${from} does not make this image`, {
      where: to,
      next: 'check the disk and the memory of this machine; nothing was published',
    });
    this.name = 'WrongDeltaError';
  }
}
