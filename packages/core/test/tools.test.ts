import { createHash } from 'node:crypto';
import { chmod, mkdir, mkdtemp, readFile, readdir, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { ARCHES, hostArch } from '../src/model/arch.ts';
import { openArchive } from '../src/debian/archive.ts';
import { exec } from '../src/util/exec.ts';
import { hashFile } from '../src/util/files.ts';
import { openStore } from '../src/store/store.ts';
import { readToolPins, type ToolPins } from '../src/tools/pins.ts';
import { openTools } from '../src/tools/tools.ts';

const tools = openTools(openStore());
const pins = await readToolPins();

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'tools-test-'));
});
afterEach(() => rm(dir, { recursive: true, force: true }));

async function makeTree(): Promise<string> {
  const tree = join(dir, 'tree');
  await mkdir(join(tree, 'usr/bin'), { recursive: true });
  await writeFile(join(tree, 'usr/bin/program'), 'all work and no play\n'.repeat(20_000));
  await symlink('program', join(tree, 'usr/bin/alias'));
  // Names that sort differently by locale.
  for (const name of ['B', 'a', 'ä', '_']) await writeFile(join(tree, name), name);
  for (const path of ['usr/bin/program', 'B', 'a', 'ä', '_']) await chmod(join(tree, path), 0o644);
  for (const path of await readdir(tree, { recursive: true })) if (!path.endsWith('alias')) await utimes(join(tree, path), 1, 1);
  return tree;
}

test.each(Object.keys(pins.tools))('%s is pinned for both architectures', (tool) => {
  const { packages } = pins.tools[tool] ?? { packages: [] };
  expect(packages.length).toBeGreaterThan(0);
  for (const arch of ARCHES) {
    for (const name of packages) {
      const { path, sha256, size } = pins.packages[arch][name] ?? { path: '', sha256: '', size: 0 };
      expect(path).toMatch(arch === 'arm64' ? /_(arm64|all)\.deb$/ : /_(amd64|all)\.deb$/);
      expect(sha256).toMatch(/^[0-9a-f]{64}$/);
      expect(size).toBeGreaterThan(0);
    }
  }
});

