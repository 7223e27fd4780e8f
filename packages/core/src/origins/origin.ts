import type { PinnedComponent } from '../extension.ts';
import type { Store } from '../store.ts';
import type { Tools } from '../tools.ts';
import type { Toolchains } from '../toolchains.ts';
import type { Arch, Material, Report, ToolRecord } from '../types.ts';

/** What every origin is given. */
export interface OriginContext extends PinnedComponent {
  readonly arch: Arch;
  readonly store: Store;
  readonly tools: Tools;
  readonly toolchains: Toolchains;
  readonly report: Report;
  /** Base URL that stands in for all upstream hosts. */
  readonly mirror?: string;
  readonly signal?: AbortSignal;
}

/** What every origin gives: a folder of files under the names that `Place.from` speaks of. */
export interface OriginResult {
  readonly dir: string;
  readonly materials: readonly Material[];
  /** What else decided the bytes; part of the payload's key. */
  readonly parameters: Readonly<Record<string, string>>;
  readonly tools: readonly ToolRecord[];
}
