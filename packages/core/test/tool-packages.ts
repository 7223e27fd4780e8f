// Real packages for tests: those of the pinned tools, which every machine that builds has already.
import { join } from 'node:path';
import { openArchive } from '../src/debian/archive.ts';
import type { PackageFiles } from '../src/debian/package-index.ts';
import { openStore } from '../src/store/store.ts';
import { readToolPins } from '../src/tools/pins.ts';
import type { Arch } from '../src/model/arch.ts';
import { unpackPackage } from '../src/store/unpack.ts';

/** The packages of a pinned tool, for either architecture, unpacked below a folder. */
export async function unpackTool(temp: string, tool: string, arch: Arch): Promise<PackageFiles[]> {
  const pins = await readToolPins();
  const archive = openArchive(openStore());
  return Promise.all(
    (pins.tools[tool]?.packages ?? []).map(async (name) => {
      const pin = pins.packages[arch][name];
      if (pin === undefined) throw new Error(`${name} is not pinned`);
      const { file } = await archive.fetch({ name, ...pin }, { suite: pins.suite, snapshot: pins.snapshot, arch });
      const dir = join(temp, arch, tool, name);
      await unpackPackage(file, dir);
      return { name, dir };
    }),
  );
}
