import type { HttpErrorCode } from '../util/error-codes.ts';
import { UserError } from '../util/errors.ts';

interface About {
  readonly where?: string;
  readonly next?: string;
  readonly cause?: unknown;
}

/** A request over HTTP that failed. */
export class HttpError extends UserError {
  declare readonly code: HttpErrorCode;
  constructor(code: HttpErrorCode, what: string, about: About = {}) {
    super(what, { ...about, code });
    this.name = 'HttpError';
  }
}

/** A host that cannot be reached: no connection was made. The only error that `--origin auto` may fall back on. */
export class UnreachableError extends HttpError {
  constructor(what: string, about: About = {}) {
    super('unreachable', what, about);
    this.name = 'UnreachableError';
  }
}

/** The host responded with an error. */
export class HttpStatusError extends HttpError {
  readonly status: number;
  constructor(status: number, about: About = {}, what = `the server answered ${status}`) {
    super('status', what, about);
    this.name = 'HttpStatusError';
    this.status = status;
  }
}

/** The host allows no more requests for longer than this client waits. */
export class RateLimitError extends HttpError {
  readonly until: Date;
  constructor(until: Date, about: About & { readonly host: string }) {
    super('rate-limited', `${about.host} allows no more requests until ${until.toISOString()}`, about);
    this.name = 'RateLimitError';
    this.until = until;
  }
}

/** A failure that another attempt may fix; `failure` is thrown after the last attempt. Never leaves the client. */
export class RetryableError extends Error {
  readonly failure: HttpError;
  /** Milliseconds after which the server allows another request. */
  readonly after: number | undefined;
  constructor(failure: HttpError, after?: number) {
    super(failure.message, { cause: failure });
    this.name = 'RetryableError';
    this.failure = failure;
    this.after = after;
  }
}

/** True if the network failed: no connection, a late response, or a broken connection. Nothing is known about the content of the host then. */
export function isNetworkFailure(error: unknown): error is HttpError {
  return error instanceof HttpError && ['unreachable', 'tls', 'timeout', 'broken'].includes(error.code);
}

/** True if nothing is known about a file because its host gave no good response: the network failed, or the response is an error. */
export function isUnanswered(error: unknown): error is HttpError {
  return isNetworkFailure(error) || (error instanceof HttpError && ['status', 'rate-limited'].includes(error.code));
}
