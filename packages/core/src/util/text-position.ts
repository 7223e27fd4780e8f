/** Line (from 1) of the first of several texts that a file contains; 1 if it contains none. */
export function lineOf(text: string, wanted: readonly (string | RegExp)[]): number {
  const lines = text.split('\n');
  for (const one of wanted) {
    const found = lines.findIndex((line) => (typeof one === 'string' ? line.includes(one) : one.test(line)));
    if (found !== -1) return found + 1;
  }
  return 1;
}

/** TypeScript with its comments replaced by blanks: searches find code only, and line numbers stay the same. */
export const blankComments = (text: string): string =>
  text.replaceAll(/\/\*[^]*?\*\/|(?<=^|\s)\/\/.*$/gm, (comment) => comment.replaceAll(/[^\n]/g, ' '));
