import { join } from 'node:path';
import { exec, networkEnv, parseJson, plainGoError, userGoEnv, type ModuleVersions } from '@flatcar/core/engine';
import * as v from 'valibot';
import { memoize, type UpstreamContext } from '../context.ts';
import { versionsInNames, type Listed } from './tags.ts';

/** What `go list -m -json` prints of a module. */
const GoModuleSchema = v.object({
  Version: v.optional(v.string()),
  Versions: v.optional(v.array(v.string())),
  Time: v.optional(v.string()),
});
type GoModule = v.InferOutput<typeof GoModuleSchema>;

/** Reads a module at a version from the proxy, such as `example.org/tool@latest`. */
async function goList(query: string, args: readonly string[], { store, tools, signal }: UpstreamContext): Promise<GoModule> {
  const output = await exec(await tools.bootstrapGo(), ['list', '-m', ...args, '-json', query], {
    cwd: '/',
    env: {
      ...networkEnv(),
      ...userGoEnv(),
      GOMODCACHE: join(store.root, 'go', 'mod'),
    },
    next: 'check the module in the definition, and the proxy (GOPROXY)',
    signal,
  }).catch((error: unknown) => {
    throw plainGoError(error, query);
  });
  return parseJson(GoModuleSchema, output, { what: 'output of go list', where: query });
}

/** A module's tags, from the proxy that the user's Go is configured for. */
export async function goVersions({ module: at }: ModuleVersions, context: UpstreamContext): Promise<Listed[]> {
  const { Version, Versions = [] } = await goList(`${at}@latest`, ['-versions'], context);
  const tags = [...Versions, ...(Version === undefined ? [] : [Version])];
  return versionsInNames(tags).map(({ version }) => ({ version: version.replace(/\+incompatible$/, '') }));
}

/** When a version of a module was tagged, as its proxy has it. */
export async function goDate(module: string, version: string, context: UpstreamContext): Promise<string | undefined> {
  return (await memoize(context, `date ${module} ${version}`, () => goList(`${module}@v${version}`, [], context))).Time;
}
