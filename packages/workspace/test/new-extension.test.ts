import { planNew } from '../src/new/plan-new.ts';
import { recognizeLicense } from '../src/new/license-text.ts';
import { definitionText } from '../src/new/definition-text.ts';
import { scaffold, serviceText } from '../src/new/package-files.ts';
import type { Plan } from '../src/new/plan.ts';
import type { Prompter } from '../src/new/prompter.ts';
import type { UpstreamRequest } from '../src/new/request.ts';
import { testText } from '../src/new/test-text.ts';
import { openFakeInternet, type FakeInternet } from '@flatcar/upstream/test/fake-internet';
import { API, downloadsOf, program, releaseOf, serveProject } from '@flatcar/upstream/test/fake-project';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';

let internet: FakeInternet;
beforeAll(async () => {
  internet = await openFakeInternet();
});
afterAll(() => internet.close());
beforeEach(() => internet.served.clear());

/** Takes what is proposed, and remembers what it was told. */
function recorder(): { prompter: Prompter; notes: string[] } {
  const notes: string[] = [];
  return {
    notes,
    prompter: {
      text: async (question, flag, proposed) => proposed ?? Promise.reject(new Error(`${question} ${flag}`)),
      choose: async (_, options) => (options[0] ?? { value: undefined as never }).value,
      note: (text) => void notes.push(text),
    },
  };
}
const request = (more: Partial<UpstreamRequest>): UpstreamRequest => ({
  name: 'tool',
  track: 'newest',
  origin: 'upstream',
  isKnown: false,
  ...more,
});

describe('a plan from what upstream offers', () => {
  test('GitHub: files, checksum, programs, licence and description are found', async () => {
    serveProject(internet, '1.2.3');
    const plan = await planNew(request({ github: 'example/tool' }), recorder().prompter, internet.context());
    expect(plan).toMatchObject({
      version: '1.2.3',
      license: 'MIT',
      summary: 'A tool that does things',
      programs: ['tool'],
      github: { repo: 'example/tool', tagPrefix: 'v' },
      file: { pattern: 'tool-linux-{arch}', checksum: 'github', signatures: [] },
    });
  });
  test('a saved listing is read instead of the API', async () => {
    serveProject(internet, '1.2.3');
    for (const url of internet.served.keys()) if (url.startsWith(API)) internet.served.delete(url);
    const listing = { text: JSON.stringify(releaseOf('1.2.3')), where: 'saved.json' };
    const plan = await planNew(
      request({ github: 'example/tool', listing, license: 'MIT', summary: 'a tool' }),
      recorder().prompter,
      internet.context(),
    );
    expect(plan.file?.pattern).toBe('tool-linux-{arch}');
  });
  test('a URL of one version becomes a pattern', async () => {
    serveProject(internet, '1.2.3');
    const plan = await planNew(
      request({ file: { url: `https://${downloadsOf('1.2.3')}/tool-linux-amd64` }, version: '1.2.3', license: 'MIT', summary: 'a tool' }),
      recorder().prompter,
      internet.context(),
    );
    expect(plan.file).toEqual({
      pattern: 'https://github.com/example/tool/releases/download/v{version}/tool-linux-{arch}',
      checksum: 'none',
      signatures: [],
    });
  });
  test('a file for another architecture is refused', async () => {
    serveProject(internet, '1.2.3');
    internet.served.set(`${downloadsOf('1.2.3')}/tool-linux-arm64`, program('x86-64'));
    await expect(planNew(request({ github: 'example/tool' }), recorder().prompter, internet.context())).rejects.toThrow(
      /no program for arm64/,
    );
  });
  test.each([
    [{}, /no option specifies where the files come from/],
    [{ version: '1.0.0' }, /no option specifies where the files come from/],
    [{ file: { url: 'https://example.org/tool' } }, /the version is unknown/],
    [{ github: 'example/none' }, /404/],
    [{ file: { url: 'https://example.org/x' }, version: '1.0.0-rc1' }, /not a valid version/],
  ])('%j is an error', async (more, message) => {
    await expect(planNew(request(more), recorder().prompter, internet.context())).rejects.toThrow(message);
  });
  test('an unknown value is prompted for with its option', async () => {
    serveProject(internet, '1.2.3');
    internet.served.delete(`${API}/license`);
    await expect(planNew(request({ github: 'example/tool' }), recorder().prompter, internet.context())).rejects.toThrow(/--license/);
  });
});

const PLAN: Plan = {
  name: 'tool',
  summary: "upstream's tool",
  version: '1.2.3',
  license: 'MIT',
  track: 'newest',
  programs: ['tool'],
  github: { repo: 'example/tool', tagPrefix: 'v' },
  file: { pattern: 'tool-linux-{arch}', checksum: 'github', signatures: [] },
};

describe('the package that is written', () => {
  test('a definition of one program has at most fifteen lines', () => {
    const text = definitionText(PLAN);
    expect(text.trim().split('\n').length).toBeLessThanOrEqual(15);
    expect(text).toContain(`binary('tool', version, releases.asset('tool-linux-{arch}'))`);
    expect(text).toContain(`summary: 'upstream\\'s tool'`);
  });
  test('a definition imports names of the authoring face only', async () => {
    const [, names = '', from] = /^import \{ (.+) \} from '(.+)';$/m.exec(definitionText(PLAN)) ?? [];
    expect(from).toBe('@flatcar/core');
    expect(Object.keys(await import('@flatcar/core'))).toEqual(expect.arrayContaining(names.split(', ')));
  });
  test('a unit is in files/, starts with the image and is tested', () => {
    const text = serviceText(PLAN.summary, { exec: '/usr/bin/tool serve', condition: '/etc/tool.conf' });
    const written = scaffold({ ...PLAN, unit: { name: 'tool.service', text } }, []);
    expect(written.map(({ path }) => path)).toContain('files/usr/lib/systemd/system/tool.service');
    expect(written.find(({ path }) => path === 'extension.ts')?.text).toContain(`start: ['tool.service']`);
    expect(written.find(({ path }) => path.endsWith('.service'))?.text).toMatch(/^ConditionPathExists=\/etc\/tool\.conf$/m);
  });
  test('a program without a command is checked for existence; words of its help are escaped', () => {
    const text = testText({ ...PLAN, programs: ['tool', 'toold'] }, [{ run: ['tool', '--help'], says: 'Usage (short): [-a|-b]' }]);
    expect(text).toContain(String.raw`{ run: ['tool', '--help'], says: /Usage \(short\): \[-a\|-b\]/ }`);
    expect(text).toContain(`paths: ['/usr/bin/toold']`);
    expect(testText(PLAN, [{ run: ['tool', '--version'], says: 'version' }])).not.toContain('paths');
  });
  test('origins are in the order of preference', () => {
    const text = definitionText({
      ...PLAN,
      go: { module: 'example.org/tool', packages: ['cmd/cli'], stamps: { 'main.version': 'v{version}' }, tags: [] },
    });
    expect(text.indexOf('releases.asset')).toBeLessThan(text.indexOf(`go('example.org/tool', 'cmd/cli'`));
    expect(text).toContain(`rename: { 'cmd/cli': 'tool' }`);
  });
});

test.each([
  ['Apache License\n                           Version 2.0, January 2004', 'Apache-2.0'],
  ['Permission is hereby granted, free of charge, to any person obtaining\na copy of this software', 'MIT'],
  ['All rights reserved.', undefined],
])('a license is recognized by its text', (text, id) => {
  expect(recognizeLicense(text)).toBe(id);
});
