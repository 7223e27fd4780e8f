import * as v from 'valibot';
import { closest } from '../util/closest.ts';
import type {
  CargoOrigin,
  Component,
  DebianOrigin,
  ExtensionDefinition,
  FilesOrigin,
  GoOrigin,
  PgpSignature,
  Relocation,
  InstallRule,
  UpstreamOrigin,
  SigstoreSignature,
  SourceOrigin,
} from './types.ts';
import type { VersionSource } from './version-source.ts';
import { workflowOf } from '../model/workflow-identity.ts';
import {
  byKind,
  expected,
  extensionName,
  filled,
  flag,
  glob,
  like,
  listOf,
  mapOf,
  message,
  oneOf,
  problemsOf,
  shape,
  template,
  text,
  unitName,
  type DefinitionProblem,
} from './schema-kit.ts';

const url = like(/^https?:\/\/[^\s/]+\S*$/, 'a valid URL', 'write it as https://host/path');
/** Paths of the host and of images are written without a leading slash. */
const imagePath = like(
  /^(?!\/)(?!(?:.*\/)?\.\.?(?:\/|$))[^\0\n]+$/,
  'a path in an image',
  "write it relative to the root, such as 'usr/bin/tool'",
);

const UPSTREAM_WORDS = ['version', 'arch', 'goarch', 'machine'];
const PUBLISHED_WORDS = [...UPSTREAM_WORDS, 'url', 'file', 'checksum'];

/** Schemas for all keys of an interface: a key that is added to the interface must be added to its schema. */
type Entries<T> = { readonly [K in keyof Required<T>]: v.GenericSchema };

const POLICIES = ['newest', 'same minor'];
const source = (kind: VersionSource['kind'], location: Record<string, v.GenericSchema>): v.GenericSchema =>
  shape({
    kind: v.literal(kind),
    ...location,
    track: v.pipe(
      text,
      v.regex(/^(?:newest|same minor|[1-9]\d* (?:minors|branches))$/, ({ input }) =>
        message(
          `'${input}' is not a policy of versions`,
          `${closest(input, POLICIES)
            .map((one) => `did you mean '${one}'? `)
            .join('')}use 'newest', 'same minor', '3 minors' or '2 branches'`,
        ),
      ),
    ),
    tagPrefix: v.optional(text),
    // github() also returns a function that makes upstream origins.
    ...(kind === 'github' ? { asset: v.optional(v.function()) } : {}),
  });
const project = like(/^[\w.-]+(?:\/[\w.-]+)+$/, 'a project', "write it as 'owner/repository'");
const module_ = like(/^[\w.-]+\.[a-z]+(?:\/[\w.~-]+)*$/, 'a Go module', "write it as 'github.com/owner/repository'");
const crate = like(/^(?:\.\/)?[\w][\w/.-]*$/, 'a crate', "write its name, or './folder' for a crate of the extension itself");
const SOURCES = {
  github: { repo: like(/^[\w.-]+\/[\w.-]+$/, 'a GitHub repository', "write it as 'owner/repository'") },
  gitlab: {
    repo: v.pipe(
      text,
      v.check(
        (at) => /^https?:\/\/\S+$/.test(at) || v.is(project, at),
        ({ input }) => message(`'${input}' is not a GitLab project`, "write it as 'group/project', or as its URL"),
      ),
    ),
  },
  kubernetes: { url },
  page: { url: template(url, ['machine']) },
  go: { module: module_ },
  crates: { crate: like(/^[A-Za-z][\w-]*$/, 'a crate', 'write its name in the registry') },
  debian: { package: like(/^[a-z][a-z0-9-]*\/main\/[a-z0-9][a-z0-9+.-]+$/, 'a Debian package', "write it as 'trixie/main/package'") },
  json: { url },
  date: {},
} as const satisfies Record<VersionSource['kind'], Record<string, v.GenericSchema>>;
const KINDS = Object.keys(SOURCES) as VersionSource['kind'][];

const VersionSourceSchema = byKind(Object.fromEntries(KINDS.map((kind) => [kind, source(kind, SOURCES[kind])])));

