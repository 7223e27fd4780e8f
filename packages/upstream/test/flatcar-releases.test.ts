import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { channelHead, UserError, UserErrors } from '@flatcar/core/engine';
import { describe, expect, test } from 'vitest';
import { catalogueChanges, catalogueFrom, readReleaseList } from '../src/sources/flatcar-releases.ts';

/** An entry as Flatcar's list has it. */
function entry(channel: string, date: string, systemd: string, more: object = {}): object {
  return {
    channel,
    architectures: ['amd64', 'arm64'],
    release_date: `${date} 15:48:35 +0000`,
    major_software: { containerd: ['2.1.5'], docker: ['28.0.4'], ignition: ['2.24.0'], kernel: ['6.12.102'], systemd: [systemd] },
    release_notes: 'text',
    ...more,
  };
}

/** The traps of the real list: its order is that of letters, `current*` are copies, edge and rkt are history. */
const LIST = {
  '1995.0.0': entry('alpha', '2018-12-01', '238', {
    major_software: { rkt: ['1.30'], docker: ['18'], kernel: ['4.19.5'], systemd: ['238'] },
  }),
  '2605.99.0': entry('edge', '2020-08-01', '245'),
  '3510.3.8': entry('lts', '2025-08-19', '252'),
  '4081.3.10': entry('lts', '2026-08-13', '255'),
  '4081.3.2': entry('lts', '2025-03-01', '255'),
  '4081.3.9': entry('lts', '2026-07-09', '255', { architectures: ['amd64', 'riscv64'] }),
  '4459.2.4': entry('stable', '2026-03-09', '256'),
  '4593.2.0': entry('stable', '2026-04-27', '257'),
  '4593.2.1': entry('stable', '2026-05-11', '257'),
  '4593.2.10': entry('stable', '2026-08-13', '257'),
  '4593.2.2': entry('stable', '2026-05-27', '257'),
  '4593.2.3': entry('stable', '2026-06-16', '257'),
  '4593.2.9': entry('stable', '2026-07-09', '257'),
  '4628.1.2': entry('beta', '2026-05-27', '258'),
  '4790.0.0': entry('alpha', '2026-08-13', '260'),
  '4811.0.0': entry('alpha', '2026-09-10', '260'),
  '4850.0.0': entry('alpha', '2026-10-10', '261'),
  current: entry('stable', '2026-08-13', '257'),
  'current-2024': entry('lts', '2026-08-13', '255'),
};
const listWith = (more: object): string => JSON.stringify({ ...LIST, ...more });
const made = catalogueFrom(JSON.stringify(LIST), 'list');
const find = (number: string) => made.find((release) => release.number === number);

