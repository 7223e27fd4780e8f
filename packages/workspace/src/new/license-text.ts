import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** Passages that identify the usual licences of programs. */
const LICENSES: readonly (readonly [RegExp, string])[] = [
  [/Apache License,? Version 2\.0/, 'Apache-2.0'],
  [/Mozilla Public License,? [Vv]ersion 2\.0/, 'MPL-2.0'],
  [/GNU AFFERO GENERAL PUBLIC LICENSE Version 3/, 'AGPL-3.0-only'],
  [/GNU LESSER GENERAL PUBLIC LICENSE Version 3/, 'LGPL-3.0-only'],
  [/GNU GENERAL PUBLIC LICENSE Version 3/, 'GPL-3.0-only'],
  [/GNU GENERAL PUBLIC LICENSE Version 2/, 'GPL-2.0-only'],
  [/Permission to use, copy, modify, and(?:\/or)? distribute this software for any/, 'ISC'],
  [/Redistribution and use in source and binary forms[\s\S]*Neither the name/, 'BSD-3-Clause'],
  [/Redistribution and use in source and binary forms/, 'BSD-2-Clause'],
  [/Permission is hereby granted, free of charge, to any person obtaining a copy/, 'MIT'],
];

/** SPDX ID of a licence text; undefined for an unusual one. A person confirms it. */
export function recognizeLicense(text: string): string | undefined {
  const words = text.replaceAll(/\s+/g, ' '); // lines are broken differently everywhere
  return LICENSES.find(([pattern]) => pattern.test(words))?.[1];
}

/** True for LICENSE, COPYING and the like. */
export const isLicenseFile = (name: string): boolean => /^(?:licen[cs]e|copying)(?:[.-].*)?$/i.test(name);

/** SPDX ID of the licence files in a folder; undefined if there is not exactly one. */
export async function licenseIn(dir: string): Promise<string | undefined> {
  const names = (await readdir(dir)).filter((name) => isLicenseFile(name)).toSorted();
  const found = new Set(
    (await Promise.all(names.map(async (name) => recognizeLicense(await readFile(join(dir, name), 'utf8'))))).filter(
      (one) => one !== undefined,
    ),
  );
  return found.size === 1 ? [...found][0] : undefined;
}
