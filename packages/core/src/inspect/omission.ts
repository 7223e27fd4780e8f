/** Something that a chosen file names, that a package has, and that is not in the image. */
export interface Omission {
  /** As the package has it: a file, a folder, or the name of a library that is loaded by name. */
  readonly path: string;
  /** Where it would be in the image; a file there, or below it, settles the matter. */
  readonly at: string;
  /** Path in the image of the file that names it, the first of them. */
  readonly wantedBy: string;
  /** The package that has it, or most of it. */
  readonly package: string;
  /** What adds it, as a line of the definition: `data: ['usr/share/btop/themes/**']`. */
  readonly line: string;
}
