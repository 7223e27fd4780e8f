import { tagOf, type Tag } from './github.ts';

/** Part of a page in which an attribute of a tag, and the date behind the link, are looked for. */
const LONGEST_TAG = 4096;

/** A file name as it is written in a URL; undefined for what is not. */
function decoded(name: string): string | undefined {
  try {
    return decodeURIComponent(name);
  } catch {
    return undefined;
  }
}

/**
 * The names that a page of HTML links to: the last part of each `href`, and the date behind the link where an index of files has one. Each link is
 * looked at by itself, so that a page of many takes a time that grows with its size, not with its square.
 */
export function readLinks(html: string): Tag[] {
  const links: Tag[] = [];
  for (const { index } of html.matchAll(/\bhref(?=[\s=])/gi)) {
    const part = html.slice(index, index + LONGEST_TAG);
    const [whole = '', href = ''] = /^href\s*=\s*["']?([^"'\s>]+)/i.exec(part) ?? [];
    const name = decoded(href.split('/').findLast((one) => one !== '') ?? '');
    if (href === '' || name === undefined) continue;
    const end = part.indexOf('>', whole.length);
    if (end === -1) continue;
    const date = /^[^<]*<\/a>\s*(\d{4}-\d{2}-\d{2})/i.exec(part.slice(end + 1))?.[1];
    links.push(tagOf(name, date));
  }
  return links;
}
