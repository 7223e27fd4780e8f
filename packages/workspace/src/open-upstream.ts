import type { Report } from '@flatcar/core/engine';
import type { UpstreamContext } from '@flatcar/upstream';

/** What packages/upstream is given by the commands that ask upstream. */
export async function upstreamContext(report: Report, signal: AbortSignal, mirror: string | undefined): Promise<UpstreamContext> {
  const { openStore, openToolchains, openTools } = await import('@flatcar/core/engine');
  const store = openStore();
  return {
    store,
    tools: openTools(store, report),
    toolchains: openToolchains(store, report),
    report,
    signal,
    cache: new Map(),
    ...(mirror === undefined ? {} : { mirror }),
  };
}
