import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { type Arch, archWords } from '../../model/arch.ts';

// Files that libraries load from compiled-in paths. Programs do not name them, so definitions need not list them.

/** Packages with such files that no package depends on: every Debian system has them. */
export const RUNTIME_PACKAGES: readonly string[] = ['libc-bin', 'ncurses-base'];

/** What a chosen ELF file loads. */
export interface Loaded {
  /** File name of a library: `libtinfo.so.6`. */
  readonly name: string;
  readonly imports: ReadonlySet<string>;
}

/** A file of a package: its path there, and its path on disk. */
export interface SourceFile {
  readonly path: string;
  readonly full: string;
}

/** Files that are added with a library, if a package has them. */
export interface RuntimeFiles {
  readonly name: string;
  readonly isNeededBy: (elf: Loaded) => boolean;
  /** Globs of paths in the packages, as a definition has them. */
  readonly files: readonly string[];
  /** Folder of the image that replaces `from`, a path in the packages. By default, files below the folder of libraries get into the component's. */
  readonly moved?: { readonly from: RegExp; readonly to: (component: string, files: readonly SourceFile[]) => Promise<string> };
}

/**
 * Character sets of web browsers (encoding.spec.whatwg.org, 4.2), by their modules in glibc, with all of Unicode and of ISO 8859: those of text
 * files and commits, in 2 MB instead of 8.
 */
const CHARACTER_SETS = [
  'UTF-*',
  'UNICODE',
  'ISO8859-*',
  'CP125*',
  'KOI8-*',
  'IBM437',
  'IBM850',
  'IBM866',
  'IBM874',
  'TIS-620',
  'MACINTOSH',
  'MAC-*',
  'EUC-JP',
  'ISO-2022-JP',
  'SJIS',
  'CP932',
  'EUC-KR',
  'UHC',
  'EUC-CN',
  'GBK',
  'GB18030',
  'BIG5',
  'BIG5HKSCS',
];

/** Letters that replace `locale` in the `/usr/lib/locale` of a C library. */
const LOCALE_LETTERS = 'locale'.length;

/** A folder for the locale of one C library, named by its content, so that two images have the same files in it or different folders. */
async function localeFolder(_: string, files: readonly SourceFile[]): Promise<string> {
  const hash = createHash('sha256');
  for (const { path, full } of files) hash.update(`${path}\0`).update(await readFile(full));
  return `usr/lib/C${hash.digest('hex').slice(0, LOCALE_LETTERS - 1)}`;
}

export const RUNTIME_FILES: readonly RuntimeFiles[] = [
  {
    name: 'character sets of iconv',
    isNeededBy: ({ imports }) => imports.has('iconv_open'),
    files: [...CHARACTER_SETS.map((name) => `usr/lib/{triplet}/gconv/${name}.so`), 'usr/lib/{triplet}/gconv/gconv-modules{,.cache,.d/*}'],
  },
  {
    name: 'the locale C.UTF-8',
    isNeededBy: ({ imports }) => imports.has('setlocale') || imports.has('newlocale'),
    files: ['usr/lib/locale/C.utf8/**'],
    moved: { from: /^usr\/lib\/locale(?=\/)/, to: localeFolder },
  },
  {
    name: 'descriptions of terminals',
    isNeededBy: ({ name }) => /^libtinfo\.so\.\d/.test(name),
    files: ['usr/share/terminfo/**', 'usr/lib/terminfo/**'],
    moved: { from: /^usr\/(?:share|lib)\/terminfo(?=\/)/, to: async (component) => `usr/lib/${component}/ti` },
  },
  {
    name: 'providers and engines of OpenSSL',
    isNeededBy: ({ name }) => /^libcrypto\.so\.\d/.test(name),
    files: ['usr/lib/{triplet}/ossl-modules/*.so', 'usr/lib/{triplet}/engines-3/*.so'],
  },
  {
    name: 'plugins of Kerberos',
    isNeededBy: ({ name }) => /^libkrb5\.so\.\d/.test(name),
    files: ['usr/lib/{triplet}/krb5/plugins/**'],
  },
  {
    // Not sasldb, which contains accounts of servers.
    name: 'mechanisms of SASL',
    isNeededBy: ({ name }) => /^libsasl2\.so\.\d/.test(name),
    files: ['usr/lib/{triplet}/sasl2/lib*.so*', '!usr/lib/{triplet}/sasl2/libsasldb.so*'],
  },
  {
    name: 'the database of libmagic',
    isNeededBy: ({ name }) => /^libmagic\.so\.\d/.test(name),
    files: ['usr/lib/file/magic.mgc', 'usr/share/misc/magic.mgc'],
  },
];

/** A replacement of bytes in ELF files and data, of the same length. */
export interface Edit {
  readonly from: string;
  readonly to: string;
  /** True to replace only whole parts of a path: `/usr/lib/ssl` does not match `/usr/lib/ssl3`. */
  readonly whole?: boolean;
}

/** A path with slashes appended up to a length: `/usr/lib/gdb//////////`. */
export const padded = (path: string, length: number): string => path + '/'.repeat(length - path.length);

/** Where ncurses searches in Debian (TERMINFO_DIRS). */
const TERMINFO_DIRS = '/etc/terminfo:/lib/terminfo:/usr/share/terminfo';

/** The component's descriptions, then the host's if both fit. ncurses also searches /etc/terminfo, which is compiled in a second time. */
function terminfoDirs(component: string): string {
  const own = `/usr/lib/${component}/ti`;
  const both = `${own}:/usr/share/terminfo`;
  return padded(both.length <= TERMINFO_DIRS.length ? both : own, TERMINFO_DIRS.length);
}

/**
 * Paths that are compiled into Debian's libraries, each with its replacement: the component's folder, or the host's path for the same files.
 * `paths` are those of the image.
 */
export function pathEdits(component: string, arch: Arch, paths: Iterable<string>): readonly Edit[] {
  const libraries = `/usr/lib/${archWords(arch).triplet}`;
  const edits: Edit[] = [{ from: libraries, to: padded(`/usr/lib/${component}`, libraries.length) }];
  // OPENSSLDIR: in Debian a folder of links into /etc/ssl, which is OPENSSLDIR on Flatcar and where every distribution has its certificates.
  const openssl = '/usr/lib/ssl';
  edits.push({ from: openssl, to: padded('/etc/ssl', openssl.length), whole: true });
  for (const path of paths) {
    const locale = /^usr\/lib\/C[0-9a-f]{5}(?=\/C\.utf8\/LC_CTYPE$)/.exec(path)?.[0];
    if (locale !== undefined) edits.push({ from: '\0/usr/lib/locale\0', to: `\0/${locale}\0` });
    if (path.startsWith(`usr/lib/${component}/ti/`) && basename(path) === 'xterm')
      edits.push({ from: `\0${TERMINFO_DIRS}\0`, to: `\0${terminfoDirs(component)}\0` });
  }
  return edits;
}
