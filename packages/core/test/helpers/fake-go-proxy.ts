import { execFileSync } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import type { GoCommand } from '../../src/tools/go-command.ts';
import { exec, type ExecOptions } from '../../src/util/exec.ts';

/** The go on PATH, if it knows `tool` lines (1.24). */
export const hostGo = ((): string | undefined => {
  try {
    const [, minor = '0'] = /go1\.(\d+)/.exec(execFileSync('go', ['version'], { encoding: 'utf8' })) ?? [];
    return Number(minor) >= 24 ? 'go' : undefined;
  } catch {
    return undefined;
  }
})();

/** A zip archive of uncompressed files (APPNOTE 4.3), as the module proxy serves modules. */
function zip(files: Readonly<Record<string, string>>): Buffer {
  const local: Buffer[] = [];
  const central: Buffer[] = [];
  let offset = 0;
  for (const [name, text] of Object.entries(files)) {
    const [path, data] = [Buffer.from(name), Buffer.from(text)];
    const common = Buffer.alloc(26);
    common.writeUInt16LE(20, 0);
    common.writeUInt32LE(crc32(data), 10);
    common.writeUInt32LE(data.length, 14);
    common.writeUInt32LE(data.length, 18);
    common.writeUInt16LE(path.length, 22);
    const entry = Buffer.concat([Buffer.from('PK\x03\x04'), common, path, data]);
    const tail = Buffer.alloc(14);
    tail.writeUInt32LE(offset, 10);
    central.push(Buffer.concat([Buffer.from('PK\x01\x02\x14\x00'), common, tail, path]));
    local.push(entry);
    offset += entry.length;
  }
  const directory = Buffer.concat(central);
  const end = Buffer.alloc(18);
  end.writeUInt16LE(central.length, 4);
  end.writeUInt16LE(central.length, 6);
  end.writeUInt32LE(directory.length, 8);
  end.writeUInt32LE(offset, 12);
  return Buffer.concat([...local, directory, Buffer.from('PK\x05\x06'), end]);
}

/** Adds a module to a proxy, which is a folder. */
export async function publishModule(
  proxy: string,
  module: string,
  version: string,
  mod: string,
  files: Readonly<Record<string, string>>,
): Promise<void> {
  const folder = join(proxy, module, '@v');
  await mkdir(folder, { recursive: true });
  const known = await readFile(join(folder, 'list'), 'utf8').catch(() => '');
  await writeFile(join(folder, 'list'), `${known}v${version}\n`);
  await writeFile(join(folder, `v${version}.info`), JSON.stringify({ Version: `v${version}`, Time: '2026-01-01T00:00:00Z' }));
  await writeFile(join(folder, `v${version}.mod`), mod);
  const all = { 'go.mod': mod, ...files };
  await writeFile(
    join(folder, `v${version}.zip`),
    zip(Object.fromEntries(Object.entries(all).map(([path, text]) => [`${module}@v${version}/${path}`, text]))),
  );
}

/** The go on PATH, with a folder as its proxy and without network. */
export function goWithProxy(proxy: string, dir: string): GoCommand {
  const env = {
    GOENV: 'off',
    GOTOOLCHAIN: 'local',
    GOMODCACHE: join(dir, 'mod'),
    GOCACHE: join(dir, 'build'),
    GOPATH: dir,
    GOSUMDB: 'off',
    GOFLAGS: '-mod=readonly -modcacherw',
  };
  const run =
    (proxies: string) =>
    (args: readonly string[], options: ExecOptions = {}): Promise<string> =>
      exec('go', args, { ...options, env: { ...env, GOPROXY: proxies, ...options.env } });
  return {
    record: { name: 'go', version: 'host', sha256: '', status: 'host' },
    online: run(`file://${proxy}`),
    offline: run('off'),
    build: () => Promise.reject(new Error('nothing is compiled here')),
  };
}
