import { posix } from 'node:path';
import type { ArchWords, Component, UpstreamOrigin, VersionSource } from '@flatcar/core/engine';
import { parseShell, type ShellCommand, type ShellNode } from './shell.ts';
import { traceRecipe, type Decision, type Trace } from './trace.ts';

/** A component of an imported extension, as its definition has it. */
export interface ImportedComponent extends Pick<Component, 'name' | 'install'> {
  readonly origin: UpstreamOrigin;
}

/** What can be told of a recipe without running it. */
export interface Recipe {
  readonly versions?: VersionSource | undefined;
  readonly components: readonly ImportedComponent[];
  /** Packages of Debian to relocate, instead of components. */
  readonly packages?: Pick<NonNullable<Trace['packages']>, 'packages' | 'programs'> | undefined;
  readonly links: Trace['links'];
  readonly removed: readonly string[];
  readonly decisions: readonly Decision[];
}

/** Files that upstream publishes to check others. */
const CHECKSUMS = /(?:^|[/._-])(?:checksums?|sha\d*sums?|shasum\d*)(?:[._-][\w-]+)?(?:\.txt)?$|\.sha\d+(?:sums?)?$/i;
const WORDS = { 'x86-64': { arch: 'amd64', machine: 'x86_64' }, arm64: { arch: 'arm64', machine: 'aarch64' } } as const;

/** The body of a function of the script. */
const functionOf = (nodes: readonly ShellNode[], name: string): readonly ShellNode[] | undefined =>
  nodes.find((node) => node.kind === 'function' && node.name === name && node.body.length > 0)?.kind === 'function'
    ? nodes.flatMap((node) => (node.kind === 'function' && node.name === name ? node.body : []))
    : undefined;

/** All commands below nodes, with those that they are piped into. */
function commandsIn(nodes: readonly ShellNode[]): ShellCommand[] {
  return nodes.flatMap((node): ShellCommand[] => {
    if (node.kind === 'command') return [node, ...node.pipedInto];
    if (node.kind === 'if') return node.branches.flatMap(({ condition, body }) => commandsIn([...condition, ...body]));
    if (node.kind === 'case') return node.branches.flatMap(({ body }) => commandsIn(body));
    return commandsIn(node.body);
  });
}

