import { basename } from 'node:path';
import type { RuleViolation, Rule } from './rule.ts';

/** Names that editors, file managers, version control and package managers leave behind; in any case of letters. */
const DROPPINGS: readonly RegExp[] = [
  /^(?:\.DS_Store|\._.+|__MACOSX|\.AppleDouble|\.Spotlight-V100|\.Trashes|\.Trash-\d+)$/i,
  /^(?:Thumbs\.db|ehthumbs\.db|desktop\.ini|\$RECYCLE\.BIN)$/i,
  /^\.directory$/,
  /~$/,
  /^\..*\.sw[a-p]$|\.swp$/i,
  /^\.#|^#.*#$/,
  /\.(?:orig|rej|bak|tmp)$/i,
  /^(?:\.git|\.gitignore|\.gitattributes|\.gitmodules|\.gitkeep|\.keep|\.hg|\.hgignore|\.svn|\.bzr|CVS|\.cvsignore)$/,
  /^(?:\.idea|\.vscode|\.project|\.netrwhist|\.projectile)$/,
  /^(?:\.nfs[0-9a-f]+|\.fuse_hidden[0-9a-f]+|lost\+found|nohup\.out|\.bash_history)$/,
  /\.(?:dpkg-(?:new|old|dist|tmp)|rpm(?:new|save|orig)|pacnew|pacsave)$/,
  /^\.wh\./,
];

// Control characters, and what reorders or hides text.
// oxlint-disable-next-line no-control-regex
const UNPRINTABLE = /[\u0000-\u001F\u007F-\u009F\u200B-\u200F\u2028-\u202E\u2066-\u2069\uFEFF\uFFFD]/u;

/** Files that nobody meant to ship. */
export const leftovers: Readonly<Record<string, Rule>> = {
  leftover: {
    level: 'error',
    checks:
      'no file was left behind by an editor, a file manager, version control or a package manager, and no name has control characters',
    reason: 'such a file may contain private data, and a name that cannot be printed is invisible in lists',
    fix: 'remove it from files/, or exclude it from the files of the component',
    check: ({ entries }) =>
      entries.flatMap(({ path }): RuleViolation[] => {
        const name = basename(path);
        if (UNPRINTABLE.test(name)) return [{ what: `the name ${JSON.stringify(name)} has characters that cannot be printed`, path }];
        return DROPPINGS.some((dropping) => dropping.test(name)) ? [{ what: `'${name}' is a leftover`, path }] : [];
      }),
  },
};