/** What a call throws, as far as a person sees it. */
function thrown(run: () => unknown): UserError {
  try {
    run();
  } catch (error) {
    if (error instanceof UserError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

describe('catalogueFrom', () => {
  test('keeps the five newest of each channel, by number and not by letters', () => {
    expect(made.filter(({ channel }) => channel === 'stable').map(({ number }) => number)).toEqual([
      '4593.2.10',
      '4593.2.9',
      '4593.2.3',
      '4593.2.2',
      '4593.2.1',
    ]);
    expect(made.filter(({ channel }) => channel === 'lts').map(({ number }) => number)).toEqual(['4081.3.10', '4081.3.9', '4081.3.2']);
  });

  test('leaves out copies, edge, history, and LTS majors that ended', () => {
    for (const { number } of made) expect(number).toMatch(/^\d+\.\d+\.\d+$/);
    for (const gone of ['1995.0.0', '2605.99.0', '3510.3.8']) expect(find(gone)).toBeUndefined();
  });

  test('keeps two LTS majors while both have releases', () => {
    const both = catalogueFrom(listWith({ '4593.3.0': entry('lts', '2026-09-01', '257') }), 'list');
    expect(both.filter(({ channel }) => channel === 'lts').map(({ number }) => number)).toEqual([
      '4593.3.0',
      '4081.3.10',
      '4081.3.9',
      '4081.3.2',
    ]);
    expect(channelHead('lts', both).number).toBe('4593.3.0');
  });

  test('knows glibc, systemd and file systems of a major that the list says nothing of', () => {
    expect(find('4081.3.10')).toMatchObject({
      glibc: '2.38',
      systemd: '255.8',
      filesystems: ['squashfs'],
      format: 'squashfs',
      mergeStage: 'system',
      estimated: false,
    });
    expect(find('4593.2.10')).toMatchObject({
      glibc: '2.41',
      systemd: '257.9',
      filesystems: ['squashfs', 'erofs'],
      format: 'squashfs',
      mergeStage: 'system',
      estimated: false,
    });
    expect(find('4628.1.2')).toMatchObject({ glibc: '2.41', systemd: '258.2', format: 'ddi', mergeStage: 'initrd', estimated: false });
    expect(find('4790.0.0')).toMatchObject({ glibc: '2.43', systemd: '260.1', estimated: false });
  });

  test('gives newer majors at least what the last known one has', () => {
    expect(find('4811.0.0')).toMatchObject({
      glibc: '2.43',
      systemd: '260.1',
      filesystems: ['squashfs', 'erofs'],
      format: 'ddi',
      estimated: true,
    });
    expect(find('4850.0.0')).toMatchObject({ glibc: '2.43', systemd: '261', estimated: true });
  });

  test('takes the architectures that are built, and no others', () => {
    expect(find('4081.3.9')?.arches).toEqual(['x86-64']);
    expect(find('4081.3.10')?.arches).toEqual(['x86-64', 'arm64']);
  });

  test('does not make an empty catalogue of a wrong list', () => {
    expect(thrown(() => catalogueFrom('{}', 'list')).message).toMatch(/no release of channel 'stable'/);
    expect(thrown(() => catalogueFrom('<html>', 'list')).message).toMatch(/not JSON/);
    const shape = thrown(() => catalogueFrom(listWith({ '4593.2.11': { channel: 'stable' } }), 'list'));
    expect(shape).toBeInstanceOf(UserErrors);
    expect((shape as UserErrors).errors.map(({ message }) => message).join('\n')).toMatch(/4593\.2\.11\.architectures/);
    expect(shape.where).toBe('list');
  });

  test('reports what changed', () => {
    const after = made.flatMap((release) => {
      if (release.number === '4593.2.1') return [];
      return release.number === '4628.1.2' ? [{ ...release, glibc: '2.42' }] : [release];
    });
    expect(catalogueChanges(made, [...after, { ...made[0]!, number: '4593.2.11' }])).toEqual({
      added: ['4593.2.11'],
      dropped: ['4593.2.1'],
      changed: ['4628.1.2'],
    });
    expect(catalogueChanges(made, made)).toEqual({ added: [], dropped: [], changed: [] });
  });
});

describe('readReleaseList', () => {
  test('reads over HTTP, redirects followed', async () => {
    const server = createServer((request, response) => {
      if (request.url === '/list') response.end('{"a":1}');
      else if (request.url === '/moved') response.writeHead(302, { location: '/list' }).end();
      else response.writeHead(404).end();
    });
    await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready));
    const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    try {
      expect(await readReleaseList(`${base}/moved`)).toBe('{"a":1}');
      await expect(readReleaseList(`${base}/gone`)).rejects.toMatchObject({ message: 'the server answered 404', where: `${base}/gone` });
    } finally {
      server.closeAllConnections();
      server.close();
    }
    await expect(readReleaseList(`${base}/list`)).rejects.toThrow(/cannot be reached/);
  });

  test('says which file it cannot read', async () => {
    await expect(readReleaseList('/nonexistent/releases.json')).rejects.toMatchObject({ where: '/nonexistent/releases.json' });
  });
});