const of = v.optional(oneOf(['file', 'checksum']));
const published = template(filled, PUBLISHED_WORDS);
const pgp = shape({
  kind: v.literal('pgp'),
  keys: filled,
  fingerprints: v.pipe(
    listOf(like(/^[0-9A-F]{40}$/, 'a fingerprint', 'write it whole: 40 hexadecimal digits in capitals')),
    v.minLength(1, 'must name a key'),
  ),
  of,
  url: v.optional(published),
} satisfies Entries<PgpSignature>);
/** Why an identity does not name one repository and one version; undefined if it does. */
function identityProblem({ identity, source, ref }: Pick<SigstoreSignature, 'identity' | 'source' | 'ref'>): string | undefined {
  const workflow = workflowOf(identity);
  const star = identity.indexOf('*');
  if (star !== -1 && (workflow === undefined || star < identity.length - 1))
    return message(
      `'${identity}' matches other signers too`,
      "write '*' only as the last character, behind the '@' of a workflow: …/release.yml@refs/tags/*",
    );
  if (workflow === undefined) return undefined;
  const isOwn = source === undefined || source === workflow.repository;
  const bound = ref ?? (isOwn ? workflow.ref : '');
  // A branch has no version: the version of a signature by a branch is not checked.
  if (bound.includes('{version}') || /^refs\/heads\/[^*]+$/.test(bound)) return undefined;
  return message(
    `'${identity}' is the signer of every version`,
    isOwn ? "end it in '@refs/tags/v{version}', or add ref: 'refs/tags/v{version}'" : "add ref: 'refs/tags/v{version}'",
  );
}
const sigstore = v.pipe(
  shape({
    kind: v.literal('sigstore'),
    issuer: url,
    identity: template(like(/^[^\s,;]+$/, 'a signer', 'write the name in the certificate, without blanks'), UPSTREAM_WORDS),
    source: v.optional(
      like(/^https:\/\/[^\s,;/]+\/[^\s,;]+$/, 'the URL of a repository', "write it as 'https://github.com/owner/repository'"),
    ),
    ref: v.optional(template(like(/^refs\/(?:heads|tags)\/[^\s,;*]+$/, 'a ref', "write it as 'refs/tags/v{version}'"), UPSTREAM_WORDS)),
    of,
    bundle: v.optional(published),
    signature: v.optional(published),
    certificate: v.optional(published),
    trustedRoot: v.optional(filled),
  } satisfies Entries<SigstoreSignature>),
  v.rawCheck(({ dataset, addIssue }) => {
    if (!dataset.typed) return;
    const value = dataset.value as SigstoreSignature;
    const problem = identityProblem(value);
    if (problem === undefined) return;
    const input = value as unknown as Record<string, unknown>;
    addIssue({ message: problem, path: [{ type: 'object', origin: 'value', input, key: 'identity', value: value.identity }] });
  }),
);
const signature = byKind({ pgp, sigstore });

/** The project of a file of GitHub's releases; undefined for a file elsewhere. */
const projectOf = (fileUrl: string): string | undefined =>
  /^(https:\/\/github\.com\/[^/]+\/[^/]+)\/releases\/download\//.exec(fileUrl)?.[1];

