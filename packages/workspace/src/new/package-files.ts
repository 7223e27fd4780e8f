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

function packageText({ name }: Plan): string {
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
    { path: 'package.json', text: packageText(plan) },
    ...(unit === undefined ? [] : [{ path: `files/usr/lib/systemd/system/${unit.name}`, text: unit.text }]),
    ...files.map(({ path, text }) => ({ path: `files/${path}`, text })),
  ];
}
