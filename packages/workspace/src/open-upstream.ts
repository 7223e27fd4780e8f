import { openStore, openToolchains, openTools, type Report } from '@flatcar/core/engine';
import type { UpstreamContext } from '@flatcar/upstream';

/** What packages/upstream needs of a command that reads upstream: the user's store, the tools in it, and the command's own settings. */
export function openUpstream(report: Report, signal: AbortSignal, mirror: string | undefined): UpstreamContext {
  const store = openStore();
  return {
    store,
    tools: openTools(store, report),
    toolchains: openToolchains(store, report),
    report,
    signal,
    cache: new Map(),
    mirror,
  };
}
