import type { ErrorCode } from './error-codes.ts';

/** The parts of an error beside its message. */
export interface ErrorAbout {
  /** File, URL or argument that it is about. */
  readonly where?: string;
  /** What to do next. */
  readonly next?: string;
  /** For code that decides by the error. */
  readonly code?: ErrorCode;
  readonly cause?: unknown;
}

/** An error that a person can act on: what happened, where, and what to do next. Printed without a stack. */
export class UserError extends Error {
  /** File, URL or argument that it is about. */
  readonly where: string | undefined;
  /** What to do next. */
  readonly next: string | undefined;
  /** Undefined for errors by which no code decides. */
  readonly code: ErrorCode | undefined;

  constructor(what: string, about: ErrorAbout = {}) {
    super(what, about.cause === undefined ? undefined : { cause: about.cause });
    this.name = 'UserError';
    this.where = about.where;
    this.next = about.next;
    this.code = about.code;
  }
}

/** True for a UserError with one of some codes. */
export function hasCode(error: unknown, ...codes: readonly ErrorCode[]): error is UserError {
  return error instanceof UserError && error.code !== undefined && codes.includes(error.code);
}

/** The command line, or a setting in its place, is wrong: the program has done nothing and ends with exit code 2. */
export class UsageError extends UserError {
  constructor(what: string, about: ErrorAbout = {}) {
    super(what, { code: 'usage', ...about });
    this.name = 'UsageError';
  }
}

/** Several errors that are shown together. */
export class UserErrors extends UserError {
  readonly errors: readonly UserError[];

  constructor(what: string, errors: readonly UserError[], about: ErrorAbout = {}) {
    super(what, about);
    this.name = 'UserErrors';
    this.errors = errors;
  }
}

/** The text of anything thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
