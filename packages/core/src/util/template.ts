import { UserError } from './errors.ts';

/** Replaces each `{word}` of a text by its value. Throws a UserError for a word that is not in `words`. */
export function expandTemplate(text: string, words: Readonly<Record<string, string>>): string {
  return text.replaceAll(/\{(\w+)\}/g, (whole, word: string) => {
    const value = Object.hasOwn(words, word) ? words[word] : undefined;
    if (value !== undefined) return value;
    const known = Object.keys(words).map((one) => `{${one}}`);
    throw new UserError(`unknown word ${whole}`, { where: text, next: `use ${known.join(', ')}` });
  });
}
