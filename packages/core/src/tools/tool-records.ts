import { type Arch, hostArch } from '../model/arch.ts';
import { goRecord } from './go-command.ts';
import { pinnedCRecord, pinnedRustRecord, type Toolchains } from './toolchains.ts';
import { pinnedToolRecord, type Tools } from './tools.ts';
import type { ToolRecord } from '../model/payload.ts';

/** The packages of the tools that make a payload, for its key and its record. */
export interface ToolRecords {
  /** The architecture of the host: it determines the packages. */
  readonly host: Arch;
  tool(name: string): Promise<readonly ToolRecord[]>;
  c(target: Arch): Promise<readonly ToolRecord[]>;
  rust(): Promise<readonly ToolRecord[]>;
  go(): Promise<ToolRecord>;
}

/** The tools of this machine: installed on first use, with the packages that replace pinned ones. */
export function installedRecords(tools: Tools, toolchains: Toolchains): ToolRecords {
  const host = hostArch();
  return {
    host,
    tool: (name) => tools.record(name),
    c: async (target) => (await toolchains.c(target)).records,
    rust: async () => (await toolchains.rust()).records,
    go: () => goRecord(host),
  };
}

/** The tools as they are pinned for a host architecture; nothing is fetched. */
export function pinnedRecords(host: Arch): ToolRecords {
  return {
    host,
    tool: (name) => pinnedToolRecord(name, host),
    c: (target) => pinnedCRecord(host, target),
    rust: () => pinnedRustRecord(host),
    go: () => goRecord(host),
  };
}