const dynamic = Object.keys(pins.tools).filter((tool) => pins.tools[tool]?.packages.includes('libc6'));
test.each(dynamic)('%s runs on its own libraries only', async (tool) => {
  const { command, args } = await tools.command(tool);
  const root = command.slice(0, command.indexOf('/usr/lib/'));
  const program = args.at(-1) ?? '';
  const asked = [program, ...(tool === 'systemd-repart' ? [join(dirname(command), 'libcryptsetup.so.12')] : [])];
  for (const file of asked) {
    const listed = await exec(command, [...args.slice(0, -1), '--list', file]);
    const libraries = [...listed.matchAll(/(\/\S+) \(0x/g)].map(([, path]) => path);
    expect(listed).not.toContain('not found');
    expect(libraries).toContainEqual(expect.stringContaining('/libc.so.6'));
    expect(libraries.filter((path) => !path?.startsWith(root))).toEqual([]);
  }
});

test('the record of a tool is its pinned packages', async () => {
  const record = await tools.record('mksquashfs');
  const packages = pins.packages[hostArch()];
  expect(record).toEqual(
    (pins.tools['mksquashfs']?.packages ?? []).map((name) => ({
      name,
      version: packages[name]?.version,
      sha256: packages[name]?.sha256,
      status: 'pinned',
    })),
  );
  expect(record.map(({ name }) => name)).toContain('squashfs-tools');
  expect(await tools.run('mksquashfs', ['-version'])).toContain('version 4.6');
});

test('what is no tool is refused by name', async () => {
  await expect(tools.run('mkfs.xfs', [])).rejects.toThrow("'mkfs.xfs' is not a pinned tool");
});

test("mksquashfs and mkfs.erofs give the same bytes whatever the caller's umask, time zone, locale and folder", async () => {
  const tree = await makeTree();
  const pack = async (name: string): Promise<string[]> => {
    const [squashfs, erofs] = [join(dir, `${name}.squashfs`), join(dir, `${name}.erofs`)];
    await tools.run('mksquashfs', [tree, squashfs, '-noappend', '-quiet', '-no-progress', '-all-root', '-mkfs-time', '0', '-comp', 'zstd']);
    await tools.run('mkfs.erofs', ['-zlz4', '-T0', '--all-root', '-U', '00000000-0000-4000-8000-000000000000', '--quiet', erofs, tree]);
    return [await hashFile(squashfs), await hashFile(erofs)];
  };
  const before = await pack('before');
  const { TZ, LC_ALL, LANG, SOURCE_DATE_EPOCH } = process.env;
  const umask = process.umask(0o077);
  const cwd = process.cwd();
  try {
    Object.assign(process.env, { TZ: 'Asia/Kathmandu', LC_ALL: 'C.UTF-8', LANG: 'de_DE.UTF-8', SOURCE_DATE_EPOCH: '12345' });
    process.chdir(dir);
    expect(await pack('after')).toEqual(before);
  } finally {
    process.umask(umask);
    process.chdir(cwd);
    for (const [key, value] of Object.entries({ TZ, LC_ALL, LANG, SOURCE_DATE_EPOCH })) {
      if (value === undefined) delete process.env[key];
      else process.env[key] = value;
    }
  }
});

test('unsquashfs and fsck.erofs take out what mksquashfs and mkfs.erofs put in', async () => {
  const tree = await makeTree();
  await tools.run('mksquashfs', [tree, join(dir, 'a.squashfs'), '-quiet', '-no-progress', '-comp', 'zstd']);
  await tools.run('unsquashfs', ['-quiet', '-no-progress', '-d', join(dir, 'a'), join(dir, 'a.squashfs')]);
  await tools.run('mkfs.erofs', ['-zlz4hc,12', '--quiet', join(dir, 'b.erofs'), tree]);
  await tools.run('fsck.erofs', [`--extract=${join(dir, 'b')}`, '--no-preserve-owner', join(dir, 'b.erofs')]);
  expect(await tools.run('dump.erofs', ['-s', join(dir, 'b.erofs')])).toContain('0xE0F5E1E2');
  for (const out of ['a', 'b']) await exec('diff', ['-r', '--no-dereference', tree, join(dir, out)]);
});

test.each(['xz', 'bzip2'])('%s packs and unpacks', async (tool) => {
  const file = join(dir, 'text');
  await writeFile(file, 'to be packed\n'.repeat(1000));
  const before = await hashFile(file);
  await tools.run(tool, [file]);
  expect(await readdir(dir)).toEqual([tool === 'xz' ? 'text.xz' : 'text.bz2']);
  await tools.run(tool, ['-d', join(dir, (await readdir(dir))[0] ?? '')]);
  expect(await hashFile(file)).toBe(before);
});

test('patchelf changes a program', async () => {
  const { args } = await tools.command('patchelf');
  const copy = join(dir, 'copy');
  await writeFile(copy, await readFile(args.at(-1) ?? ''), { mode: 0o755 });
  await tools.run('patchelf', ['--set-rpath', '/usr/lib/demo', copy]);
  expect(await tools.run('patchelf', ['--print-rpath', copy])).toBe('/usr/lib/demo');
});

test('systemd-repart makes a disk image with verity out of a packed file system, the same one twice', async () => {
  const erofs = join(dir, 'root.erofs');
  await tools.run('mkfs.erofs', ['-zlz4', '-T0', '--quiet', erofs, await makeTree()]);
  const definitions = join(dir, 'repart.d');
  await mkdir(definitions);
  await writeFile(join(definitions, '10-root.conf'), `[Partition]\nType=root\nCopyBlocks=${erofs}\nVerity=data\nVerityMatchKey=root\n`);
  await writeFile(join(definitions, '20-verity.conf'), '[Partition]\nType=root-verity\nVerity=hash\nVerityMatchKey=root\nMinimize=best\n');
  const make = async (out: string): Promise<{ said: { type: string; roothash?: string }[]; digest: string }> => {
    const said = await tools.run('systemd-repart', [
      '--empty=create',
      '--size=auto',
      '--dry-run=no',
      '--offline=yes',
      `--definitions=${definitions}`,
      '--architecture=arm64',
      '--seed=7d5f9a3e-6d2f-4a1e-9a55-0a2b1f3c4d5e',
      '--json=short',
      '--no-pager',
      out,
    ]);
    return { said: JSON.parse(said.slice(said.indexOf('['))) as { type: string; roothash?: string }[], digest: await hashFile(out) };
  };
  const first = await make(join(dir, 'one.raw'));
  expect(first.said.map(({ type }) => type)).toEqual(['root-arm64', 'root-arm64-verity']);
  expect(first.said[0]?.roothash).toMatch(/^[0-9a-f]{64}$/);
  expect((await make(join(dir, 'two.raw'))).digest).toBe(first.digest);
});

// A small archive of our own, for what the real one cannot be made to do.
const served = new Map<string, Buffer>();
let asked: string[] = [];
let server: Server;
let base: string;
beforeAll(async () => {
  server = createServer((request, response) => {
    asked.push(request.url ?? '');
    const found = served.get(request.url ?? '');
    response.writeHead(found === undefined ? 404 : 200);
    response.end(found);
  });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => server.close());

/** Makes a package of a program that says its version, serves it, and pins it. */
async function servePackage(version: string): Promise<ToolPins> {
  const root = join(dir, `package-${version}`);
  await mkdir(join(root, 'DEBIAN'), { recursive: true });
  await mkdir(join(root, 'usr/bin'), { recursive: true });
  await writeFile(join(root, 'DEBIAN/control'), `Package: greet\nVersion: ${version}\nArchitecture: all\nMaintainer: a\nDescription: a\n`);
  for (const name of ['greet', 'other'])
    await writeFile(join(root, 'usr/bin', name), `#!/bin/sh\necho "${name} ${version} $1"\n`, { mode: 0o755 });
  const file = join(dir, `${version}.deb`);
  await chmod(join(root, 'DEBIAN'), 0o755);
  await exec('dpkg-deb', ['--root-owner-group', '--build', root, file]);
  const bytes = await readFile(file);
  const path = `pool/main/g/greet/greet_${version}_all.deb`;
  served.set(`/${path}`, bytes);
  const pin = { version, path, sha256: createHash('sha256').update(bytes).digest('hex'), size: bytes.length };
  return {
    suite: 'test',
    snapshot: '20261121T091544Z',
    tools: { greet: { program: 'usr/bin/greet', packages: ['greet'] } },
    packages: { 'x86-64': { greet: pin }, arm64: { greet: pin } },
  };
}

test('a tool that many ask for at once is fetched and unpacked once; programs that are no tools are not kept', async () => {
  const ours = await servePackage('1');
  asked = [];
  const store = openStore(join(dir, 'store'));
  const open = (): ReturnType<typeof openTools> =>
    openTools(store, undefined, { pins: ours, archive: openArchive(store, undefined, { mirror: base, snapshot: base }) });
  const [one, two] = [open(), open()];
  expect(await Promise.all([one.run('greet', ['a']), one.run('greet', ['b']), two.run('greet', ['c'])])).toEqual([
    'greet 1 a',
    'greet 1 b',
    'greet 1 c',
  ]);
  expect(asked).toHaveLength(1);
  const { command } = await two.command('greet');
  expect(await readdir(join(command, '..'))).toEqual(['greet']);
});

test('a tool whose package has left every archive is no tool at first, and one when the archive is back', async () => {
  const ours = await servePackage('2');
  const bytes = served.get('/pool/main/g/greet/greet_2_all.deb') ?? Buffer.alloc(0);
  served.clear();
  const store = openStore(join(dir, 'store'));
  const mine = openTools(store, undefined, { pins: ours, archive: openArchive(store, undefined, { mirror: base, snapshot: base }) });
  await expect(mine.run('greet', [])).rejects.toThrow('the server answered 404');
  served.set('/pool/main/g/greet/greet_2_all.deb', bytes);
  expect(await mine.run('greet', ['again'])).toBe('greet 2 again');
});
