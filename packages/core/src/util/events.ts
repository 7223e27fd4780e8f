/** Events of the pipeline: the cli shows them, core prints nothing. */
export type Event =
  | { readonly type: 'step'; readonly text: string }
  | { readonly type: 'notice'; readonly text: string }
  | { readonly type: 'progress'; readonly what: string; readonly done: number; readonly total?: number }
  | { readonly type: 'log'; readonly what: string; readonly line: string };

/** Receives events as they happen. */
export type Report = (event: Event) => void;
