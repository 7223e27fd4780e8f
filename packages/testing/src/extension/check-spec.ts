import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DefinitionError, lineOfProblem, schemas } from '@flatcar/core/engine';
import * as v from 'valibot';
import type { Command, ExtensionTest, MachineTest, RealUse, RealUses, RelocatedTest, TlsCheck, UpstreamTest } from '../spec.ts';

const { expected, extensionName, filled, flag, listOf, mapOf, message, oneOf, problemsOf, shape, text, unitName } = schemas;

/** Entries of an object that has all keys of an interface: a key that is added to one is added to the other. */
type Entries<T> = { readonly [K in keyof Required<T>]: v.GenericSchema };

const optional = (schema: v.GenericSchema): v.GenericSchema => v.optional(schema);
const pattern = v.instance(RegExp, expected('a pattern such as /text/'));
const code = optional(v.function(expected('a function')));
const absolute = v.pipe(
  text,
  v.check(
    (path) => path.startsWith('/'),
    ({ input }) => message(`'${input}' is not an absolute path`, `write it as '/${input}'`),
  ),
);
const port = v.pipe(
  v.number(expected('a number')),
  v.check(
    (value) => Number.isInteger(value) && value > 0 && value < 65_536,
    ({ input }) => `${input} is not a port`,
  ),
);
/** Chooses a schema by the value, so that messages come from one schema. */
const choice = (choose: (input: unknown) => v.GenericSchema): v.GenericSchema => v.lazy(choose);

const command = shape({
  run: v.pipe(listOf(text), v.minLength(1, 'must name a program')),
  env: optional(mapOf(text)),
  says: choice((input) =>
    typeof input === 'string'
      ? oneOf(['version'])
      : input instanceof RegExp
        ? pattern
        : typeof input === 'object' && input !== null
          ? shape({ version: filled })
          : v.never(expected("a pattern, 'version', or { version: 'NAME' }")),
  ),
} satisfies Entries<Command>);

const tlsCheck = shape({
  run: v.function(expected('a function that returns a command')),
  env: optional(mapOf(text)),
  accepts: pattern,
  refuses: pattern,
} satisfies Entries<TlsCheck>);
const tls = optional(choice((input) => (typeof input === 'string' ? filled : listOf(tlsCheck))));

const machine = optional(
  shape({
    files: optional(
      v.pipe(
        mapOf(text),
        v.check((files) => Object.keys(files as object).every((path) => path.startsWith('/')), 'paths must be absolute'),
      ),
    ),
    active: optional(listOf(unitName)),
    answers: optional(listOf(shape({ run: filled, says: pattern }))),
    reloads: optional(listOf(unitName)),
    runsAs: optional(mapOf(filled)),
    ports: optional(listOf(port)),
    beside: optional(listOf(extensionName)),
    whenBuilt: optional(flag),
    memory: optional(
      v.pipe(
        v.number(expected('a number')),
        v.minValue(128, ({ input }) => `${input} MiB are too little`),
      ),
    ),
    also: code,
  } satisfies Entries<MachineTest>),
);
const common = {
  only: optional(listOf(filled)),
  version: optional(filled),
  origin: optional(oneOf(['auto', 'upstream', 'source'])),
};

/** The argument of each helper, by its name. */
const SPECS = {
  testExtension: shape({
    ...common,
    kind: optional(oneOf(['sysext', 'confext'])),
    commands: listOf(command),
    units: optional(listOf(unitName)),
    paths: optional(listOf(absolute)),
    tls,
    machine,
    also: code,
    small: optional(flag),
  } satisfies Entries<ExtensionTest>),
  testRelocated: shape({
    ...common,
    folder: absolute,
    commands: listOf(command),
    target: optional(v.any()),
    static: optional(listOf(filled)),
    tls,
    machine,
    also: code,
  } satisfies Entries<RelocatedTest>),
  testRealUse: shape({
    ...common,
    uses: listOf(
      shape({
        does: filled,
        run: filled,
        gives: choice((input) => (typeof input === 'string' ? text : pattern)),
        except: optional(shape({ bare: optional(filled), debian: optional(filled), emulated: optional(filled) })),
      } satisfies Entries<RealUse>),
    ),
    packages: optional(listOf(filled)),
    withServers: code,
    small: optional(flag),
  } satisfies Entries<RealUses>),
  testUpstream: shape({
    version: optional(filled),
    programs: listOf(filled),
    paths: optional(listOf(absolute)),
    machine,
    also: code,
    small: optional(flag),
  } satisfies Entries<UpstreamTest>),
} as const;

/** The test file in a folder that calls a helper. */
function fileOf(folder: string, helper: string): string {
  const files = readdirSync(folder).filter((name) => name.endsWith('.test.ts'));
  const name = files.find((one) => readFileSync(join(folder, one), 'utf8').includes(`${helper}(`));
  return join(folder, name ?? 'extension.test.ts');
}

/**
 * Checks everything that a test in a folder passes to a helper: unknown keys, types and values. Throws an error whose text lists all problems,
 * each with file and line: vitest prints nothing else of an error.
 */
export function checkSpec(helper: keyof typeof SPECS, folder: string, about: unknown): void {
  const problems = problemsOf(SPECS[helper], about, []);
  if (problems.length === 0) return;
  const file = fileOf(folder, helper);
  const source = existsSync(file) ? readFileSync(file, 'utf8') : '';
  const lines = problems.map((problem) => {
    const { message: what, next } = new DefinitionError([problem]);
    return `${file}:${lineOfProblem(source, problem)}: ${what}${next === undefined ? '' : `; ${next}`}`;
  });
  throw new Error(`${helper}: ${problems.length === 1 ? 'an error' : `${problems.length} errors`}\n${lines.join('\n')}`);
}