/** Signatures of a workflow that is located in another project than the file, and that do not specify whose run made them. */
function foreignWorkflows({
  url: fileUrl,
  signature: signatures = [],
}: UpstreamOrigin): { path: readonly (string | number)[]; text: string }[] {
  const project = projectOf(fileUrl);
  return [signatures].flat().flatMap((one, index) => {
    const repository = one.kind === 'sigstore' && one.source === undefined ? workflowOf(one.identity)?.repository : undefined;
    if (project === undefined || repository === undefined || repository.toLowerCase() === project.toLowerCase()) return [];
    const path = Array.isArray(signatures) ? ['signature', index] : ['signature'];
    return [{ path, text: message(`the workflow belongs to ${repository}, and the file to ${project}`, `add source: '${project}'`) }];
  });
}
const upstream = v.pipe(
  shape({
    kind: v.literal('upstream'),
    url: template(url, UPSTREAM_WORDS),
    arch: v.optional(shape({ 'x86-64': text, arm64: text })),
    checksum: v.optional(published),
    signature: v.optional(v.lazy((input) => (Array.isArray(input) ? listOf(signature) : signature))),
  } satisfies Entries<UpstreamOrigin>),
  v.rawCheck(({ dataset, addIssue }) => {
    if (!dataset.typed) return;
    const input = dataset.value as Record<string, unknown>;
    for (const { path, text: problem } of foreignWorkflows(dataset.value as UpstreamOrigin))
      addIssue({
        message: problem,
        path: path.map((key) => ({ type: 'object', origin: 'value', input, key: String(key), value: undefined })) as unknown as [
          v.IssuePathItem,
        ],
      });
  }),
);
const go = shape({
  kind: v.literal('go'),
  module: module_,
  folder: v.optional(
    like(/^(?:\.\.?\/)+[\w][\w./-]*$/, 'a folder of this repository', "write it relative to the extension: '../../packages/agent'"),
  ),
  packages: v.pipe(listOf(text), v.minLength(1, 'must name a package')),
  tags: v.optional(listOf(filled)),
  stamps: v.optional(mapOf(template(text, ['version', 'major', 'minor', 'arch']))),
  rename: v.optional(mapOf(filled)),
  goVersion: v.optional(like(/^go1\.\d+$/, "a version of Go's language", "write it as 'go1.26'")),
  exclude: v.optional(listOf(filled)),
  version: v.optional(filled),
  cgo: v.optional(flag),
  stagingVersion: v.optional(template(filled, ['version', 'major', 'minor', 'patch'])),
} satisfies Entries<GoOrigin>);
const cargo = shape({
  kind: v.literal('cargo'),
  crate,
  programs: v.pipe(listOf(filled), v.minLength(1, 'must name a program')),
  features: v.optional(listOf(filled)),
  defaultFeatures: v.optional(flag),
  env: v.optional(mapOf(template(text, ['sysroot', 'triplet']))),
  protoc: v.optional(flag),
} satisfies Entries<CargoOrigin>);
const sourceOrigin = shape({
  kind: v.literal('source'),
  path: template(imagePath, ['version']),
  script: imagePath,
} satisfies Entries<SourceOrigin>);
const debianGlob = template(glob, ['triplet', 'machine']);
// Braces without a comma contain a word; a list of alternatives is part of the glob.
const relocation = shape({
  plugins: v.optional(listOf(debianGlob)),
  data: v.optional(listOf(debianGlob)),
  siblings: v.optional(listOf(debianGlob)),
  hostModules: v.optional(listOf(debianGlob)),
} satisfies Entries<Relocation>);
const debian = shape({
  kind: v.literal('debian'),
  packages: v.pipe(
    listOf(like(/^[a-z0-9][a-z0-9+.-]+$/, 'a Debian package', 'write the name of a binary package')),
    v.minLength(1, 'must name a package'),
  ),
  suite: like(/^[a-z][a-z0-9-]*$/, 'a suite of Debian', "write its name, such as 'trixie'"),
  programs: listOf(glob),
  rename: v.optional(mapOf(filled)),
  relocate: v.optional(relocation),
} satisfies Entries<DebianOrigin>);
const files = shape({ kind: v.literal('files'), dir: template(imagePath, ['arch']) } satisfies Entries<FilesOrigin>);

const InstallRuleSchema = shape({
  from: glob,
  to: like(
    /^(?:(?:usr|etc)(?:\/(?!\.\.?(?:\/|$))[^/\0\n]+)*\/?)?$/,
    'a place in an image',
    "write a path below usr/ (of a confext, etc/), such as 'usr/bin/'",
  ),
  mode: v.optional(
    v.pipe(
      v.number(expected('a number')),
      v.integer(({ input }) => `${input} is not a whole number`),
      v.minValue(0, ({ input }) => `${input} is not a file mode`),
      v.maxValue(0o7777, ({ input }) => message(`0o${input.toString(8)} is not a file mode`, 'write permission bits as 0o755')),
    ),
  ),
} satisfies Entries<InstallRule>);

const ComponentSchema = shape({
  name: like(/^[A-Za-z0-9][\w.+-]*$/, 'a valid component name', 'use letters, digits, dashes and underscores'),
  version: filled,
  origins: v.pipe(
    listOf(byKind({ upstream, go, cargo, debian, source: sourceOrigin, files })),
    v.minLength(1, () => message('must have an origin', 'specify where its files come from: upstream(…), go(…), debian(…)')),
  ),
  install: v.pipe(
    listOf(InstallRuleSchema),
    v.minLength(1, () => message('must have a rule', "specify where its files are installed: { from: 'tool', to: 'usr/bin/' }")),
  ),
  noSource: v.optional(filled),
  lock: v.optional(filled),
} satisfies Entries<Component>);

