/** Which operating system machines boot, as `flatcar-ext test --os` says: `stand-in`, `flatcar` or the path of an image. */
export const chosenOs = (): string => (JSON.parse(process.env['FLATCAR_EXT_MACHINES'] ?? '{}') as { os?: string }).os ?? 'stand-in';

/** Skips a test that only a stand-in can do. */
export const standInOnly =
  (why: string) =>
  async (skip: (why: string) => never): Promise<void> => {
    if (chosenOs() !== 'stand-in') skip(why);
  };
