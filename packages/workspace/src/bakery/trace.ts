import { posix } from 'node:path';
import type { Arch } from '@flatcar/core/engine';
import { expandWord, isTrue, type Names } from './expand.ts';
import type { ShellCommand, ShellNode } from './shell.ts';

// Follows a recipe for one architecture without running it: which files it downloads, and where it installs them. The version is the text
// `{version}`. What only a run would know is reported for a person to decide.

/** A file that a recipe installs. */
export interface TracedInstall {
  readonly line: number;
  readonly url: string;
  /** Path in the archive, which may be a glob; undefined for the downloaded file itself. */
  readonly member?: string | undefined;
  /** Path in the image; a folder if it ends in `/`. */
  readonly to: string;
}

/** Something that a person must decide, with the line of the recipe that leads to it. */
export interface Decision {
  readonly line: number;
  readonly what: string;
}

/** What a recipe does for one architecture. */
export interface Trace {
  readonly downloads: readonly { readonly line: number; readonly url: string }[];
  readonly installs: readonly TracedInstall[];
  /** Links in the image, by their paths. */
  readonly links: readonly { readonly path: string; readonly target: string }[];
  /** Paths that are removed again. */
  readonly removed: readonly string[];
  /** Names of files in the image that are made executable. */
  readonly executables: readonly string[];
  /** Packages of Debian that are copied with their libraries, and programs of them. */
  readonly packages?: { readonly line: number; readonly packages: readonly string[]; readonly programs: readonly string[] } | undefined;
  readonly decisions: readonly Decision[];
}

/** Where the image's tree is. */
const ROOT = '/image-root';
/** Followed commands; a recipe with more is hostile. */
const MAX_STEPS = 10_000;

/** Commands without an effect on the image. */
const IDLE = new Set(
  'echo printf announce true : set shopt trap rmdir chown touch sha256sum sha512sum shasum gpg awk grep sleep source . unset shift popd test [ [['.split(
    ' ',
  ),
);
/** Options of curl and wget that take a value, as they occur in recipes. */
const VALUED =
  /^(?:-[HAeudXmKwxzbcCrTUyY]|--(?:header|user-agent|referer|user|data|data-urlencode|request|max-time|retry|retry-delay|retry-max-time|connect-timeout|config|proxy|limit-rate|write-out|tries|timeout))$/;

/** Paths of the image below the folders that images of this project have. */
export function imagePath(path: string): string {
  return path
    .replace(/^usr\/local\/(?:s?bin|games)(?=\/|$)/, 'usr/bin')
    .replace(/^usr\/local\/(lib|libexec|share)(?=\/|$)/, 'usr/$1')
    .replace(/^usr\/local(?=\/|$)/, 'usr')
    .replace(/^usr\/sbin(?=\/|$)/, 'usr/bin')
    .replace(/^opt(?=\/|$)/, 'usr/lib');
}

/** Braces with alternatives in one URL; more are hostile. */
const MAX_BRACES = 3;

/** Alternatives in braces of a URL, as curl expands them: `x{,.sha256}` is two. `{version}` has no comma. */
function alternatives(url: string, braces = 0): string[] {
  const found = /\{([^{},]{0,99}(?:,[^{},]{0,99}){1,9})\}/.exec(url);
  if (found === null || braces === MAX_BRACES) return [url];
  const [whole, list = ''] = found;
  return list
    .split(',')
    .flatMap((one) => alternatives(url.slice(0, found.index) + one + url.slice(found.index + whole.length), braces + 1));
}

class Follower implements Trace {
  readonly downloads: { line: number; url: string }[] = [];
  readonly installs: TracedInstall[] = [];
  readonly links: { path: string; target: string }[] = [];
  readonly removed: string[] = [];
  readonly executables: string[] = [];
  packages: Trace['packages'];
  readonly decisions: Decision[] = [];

  /** Downloaded files by their paths, and archives by the folders that they are unpacked in. */
  readonly #files = new Map<string, string>();
  readonly #unpacked: { dir: string; url: string }[] = [];
  readonly #folders = new Set<string>();
  readonly #names: Names;
  #cwd = '/work';
  /** True once a download could not be followed: what is installed later may be of that one. */
  #hasUnknown = false;
  #steps = 0;
  #over = false;

  constructor(names: Names) {
    this.#names = names;
  }

