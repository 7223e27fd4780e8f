import { Parser } from 'htmlparser2';
import type { Tag } from './tags.ts';

/** A name as it is written in a URL, decoded; undefined if its encoding is broken. */
function decodeName(name: string): string | undefined {
  try {
    return decodeURIComponent(name);
  } catch {
    return undefined;
  }
}

/** The names that an index page links to: the last part of each `href`, and the date that follows the link in listings of files. */
export function readLinks(html: string): Tag[] {
  const links: { name: string; date?: string }[] = [];
  let open: { name: string; date?: string } | undefined;
  /** The link whose date may follow. */
  let closed: { name: string; date?: string } | undefined;
  const parser = new Parser({
    onopentag(tag, { href }) {
      if (tag !== 'a') return;
      const name = decodeName(href?.split('/').findLast((part) => part !== '') ?? '');
      [open, closed] = [undefined, undefined];
      if (name !== undefined && name !== '') links.push((open = { name }));
    },
    onclosetag(tag) {
      if (tag === 'a') [open, closed] = [undefined, open];
    },
    ontext(text) {
      const date = /^\s*(\d{4}-\d{2}-\d{2})/.exec(text)?.[1];
      if (closed === undefined || text.trim() === '') return;
      closed.date = date;
      closed = undefined;
    },
  });
  parser.end(html);
  return links;
}