const ComponentsSchema = v.pipe(
  v.array(ComponentSchema, expected('a list of components')),
  v.rawCheck(({ dataset, addIssue }) => {
    const names = (Array.isArray(dataset.value) ? dataset.value : []).map((one: { name?: unknown } | undefined) => one?.name);
    for (const [index, name] of names.entries()) {
      if (typeof name !== 'string' || names.indexOf(name) === index) continue;
      const step = { type: 'array', origin: 'value', input: dataset.value as unknown[], key: index, value: name } as const;
      addIssue({
        message: message(`two components are called '${name}'`, 'give one of them another name', 'duplicate-component'),
        path: [step],
        input: name,
      });
    }
  }),
);

const DefinitionSchema = shape({
  name: v.pipe(
    extensionName,
    v.check(
      (name) => !/^(?:flatcar|oem)-|-flatcar$/.test(name),
      ({ input }) =>
        message(`the name '${input}' belongs to Flatcar itself`, 'names must not start with flatcar- or oem-, nor end with -flatcar'),
    ),
  ),
  summary: v.pipe(
    text,
    v.check((value) => value.trim() !== '' && !value.includes('\n'), 'must be one line'),
    v.check(
      (value) => !value.endsWith('.'),
      () => message('ends with a full stop', 'leave it out'),
    ),
  ),
  kind: v.optional(oneOf(['sysext', 'confext'])),
  versions: VersionSourceSchema,
  coupled: v.optional(mapOf(VersionSourceSchema)),
  components: v.function(expected('a function that returns the components')),
  start: v.optional(listOf(unitName)),
  requiredPaths: v.optional(listOf(imagePath)),
  releaseBound: v.optional(flag),
  replaces: v.optional(listOf(imagePath)),
  requires: v.optional(listOf(extensionName)),
  conflicts: v.optional(listOf(extensionName)),
  essential: v.optional(flag),
  follow: v.optional(oneOf(['latest', 'minor'])),
  localOnly: v.optional(filled),
  waive: v.optional(
    mapOf(
      v.pipe(
        text,
        v.check(
          (reason) => reason.trim() !== '',
          () => message('has no reason', 'write why the rule does not apply'),
        ),
      ),
    ),
  ),
} satisfies Entries<ExtensionDefinition>);

/** Contradictions between `requires`, `conflicts` and the extension itself. */
function relationProblems({ name, requires, conflicts }: Partial<ExtensionDefinition>): DefinitionProblem[] {
  const [needed, excluded] = [requires, conflicts].map((list) => (Array.isArray(list) ? (list as unknown[]) : []));
  const itself = [
    ['requires', needed ?? []],
    ['conflicts', excluded ?? []],
  ] as const;
  return [
    ...itself.flatMap(([key, list]) =>
      list.flatMap((other, index): DefinitionProblem[] =>
        other === name ? [{ path: [key, index], what: `'${name}' is this extension itself`, next: 'remove it', value: name }] : [],
      ),
    ),
    ...(excluded ?? []).flatMap((other, index): DefinitionProblem[] =>
      needed?.includes(other) === true
        ? [
            {
              path: ['conflicts', index],
              what: `'${String(other)}' is listed under 'requires', too`,
              next: 'remove it from one of the two',
              value: other,
            },
          ]
        : [],
    ),
  ];
}

/** All problems of a definition, without those of its components. */
export function definitionProblems(definition: unknown): DefinitionProblem[] {
  const isObject = typeof definition === 'object' && definition !== null;
  return [...problemsOf(DefinitionSchema, definition, []), ...(isObject ? relationProblems(definition) : [])];
}

/** All problems of the components that a definition returns. */
export function componentProblems(components: unknown): DefinitionProblem[] {
  return problemsOf(ComponentsSchema, components, ['components']).map((problem) => {
    const [, index] = problem.path;
    const one: unknown = Array.isArray(components) && typeof index === 'number' ? (components as unknown[])[index] : undefined;
    const { name, lock } = (one ?? {}) as { name?: unknown; lock?: unknown };
    const text = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined);
    return { ...problem, component: text(name), lock: text(lock) };
  });
}
