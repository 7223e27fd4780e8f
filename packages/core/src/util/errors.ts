/** An error that a person can act on: what happened, where, and what to do next. Printed without a stack. */
export class UserError extends Error {
  /** File, URL or argument that it is about. */
  readonly where: string | undefined;
  /** What to do next. */
  readonly next: string | undefined;

  constructor(what: string, about: { where?: string; next?: string; cause?: unknown } = {}) {
    super(what, about.cause === undefined ? undefined : { cause: about.cause });
    this.name = 'UserError';
    this.where = about.where;
    this.next = about.next;
  }
}

/** The command line, or a setting that stands in for it, is wrong: the program ends with exit code 2 and has done nothing. */
export class UsageError extends UserError {
  constructor(what: string, about: { where?: string; next?: string; cause?: unknown } = {}) {
    super(what, about);
    this.name = 'UsageError';
  }
}

/** Several errors found at once, so that all are shown together. */
export class UserErrors extends UserError {
  readonly errors: readonly UserError[];

  constructor(what: string, errors: readonly UserError[], about: { where?: string; next?: string; cause?: unknown } = {}) {
    super(what, about);
    this.name = 'UserErrors';
    this.errors = errors;
  }
}

/** The text of anything thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
