import { createHash } from 'node:crypto';
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { archWords, exec, openStore, type Arch } from '@flatcar/core/engine';

/** What a container image for a test contains. */
export interface TestContainer {
  /** Such as `demo.example/name:latest`; no registry is asked. */
  readonly name: string;
  /** Static program, or WebAssembly module, on this machine. */
  readonly program: string;
  /**
   * Name in the image's root.
   * @default 'program'
   */
  readonly as?: string;
  readonly args: readonly string[];
  readonly arch: Arch;
}

/** Writes a container image of one static program as an archive for `ctr images import` and `docker load`. */
export async function writeContainer(container: TestContainer, out: string): Promise<void> {
  await openStore().withTemp(async (temp) => {
    const layer = join(temp, 'layer');
    const name = container.as ?? 'program';
    await mkdir(join(layer, 'tmp'), { recursive: true });
    await copyFile(container.program, join(layer, name));
    const image = join(temp, 'image');
    await mkdir(image);
    await exec('tar', ['--owner=0', '--group=0', '-C', layer, '-cf', join(image, 'layer.tar'), '.']);
    const digest = createHash('sha256')
      .update(await readFile(join(image, 'layer.tar')))
      .digest('hex');
    const config = {
      architecture: archWords(container.arch).go,
      os: 'linux',
      config: { Entrypoint: [`/${name}`, ...container.args] },
      rootfs: { type: 'layers', diff_ids: [`sha256:${digest}`] },
    };
    await writeFile(join(image, 'config.json'), JSON.stringify(config));
    await writeFile(
      join(image, 'manifest.json'),
      JSON.stringify([{ Config: 'config.json', RepoTags: [container.name], Layers: ['layer.tar'] }]),
    );
    await exec('tar', ['-C', image, '-cf', out, 'manifest.json', 'config.json', 'layer.tar']);
  });
}
