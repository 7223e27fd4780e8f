import { mkdir, mkdtemp, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import {
  buildExtension,
  defineExtension,
  exec,
  hostArch,
  openStore,
  openTools,
  type Image,
  type SignKeys,
  type Target,
} from '@flatcar/core/engine';

/** What a demo extension is to be. */
export interface Demo {
  readonly name?: string;
  readonly kind?: 'sysext' | 'confext';
  readonly version?: string;
  readonly sign?: SignKeys;
  /** More files: path in the image to text. */
  readonly files?: Readonly<Record<string, string>>;
}

const PROGRAM = (version: string): string => `#!/bin/sh\necho "demo ${version}"\n[ "$1" != stay ] || exec sleep infinity\n`;
const SERVICE = '[Unit]\nDescription=Demo\n\n[Service]\nExecStart=/usr/bin/NAME stay\n\n[Install]\nWantedBy=multi-user.target\n';

/** Images of a small extension by the real pipeline: a program that says its version, and a service that stays; of a confext, one file. */
export async function demoImages(folder: string, targets: readonly Target[], demo: Demo = {}): Promise<readonly Image[]> {
  const { name = 'demo', kind = 'sysext', version = '1.0.0', sign } = demo;
  const dir = await mkdtemp(join(folder, `${name}-`));
  const files =
    kind === 'sysext'
      ? { [`usr/bin/${name}`]: PROGRAM(version), [`usr/lib/systemd/system/${name}.service`]: SERVICE.replace('NAME', name) }
      : { [`etc/${name}.conf`]: `version=${version}\n` };
  for (const [path, text] of Object.entries({ ...files, ...demo.files })) {
    const file = join(dir, 'files', path);
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, text, { mode: text.startsWith('#!') ? 0o755 : 0o644 });
  }
  const extension = defineExtension({
    name,
    kind,
    summary: 'for the tests of machines',
    versions: { kind: 'date', track: 'newest' },
    components: () => [],
    start: kind === 'sysext' ? [`${name}.service`] : [],
  });
  const store = openStore();
  const { images } = await buildExtension(
    { dir, extension, pins: { [version]: { revision: 0, coupled: {}, licenses: {}, bytes: {} } }, fixture: true },
    {
      version,
      arch: hostArch(),
      targets,
      profile: 'fast',
      origin: 'auto',
      out: join(dir, 'out'),
      store,
      tools: openTools(store),
      report: () => undefined,
      ...(sign === undefined ? {} : { sign }),
    },
  );
  return images;
}

/** A key and its certificate, as for the roothashes of disk images. */
export async function newKeys(folder: string, name: string): Promise<SignKeys> {
  const [key, certificate] = [join(folder, `${name}.key`), join(folder, `${name}.crt`)];
  await exec('openssl', [
    'req',
    '-new',
    '-nodes',
    '-x509',
    '-batch',
    '-sha256',
    '-days',
    '3650',
    '-newkey',
    'rsa:2048',
    '-subj',
    `/CN=${name}`,
    '-keyout',
    key,
    '-out',
    certificate,
  ]);
  return { key, certificate };
}
