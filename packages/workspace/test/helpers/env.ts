/** Calls `use` with environment variables set or, if undefined, unset; restores them afterwards. */
export async function withEnv(values: Readonly<Record<string, string | undefined>>, use: () => Promise<void>): Promise<void> {
  const set = (all: Readonly<Record<string, string | undefined>>): void => {
    for (const [name, value] of Object.entries(all)) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  };
  const before = Object.fromEntries(Object.keys(values).map((name) => [name, process.env[name]]));
  set(values);
  try {
    await use();
  } finally {
    set(before);
  }
}
