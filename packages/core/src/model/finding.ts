/** A finding of lint. */
export interface Finding {
  readonly rule: string;
  readonly level: 'error' | 'warning';
  /** The problem, with its path in the image if it has one. */
  readonly what: string;
  readonly path?: string;
  /** The subject besides the path, such as a path that a program contains; waivers may name it. */
  readonly subject?: string;
  /** What to do about it. */
  readonly fix: string;
}
