/** Number of single-character changes (insert, delete, replace, swap of neighbours) from one word to another. */
function distance(from: string, to: string): number {
  let before: number[] = [];
  let previous = Array.from({ length: to.length + 1 }, (_, index) => index);
  for (let row = 1; row <= from.length; row++) {
    const current = [row];
    for (let column = 1; column <= to.length; column++) {
      const isSame = from[row - 1] === to[column - 1];
      let least = Math.min((previous[column] ?? 0) + 1, (current[column - 1] ?? 0) + 1, (previous[column - 1] ?? 0) + (isSame ? 0 : 1));
      if (row > 1 && column > 1 && from[row - 1] === to[column - 2] && from[row - 2] === to[column - 1])
        least = Math.min(least, (before[column - 2] ?? 0) + 1);
      current.push(least);
    }
    [before, previous] = [previous, current];
  }
  return previous[to.length] ?? 0;
}

/** The known words most similar to a mistyped one, best first, at most three; empty if none is similar. */
export function closest(word: string, known: Iterable<string>): string[] {
  const typed = word.toLowerCase();
  return [...new Set(known)]
    .map((one) => {
      const plain = one.toLowerCase();
      // A part of the right word counts as similar: `sbin` for `usr-sbin`.
      const isPart = typed.length >= 3 && (plain.includes(typed) || typed.includes(plain));
      const changes = distance(typed, plain);
      return { one, changes, far: isPart ? Math.min(1, changes) : changes };
    })
    .filter(({ one, far }) => far <= Math.max(1, Math.floor(Math.min(one.length, word.length) / 3)))
    .toSorted((a, b) => a.far - b.far || a.changes - b.changes || (a.one < b.one ? -1 : 1))
    .slice(0, 3)
    .map(({ one }) => one);
}
