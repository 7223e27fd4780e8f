import { channel } from 'node:diagnostics_channel';

const CHANNEL = channel('flatcar-ext:step');

/** How long one step of binding or publishing took. Steps that run side by side overlap. */
export interface StepTime {
  readonly step: string;
  readonly milliseconds: number;
}

/** Runs a step, and reports its time to those who measure. It costs nothing while nobody does. */
export async function timed<T>(step: string, run: () => Promise<T>): Promise<T> {
  if (!CHANNEL.hasSubscribers) return run();
  const started = performance.now();
  try {
    return await run();
  } finally {
    CHANNEL.publish({ step, milliseconds: performance.now() - started } satisfies StepTime);
  }
}

/** Calls `listen` for each step that ends while `run` runs. */
export async function measureSteps<T>(listen: (time: StepTime) => void, run: () => Promise<T>): Promise<T> {
  const receive = (message: unknown): void => listen(message as StepTime);
  CHANNEL.subscribe(receive);
  try {
    return await run();
  } finally {
    CHANNEL.unsubscribe(receive);
  }
}
