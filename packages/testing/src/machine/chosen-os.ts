/** The operating system that machines boot, from `flatcar-ext test --os`: `stand-in`, `flatcar` or the path of an image. */
export const chosenOs = (): string => (JSON.parse(process.env['FLATCAR_EXT_MACHINES'] ?? '{}') as { os?: string }).os ?? 'stand-in';

/** Skips a test unless machines boot a stand-in. */
export const standInOnly =
  (why: string) =>
  async (skip: (why: string) => never): Promise<void> => {
    if (chosenOs() !== 'stand-in') skip(why);
  };
