import { type Arch, hostArch } from '../model/arch.ts';
import { goRecord } from './go-command.ts';
import { pinnedCRecord, pinnedRustRecord, type Toolchains } from './toolchains.ts';
import { pinnedToolRecord, type Tools } from './tools.ts';
import type { ToolRecord } from '../model/payload.ts';

/** What the tools that make a payload consist of, as far as its key and its record need them. */
export interface ToolRecords {
  /** The kind of machine that they run on: it decides which packages they come from. */
  readonly host: Arch;
  tool(name: string): Promise<readonly ToolRecord[]>;
  c(target: Arch): Promise<readonly ToolRecord[]>;
  rust(): Promise<readonly ToolRecord[]>;
  go(): Promise<ToolRecord>;
}

/** The tools of this machine: they are installed when they are asked for, and a package that stands in for another is reported. */
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

/** The tools as they are pinned for a kind of machine; nothing is fetched. */
export function pinnedRecords(host: Arch): ToolRecords {
  return {
    host,
    tool: (name) => pinnedToolRecord(name, host),
    c: (target) => pinnedCRecord(host, target),
    rust: () => pinnedRustRecord(host),
    go: () => goRecord(host),
  };
}