const unquoted = (word: string | undefined): string => (word ?? '').replaceAll(/["']/g, '');

interface Listed {
  readonly versions?: VersionSource;
  /** The text of a version, as the recipe gets it. */
  readonly version: string;
  readonly decisions: readonly Decision[];
}

/** Where versions are listed, by the functions that recipes call for that, and the text of a version. `pinned` are versions that were built. */
function listedVersions(nodes: readonly ShellNode[], pinned: readonly string[]): Listed {
  const body = functionOf(nodes, 'list_available_versions') ?? [];
  const commands = commandsIn(body);
  const line = body[0]?.line ?? 1;
  const isStripped = commands.some(({ words }) => words[0] === 'sed' && /s[/,|]\^v[/,|]{2}/.test(words.join(' ')));
  const isBare = pinned.length > 0 && pinned.every((one) => /^\d/.test(one));
  const isPlain = !isStripped && (isBare || commands.some(({ words }) => words[0] === 'grep' && /-v ["']?\^v/.test(words.join(' '))));
  const tagPrefix = isPlain ? '' : 'v';
  const version = isStripped || isPlain ? '{version}' : 'v{version}';
  const call = commands.find(({ words }) => /^list_git(?:hub_releases|hub_tags|lab_tags)$/.test(words[0] ?? ''));
  const [owner, project] = [unquoted(call?.words[1]), unquoted(call?.words[2])];
  const decisions =
    functionOf(nodes, 'list_latest_release') === undefined
      ? []
      : [{ line, what: "chooses its versions itself: set `track` in the definition, such as '3 minors'" }];
  if (call?.words[0]?.startsWith('list_github') === true && /^[\w.-]+$/.test(owner) && /^[\w.-]+$/.test(project))
    return { versions: { kind: 'github', repo: `${owner}/${project}`, track: 'newest', tagPrefix }, version, decisions };
  const [url] = commands.flatMap(({ words }) =>
    words.map((word) => unquoted(word).replace(/^\w+=/, '')).filter((word) => /^https:\/\/[\w.-]+\/[\w./-]*(?:\?[\w=&]*)?$/.test(word)),
  );
  const hashicorp = /^https:\/\/api\.releases\.hashicorp\.com\/v1\/releases\/([\w-]+)/.exec(url ?? '')?.[1];
  if (hashicorp !== undefined)
    return {
      versions: { kind: 'page', url: `https://releases.hashicorp.com/${hashicorp}/`, track: 'newest', tagPrefix: `${hashicorp}_` },
      version: '{version}',
      decisions: [
        ...decisions,
        {
          line,
          what: 'versions of the vendor’s API are read from its page instead: check that the page lists them, and what their license permits',
        },
      ],
    };
  if (url?.endsWith('/') === true)
    return { versions: { kind: 'page', url: url.replaceAll('x86_64', '{machine}'), track: 'newest' }, version: '{version}', decisions };
  return { version, decisions: [...decisions, { line, what: 'the list of versions could not be told: set `versions` in the definition' }] };
}

/** One text for both architectures, with words in place of theirs; undefined if they differ in more than one word. */
export function mergeArches(x86: string, arm: string): { text: string; arch?: ArchWords } | undefined {
  if (x86 === arm) return { text: x86 };
  const general = (text: string, { arch, machine }: { arch: string; machine: string }): string =>
    text
      .replaceAll(new RegExp(`(?<![a-z0-9])${machine}(?![a-z0-9])`, 'g'), '{machine}')
      .replaceAll(new RegExp(`(?<![a-z0-9])${arch}(?![a-z0-9])`, 'g'), '{arch}');
  const [a, b] = [general(x86, WORDS['x86-64']), general(arm, WORDS.arm64)];
  if (a === b) return { text: a };
  let start = 0;
  while (start < Math.min(x86.length, arm.length) && x86[start] === arm[start]) start += 1;
  let end = 0;
  while (end < Math.min(x86.length, arm.length) - start && x86.at(-1 - end) === arm.at(-1 - end)) end += 1;
  // Whole words: `x86-64` and `arm64` have `64` in common.
  while (start > 0 && /[a-z0-9]/i.test(x86[start - 1] ?? '') && x86.length - end > start) start -= 1;
  while (end > 0 && /[a-z0-9]/i.test(x86.at(-end) ?? '') && [x86, arm].some((text) => /[a-z0-9]/i.test(text.at(-end - 1) ?? ''))) end -= 1;
  const words: ArchWords = { 'x86-64': x86.slice(start, x86.length - end), arm64: arm.slice(start, arm.length - end) };
  if (/[/{}]/.test(words['x86-64'] + words.arm64)) return undefined;
  return { text: `${x86.slice(0, start)}{arch}${x86.slice(x86.length - end)}`, arch: words };
}

/** The checksum of a download among the other downloads. */
function checksumOf(url: string, others: readonly string[]): string | undefined {
  const beside = others.find((one) => one.startsWith(url) && CHECKSUMS.test(one));
  if (beside !== undefined) return `{url}${beside.slice(url.length)}`;
  return others.find((one) => CHECKSUMS.test(one) && posix.dirname(one) === posix.dirname(url))?.slice(posix.dirname(url).length + 1);
}

/** A glob for a member of an archive that is the same for all versions and architectures. */
function memberGlob(member: string): string {
  if (!posix.basename(member).includes('*')) return posix.basename(member);
  return member
    .split('/')
    .map((part) => (part.includes('{') || /amd64|arm64|x86_64|aarch64/.test(part) ? '*' : part))
    .join('/')
    .replace(/^\.\//, '');
}

/** A name for a component of which only the address is known. */
const nameOf = (url: string): string =>
  posix
    .basename(url)
    .replace(/\.(?:tar\.\w+|tgz|zip|txz|gz)$/, '')
    .replaceAll(/[-_.]?(?:v?\{version\}|\{arch\}|\{machine\}|linux|unknown|musl|gnu|static)/g, '')
    .replace(/^[-_.]+/, '') || 'component';

interface Rule {
  readonly line: number;
  readonly url: string;
  readonly member?: string | undefined;
  readonly to: string;
}

/** The component of one download, with the rules that install its files. */
function componentOf(
  url: string,
  arch: ArchWords | undefined,
  rules: readonly Rule[],
  checksum: string | undefined,
  executables: readonly string[],
): ImportedComponent {
  const [first] = rules;
  const raw = first?.member === undefined;
  const target = first?.to ?? '';
  const name = raw && !target.endsWith('/') ? posix.basename(target) : nameOf(url);
  const install = rules.flatMap(({ member, to }) => {
    if (member === undefined) return [{ from: name, to: posix.basename(to) === name ? `${posix.dirname(to)}/` : to }];
    const named = executables.filter((path) => `${posix.dirname(path)}/` === to).map((path) => posix.basename(path));
    // An archive that is unpacked into a folder of programs: those that the recipe makes executable.
    if (member === '**' && named.length > 0) return named.map((from) => ({ from, to }));
    const from = memberGlob(member);
    const isSame = !to.endsWith('/') && posix.basename(to) === from;
    return [{ from, to: isSame ? `${posix.dirname(to)}/` : to }];
  });
  const isGitHub = url.startsWith('https://github.com/');
  return { name, install, origin: { kind: 'upstream', url, arch, checksum: checksum ?? (isGitHub ? 'github' : undefined) } };
}

/** Both traces as one list of rules; what differs in more than words is for a person to decide. */
function mergedRules(x86: Trace, arm: Trace): { rules: (Rule & { arch?: ArchWords | undefined })[]; decisions: Decision[] } {
  const rules: (Rule & { arch?: ArchWords | undefined })[] = [];
  const decisions: Decision[] = [];
  for (const [index, { line, url, member, to }] of x86.installs.entries()) {
    const other = arm.installs[index];
    const merged = other === undefined ? undefined : mergeArches(url, other.url);
    const path = other === undefined ? undefined : mergeArches(to, other.to);
    if (merged === undefined || path === undefined || path.text !== to)
      decisions.push({ line, what: `the two architectures install different files: '${url}' and '${other?.url ?? 'none'}'` });
    else rules.push({ line, url: merged.text, member, to, arch: merged.arch });
  }
  return { rules, decisions };
}

/** Sorts decisions by line, and removes those that both architectures have. */
function unique(decisions: readonly Decision[]): Decision[] {
  const found = new Map(decisions.map((one) => [`${one.line} ${one.what}`, one]));
  return [...found.values()].toSorted((a, b) => a.line - b.line);
}

/** Reads a recipe (`create.sh`) with the versions of it that were built. Throws a UserError with the line for text that is no recipe. */
export function readRecipe(text: string, pinned: readonly string[], where: string): Recipe {
  const nodes = parseShell(text, where);
  const listed = listedVersions(nodes, pinned);
  const body = functionOf(nodes, 'populate_sysext_root');
  if (body === undefined)
    return {
      components: [],
      links: [],
      removed: [],
      decisions: [...listed.decisions, { line: 1, what: 'has no function populate_sysext_root' }],
    };
  const x86 = traceRecipe(body, 'x86-64', listed.version);
  const arm = traceRecipe(body, 'arm64', listed.version);
  const { rules, decisions } = mergedRules(x86, arm);
  const urls = x86.downloads.flatMap(({ url }, index) => {
    const other = arm.downloads[index]?.url;
    return (other === undefined ? undefined : mergeArches(url, other)?.text) ?? [];
  });
  const components = [...Map.groupBy(rules, ({ url }) => url)].map(([url, of]) =>
    componentOf(
      url,
      of[0]?.arch,
      of,
      checksumOf(
        url,
        urls.filter((one) => one !== url),
      ),
      x86.executables,
    ),
  );
  const unversioned = rules
    .filter(({ url }) => !url.includes('{version}'))
    .map(({ line, url }) => ({ line, what: `the address has no version, so that its content changes: ${url}` }));
  const whole = rules.filter(
    ({ member, url }) =>
      member === '**' && components.some(({ origin, install }) => origin.url === url && install.some(({ from }) => from === '**')),
  );
  return {
    versions: listed.versions,
    components,
    packages: x86.packages,
    links: x86.links,
    removed: x86.removed,
    decisions: unique([
      ...listed.decisions,
      ...x86.decisions,
      ...arm.decisions,
      ...decisions,
      ...unversioned,
      ...whole.map(({ line, to }) => ({ line, what: `installs all files of an archive in '${to}': name those that the image needs` })),
    ]),
  };
}
