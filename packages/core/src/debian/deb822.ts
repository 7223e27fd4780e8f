/** Reads paragraphs of `Key: value`, in which folded lines begin with a space (deb822(5)). */
export function paragraphs(text: string): Map<string, string>[] {
  return text
    .split(/\n(?:[ \t]*\n)+/)
    .map(
      (paragraph) =>
        new Map([...paragraph.matchAll(/^([\w-]+):[ \t]*(.*(?:\n[ \t].*)*)/gm)].map(([, key = '', value = '']) => [key, value])),
    )
    .filter(({ size }) => size > 0);
}

/** The words of a field; none for a field that is missing. */
export const words = (text = ''): string[] => text.split(/\s+/).filter((word) => word !== '');
