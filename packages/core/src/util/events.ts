/** Events of the pipeline: the cli shows them, core prints nothing. */
export type Event =
  | { readonly type: 'step'; readonly text: string }
  | { readonly type: 'notice'; readonly text: string }
  | DownloadEvent
  | CompileEvent
  | { readonly type: 'log'; readonly what: string; readonly line: string };

/** A file that is fetched: an event when its download begins, some while bytes arrive, and one when it ends. */
export interface DownloadEvent {
  readonly type: 'download';
  readonly state: 'begun' | 'running' | 'complete' | 'failed';
  readonly url: string;
  /** Bytes that arrived in this run: without those that an earlier run left. */
  readonly received: number;
  /** The bytes that will have arrived in this run when the file is complete, where known. */
  readonly total?: number;
}

/** A package or a crate that a compiler begins with. */
export interface CompileEvent {
  readonly type: 'compile';
  /** Names of the components that are compiled. */
  readonly what: string;
  /** The line that the compiler prints about it. */
  readonly line: string;
  /** The number of this one, from 1 to `total`. */
  readonly done: number;
  readonly total: number;
  readonly unit: 'packages' | 'crates';
}

/** Receives events as they happen. */
export type Report = (event: Event) => void;
