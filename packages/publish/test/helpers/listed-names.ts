/** Names in the text of SHA256SUMS, without the day from which systemd refuses it. */
export const listedNames = (sums: string): string[] =>
  sums
    .split('\n')
    .map((line) => line.slice(66))
    .filter((name) => name !== '' && !name.startsWith('BEST-BEFORE-'));