  #decide(line: number, what: string): void {
    if (!this.decisions.some((one) => one.line === line && one.what === what)) this.decisions.push({ line, what });
  }

  #expand(word: string): string | undefined {
    return expandWord(word, this.#names);
  }

  #path(text: string): string {
    return posix.resolve(this.#cwd, text);
  }

  /** The path in the image; undefined for another path. */
  #inImage(path: string): string | undefined {
    return path === ROOT || path.startsWith(`${ROOT}/`) ? path.slice(ROOT.length + 1) : undefined;
  }

  /** Follows commands; undefined if their status is only known by a run. */
  follow(nodes: readonly ShellNode[]): boolean | undefined {
    let status: boolean | undefined = true;
    for (const node of nodes) {
      this.#steps += 1;
      if (this.#over) return status;
      if (this.#steps > MAX_STEPS) {
        this.#over = true;
        this.#decide(node.line, 'the recipe has too many steps: the rest was not followed');
        return undefined;
      }
      status = this.#followNode(node);
    }
    return status;
  }

  #followNode(node: ShellNode): boolean | undefined {
    switch (node.kind) {
      case 'command':
        return this.#command(node);
      case 'group':
        return this.follow(node.body);
      case 'function':
        return true;
      case 'loop':
        this.#decide(node.line, 'a loop whose number of rounds only a run knows was not followed');
        return undefined;
      case 'for':
        for (const word of node.words) {
          this.#names.values.set(node.name, this.#expand(word));
          this.follow(node.body);
        }
        return true;
      case 'case': {
        const value = this.#expand(node.word);
        const branch =
          value === undefined ? undefined : node.branches.find(({ patterns }) => patterns.some((one) => this.#matches(value, one)));
        if (value === undefined) this.#decide(node.line, `depends on ${node.word}, which only a run knows: no branch was followed`);
        return branch === undefined ? true : this.follow(branch.body);
      }
      case 'if':
        return this.#if(node);
    }
  }

  #matches(value: string, pattern: string): boolean {
    const text = this.#expand(pattern);
    return text !== undefined && isTrue(['[[', value, '==', text, ']]']) === true;
  }

  #if({ branches, line }: Extract<ShellNode, { kind: 'if' }>): boolean | undefined {
    for (const { condition, body } of branches) {
      const isMet = condition.length === 0 ? true : this.follow(condition);
      if (isMet === true && isError(body)) {
        // An option that the recipe requires, or a check that it cannot pass here: what is behind it is followed nevertheless.
        for (const name of namesIn(condition)) this.#names.values.set(name, undefined);
        this.#decide(line, `ends here if ${textOf(condition)}`);
        return true;
      }
      if (isMet === true) return this.follow(body);
      if (isMet === undefined) {
        if (!branches.every((one) => isHarmless(one.body)))
          this.#decide(line, `a condition that only a run knows: ${textOf(condition)}; no branch was followed`);
        return undefined;
      }
    }
    return false;
  }

  #command({ words, line, writes, pipedInto }: ShellCommand): boolean | undefined {
    const assignments = /^(?:local|export|declare|readonly)$/.test(words[0] ?? '') ? words.slice(1) : words;
    if (
      assignments.length > 0 &&
      assignments.every((word) => /^[A-Za-z_]\w*(?:=|$)/.test(word)) &&
      (assignments !== words || words.every((word) => word.includes('=')))
    ) {
      for (const word of assignments) this.#assign(word, line);
      return true;
    }
    const all = words.filter((word) => !/^[A-Za-z_]\w*=/.test(word));
    const isNegated = all[0] === '!';
    const [first = '', ...rest] = isNegated ? all.slice(1) : all;
    const args = rest.map((word) => this.#expand(word));
    this.#written(writes, line);
    const result = this.#run(first, args, rest, line);
    const status = isNegated && result !== undefined ? !result : result;
    return pipedInto.some(({ words: [name = ''] }) => /^(?:sha\d+sum|shasum|gpg)$/.test(name)) ? true : status;
  }

  #assign(word: string, line: number): void {
    const at = word.indexOf('=');
    const name = at === -1 ? word : word.slice(0, at);
    const value = at === -1 ? '' : this.#expand(word.slice(at + 1));
    const option = /get_optional_param\s+["']?([\w-]+)/.exec(word)?.[1];
    if (option !== undefined && option !== 'sysupdate')
      this.#decide(line, `the option --${option} was left at its default '${value ?? '?'}': an extension has no options`);
    this.#names.values.set(name, value);
  }

  /** Output that goes into the image. */
  #written(writes: readonly string[], line: number): void {
    for (const target of writes) {
      const value = this.#expand(target);
      const path = value === undefined ? undefined : this.#inImage(this.#path(value));
      if (path !== undefined) this.#decide(line, `writes '${imagePath(path)}': add the file below files/ if it is needed`);
    }
  }

  #run(name: string, args: readonly (string | undefined)[], raw: readonly string[], line: number): boolean | undefined {
    if (name === '[[' || name === '[' || name === 'test') return isTrue([name, ...args]);
    if (name === 'semver_equals_or_higher' || name === 'semver_lower') {
      if (args[0]?.includes('{version}') !== true) return undefined;
      this.#decide(line, `takes the newest versions as not lower than ${args[1] ?? '?'}`);
      return name === 'semver_equals_or_higher';
    }
    if (name === 'return' || name === 'exit') {
      this.#over = true;
      return true;
    }
    const known = args.flatMap((one) => one ?? []);
    if (name === 'cd' || name === 'pushd') this.#cwd = args[0] === undefined ? '/unknown' : this.#path(args[0]);
    else if (name === 'curl' || name === 'wget') this.#download(name, args, raw, line);
    else if (name === 'tar' || name === 'unzip' || name === 'bsdtar') this.#unpack(name, args, line);
    else if (['cp', 'mv', 'install', 'rsync'].includes(name)) this.#copy(name, args, raw, line);
    else if (name === 'mkdir') for (const one of known) this.#folders.add(this.#path(one));
    else if (name === 'ln') this.#link(args, line);
    else if (name === 'chmod') this.#chmod(known);
    else if (name === 'rm' || name === 'find') this.#remove(name, known, raw, line);
    else if (name === 'docker' || name === 'podman') this.#container(args, raw, line);
    else if (name === 'git') this.#decide(line, `needs source: ${name} ${raw.join(' ')}`);
    else if (name === 'sed' && known.some((one) => this.#inImage(this.#path(one)) !== undefined))
      this.#decide(line, `changes a file of the image: sed ${raw.join(' ')}`);
    else if (!IDLE.has(name) && name !== 'sed' && name !== '' && !name.startsWith('_create_sysupdate'))
      this.#decide(line, `'${name}' was not followed: ${name} ${raw.join(' ')}`);
    return true;
  }

  #download(tool: string, args: readonly (string | undefined)[], raw: readonly string[], line: number): void {
    const urls: string[] = [];
    const outputs: (string | true)[] = [];
    for (let index = 0; index < args.length; index += 1) {
      const [arg, text = ''] = [args[index], raw[index]];
      const isUrl = /^["']?(?:https?:|\$)/.test(text);
      this.#hasUnknown ||= arg === undefined && isUrl;
      if (arg === undefined && isUrl) this.#decide(line, `downloads a file whose address only a run knows: ${text}`);
      if (arg === undefined) continue;
      if (/^(?:-o|--output)$/.test(arg) || (/^-[a-zA-Z]*o$/.test(arg) && tool === 'curl') || (tool === 'wget' && /^-[a-zA-Z]*O$/.test(arg)))
        outputs.push(args[(index += 1)] ?? 'unknown');
      else if (arg.startsWith('--output=')) outputs.push(arg.slice('--output='.length));
      else if (arg === '--remote-name' || arg === '--remote-name-all' || (tool === 'curl' && /^-[a-zA-Z]*O[a-zA-Z]*$/.test(arg)))
        outputs.push(true);
      else if (VALUED.test(arg)) index += 1;
      else if (/^https?:\/\//.test(arg)) urls.push(arg);
    }
    for (const [index, url] of urls.entries())
      for (const one of alternatives(url)) {
        this.downloads.push({ line, url: one });
        const output = outputs[index] ?? (tool === 'wget' ? true : outputs.at(-1));
        const path = this.#path(typeof output === 'string' ? output : posix.basename(one));
        this.#files.set(path, one);
        const inImage = this.#inImage(path);
        if (inImage !== undefined) this.#add({ line, url: one, to: imagePath(inImage) });
      }
  }

  #unpack(tool: string, args: readonly (string | undefined)[], line: number): void {
    let dir = this.#cwd;
    let file: string | undefined;
    let mode = tool === 'unzip' ? 'x' : '';
    for (let index = 0; index < args.length; index += 1) {
      const arg = args[index] ?? '';
      if (arg === '-C' || arg === '--directory' || (tool === 'unzip' && arg === '-d')) dir = this.#path(args[(index += 1)] ?? '.');
      else if (arg.startsWith('--strip') && !arg.includes('=')) index += 1;
      else if (arg.startsWith('--')) continue;
      else if (tool !== 'unzip' && /^-?[a-zA-Z]*f$/.test(arg) && file === undefined) {
        mode += arg;
        file = args[(index += 1)];
      } else if (tool === 'unzip' && !arg.startsWith('-') && file === undefined) file = arg;
      else mode += arg.startsWith('-') ? arg : '';
    }
    if (!mode.includes('x')) return;
    const url = file === undefined ? undefined : this.#files.get(this.#path(file));
    if (url === undefined) return this.#decide(line, `unpacks ${file ?? 'a file'}, which no followed download has`);
    this.#unpacked.unshift({ dir, url });
    const inImage = this.#inImage(dir);
    if (inImage !== undefined) this.#add({ line, url, member: '**', to: `${imagePath(inImage)}/` });
  }

  #add(install: TracedInstall): void {
    if (install.to.startsWith('usr/')) this.installs.push(install);
    else this.#decide(install.line, `installs '${install.to}': images contain files below usr/ only`);
  }

  /** What a path outside of the image is: a download, or a member of an archive. */
  #sourceOf(path: string): { url: string; member?: string } | undefined {
    const url = this.#files.get(path);
    if (url !== undefined) return { url };
    const inside = this.#unpacked.filter(({ dir }) => path === dir || path.startsWith(`${dir === '/' ? '' : dir}/`));
    const deepest = Math.max(...inside.map(({ dir }) => dir.length));
    const archives = inside.filter(({ dir }) => dir.length === deepest);
    // Of several archives in one folder, the one that is named like the file.
    const [archive] = [...archives.filter((one) => posix.basename(one.url).startsWith(posix.basename(path))), ...archives];
    return archive === undefined ? undefined : { url: archive.url, member: posix.relative(archive.dir, path) };
  }

  #copy(tool: string, args: readonly (string | undefined)[], raw: readonly string[], line: number): void {
    const paths: (string | undefined)[] = [];
    for (let index = 0; index < args.length; index += 1) {
      const arg = args[index];
      if (tool === 'install' && /^-[a-zA-Z]*[mogt]$/.test(arg ?? '')) index += 1;
      else if (arg === undefined || !arg.startsWith('-')) paths.push(arg);
    }
    if (tool === 'install' && args.some((one) => one === '-d' || one === '-D')) paths.splice(0, args.includes('-d') ? paths.length : 0);
    const target = paths.pop();
    if (target === undefined)
      return paths.length === 0 ? undefined : this.#decide(line, `${tool} ${raw.join(' ')}: only a run knows the paths`);
    const to = this.#inImage(this.#path(target));
    for (const [index, path] of paths.entries()) {
      if (path === undefined) {
        this.#decide(line, `${tool} ${raw[index] ?? ''}: only a run knows the path`);
        continue;
      }
      const source = this.#sourceOf(this.#path(path));
      if (to === undefined) {
        // A copy beside the image: it is the same file.
        if (source !== undefined && source.member === undefined) this.#files.set(this.#path(target), source.url);
      } else if (source === undefined) this.#decide(line, `installs '${path}', which no followed download has`);
      else if (source.member !== undefined && this.#hasUnknown && /amd64|arm64|x86_64|aarch64/.test(source.member))
        this.#decide(line, `installs '${path}', of a download that only a run knows`);
      else
        this.#install(line, source, target, {
          isRecursive: args.some((one) => /^-[a-zA-Z]*[rR]|^--recursive$/.test(one ?? '')),
          many: paths.length > 1,
        });
    }
  }

  /** Installs a file, or everything below a folder, which only recursive copies of a path without a glob can be. */
  #install(line: number, source: { url: string; member?: string }, target: string, how: { isRecursive: boolean; many: boolean }): void {
    const { member } = source;
    const to = this.#inImage(this.#path(target)) ?? '';
    const name = posix.basename(member ?? '');
    if (/^opt(?:\/|$)/.test(to))
      this.#decide(
        line,
        `installs below /opt, which a merge makes read-only: it is in /usr/lib here; link it from /opt with tmpfiles.d (L+) if programs look there`,
      );
    if (member !== undefined && how.isRecursive && !name.includes('*') && !/\.\w+$/.test(name)) {
      const below = [...(to === '' ? [] : [imagePath(to)]), name].join('/');
      const folder = target.endsWith('/') || how.many || !to.endsWith(name) ? imagePath(below) : imagePath(to);
      this.#add({ line, url: source.url, member: `${member}/**`, to: `${folder}/` });
      return;
    }
    const isFolder = target.endsWith('/') || how.many || name.includes('*') || this.#folders.has(this.#path(target));
    this.#add({ line, ...source, to: `${imagePath(to)}${isFolder && !to.endsWith('/') ? '/' : ''}` });
  }

  #link(args: readonly (string | undefined)[], line: number): void {
    const [target, path, ...more] = args.flatMap((one) => (one === undefined || one.startsWith('-') ? [] : [one]));
    if (target === undefined || path === undefined || more.length > 0) return this.#decide(line, 'a link whose names only a run knows');
    const inImage = this.#inImage(this.#path(path));
    if (inImage === undefined) return;
    const at = imagePath(inImage);
    const absolute = target.startsWith('/') ? target.slice(1) : posix.join(posix.dirname(inImage), target);
    // Targets below folders that are elsewhere here.
    const own = /^(?:usr|opt)\//.test(absolute) ? posix.relative(posix.dirname(at), imagePath(absolute)) : target;
    this.links.push({ path: at, target: own });
  }

  #chmod(args: readonly string[]): void {
    if (!args.some((one) => /^(?:[ugoa]*\+[rw]*x|0?7\d\d)$/.test(one))) return;
    for (const path of args.slice(1)) {
      const inImage = this.#inImage(this.#path(path));
      if (inImage !== undefined && !inImage.includes('*')) this.executables.push(imagePath(inImage));
    }
  }

  #remove(name: string, args: readonly string[], raw: readonly string[], line: number): void {
    const paths = args.filter((one) => !one.startsWith('-')).flatMap((one) => this.#inImage(this.#path(one)) ?? []);
    if (name === 'find' && paths.length > 0) this.#decide(line, `changes files of the image: find ${raw.join(' ')}`);
    else this.removed.push(...paths.map(imagePath));
  }

  #container(args: readonly (string | undefined)[], raw: readonly string[], line: number): void {
    const script = args.map((one, index) => one ?? raw[index] ?? '').join(' ');
    const installed = /\bapt(?:-get)?\s+install\s+((?:-\S+\s+)*)([^&|;"]+)/.exec(script)?.[2];
    const wrapper = /\b(?:flix|flatwrap)\.sh\s+\S+\s+\S+\s+([^&|;"]+)/.exec(script)?.[1];
    if (installed !== undefined && wrapper !== undefined) {
      const packages = installed.split(/\s+/).filter((one) => /^[a-z0-9][a-z0-9+.-]+$/.test(one) && one !== 'patchelf');
      const programs = wrapper.split(/\s+/).flatMap((one) => /^\/usr\/s?bin\/([\w.+-]+)$/.exec(one)?.[1] ?? []);
      this.packages = { line, packages, programs };
      this.#over = true;
      return;
    }
    this.#decide(
      line,
      'is built in a container, which cannot be followed: take it from Debian (flatcar-ext new NAME --debian NAME), from the Go module proxy (--go), from the crates registry (--cargo), or write a script for the origin source',
    );
    this.#over = true;
  }
}

/** True for commands that only print or end. */
const isHarmless = (nodes: readonly ShellNode[]): boolean =>
  nodes.every((node) => node.kind === 'command' && /^(?:echo|printf|announce|return|exit|true|:)$/.test(node.words[0] ?? ''));

/** True for commands that report an error and end the recipe. */
const isError = (nodes: readonly ShellNode[]): boolean => {
  const last = nodes.at(-1);
  return (
    isHarmless(nodes) &&
    last?.kind === 'command' &&
    /^(?:return|exit)$/.test(last.words[0] ?? '') &&
    last.words[1] !== '0' &&
    last.words.length > 1
  );
};

/** Variables that commands name. */
const namesIn = (nodes: readonly ShellNode[]): string[] => [...textOf(nodes).matchAll(/\$\{?(\w+)/g)].flatMap(([, name]) => name ?? []);

const textOf = (nodes: readonly ShellNode[]): string =>
  nodes.map((node) => (node.kind === 'command' ? node.words.join(' ') : `a nested ${node.kind}`)).join('; ');

/** Follows the body of `populate_sysext_root` for one architecture, with the text of a version. */
export function traceRecipe(body: readonly ShellNode[], arch: Arch, version: string): Trace {
  const names: Names = {
    values: new Map([
      ['1', ROOT],
      ['2', arch],
      ['3', version],
      ['scriptroot', '/bakery'],
    ]),
  };
  const follower = new Follower(names);
  follower.follow(body);
  return follower;
}
