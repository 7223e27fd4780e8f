import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { definitionText } from './definition-text.ts';
import type { Plan, Probe, ScaffoldFile } from './plan.ts';
import { testText } from './test-text.ts';

/** A service unit with the settings that every service can have. */
export function serviceText(summary: string, { exec, condition }: { readonly exec: string; readonly condition?: string }): string {
  return [
    '[Unit]',
    `Description=${summary}`,
    'Wants=network-online.target',
    'After=network-online.target',
    ...(condition === undefined ? [] : [`ConditionPathExists=${condition}`]),
    '',
    '[Service]',
    `ExecStart=${exec}`,
    'Restart=on-failure',
    'RestartSec=5',
    '',
  ].join('\n');
}

/** package.json of an extension. */
export function packageText(name: string): string {
  return `${JSON.stringify(
    {
      name,
      version: '0.0.0',
      private: true,
      license: 'Apache-2.0',
      type: 'module',
      scripts: { build: 'flatcar-ext build' },
      dependencies: { '@flatcar/core': '*' },
      devDependencies: { '@flatcar/cli': '*', '@flatcar/testing': '*' },
    },
    undefined,
    2,
  )}\n`;
}

/** All files of a new package except its pins and its generated README. */
export function scaffold(plan: Plan, probes: readonly Probe[]): ScaffoldFile[] {
  const { unit, files = [] } = plan;
  return [
    { path: 'extension.ts', text: definitionText(plan) },
    { path: 'test/extension.test.ts', text: testText(plan, probes) },
    { path: 'package.json', text: packageText(plan.name) },
    ...(unit === undefined ? [] : [{ path: `files/usr/lib/systemd/system/${unit.name}`, text: unit.text }]),
    ...files.map(({ path, text }) => ({ path: `files/${path}`, text })),
  ];
}

/** Writes files below a folder; scripts are executable, such as hooks that a package has below /etc. */
export async function writeFiles(dir: string, files: readonly ScaffoldFile[]): Promise<void> {
  for (const { path, text } of files) {
    await mkdir(dirname(join(dir, path)), { recursive: true });
    await writeFile(join(dir, path), text, { mode: text.startsWith('#!') ? 0o777 : 0o666 });
  }
}
