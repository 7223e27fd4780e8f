import { inlineCode, oneLine } from '@flatcar/core/engine';
import type { Bumped } from './bump-output.ts';

const ROWS = 40;

/** Code in a cell of a table, where GFM ends cells at a bar in code, too. */
const codeCell = (text: string): string => inlineCode(text).replaceAll('|', String.raw`\|`);

function section({ extension, from, version, pinned, changes, proofs }: Bumped): string {
  const rows = proofs.slice(0, ROWS).map(({ component, origin, before, after }) => {
    const [was, is] = [before, after].map((proof) => proof.map(codeCell).join(', '));
    return `| ${codeCell(component)} | ${codeCell(origin)} | ${is ?? ''} | ${was === is ? 'the same' : was || 'nothing'} |`;
  });
  return [
    `### ${inlineCode(extension)} ${from === undefined ? '' : `${inlineCode(from)} → `}${inlineCode(pinned.revision === 0 ? version : `${version}-${pinned.revision}`)}`,
    ...(changes.length === 0
      ? []
      : [
          changes
            .slice(0, ROWS)
            .map((change) => `- ${inlineCode(change)}`)
            .join('\n'),
        ]),
    ...(rows.length === 0 ? [] : [['| component | origin | verified by | before |', '|---|---|---|---|', ...rows].join('\n')]),
    ...(proofs.length > ROWS ? [`${proofs.length - ROWS} more proofs are in the change.`] : []),
  ].join('\n\n');
}

/** The text of an update's pull request. `objections`: why a person must merge it; undefined if merging automatically is off. */
export function pullBody(command: string, bumped: readonly Bumped[], objections: readonly string[] | undefined): string {
  const automerge =
    objections === undefined
      ? []
      : objections.length === 0
        ? [
            '**Merged automatically** once all required checks pass: a patch release, proofs no weaker than before, the same files, units and host requirements.',
          ]
        : [
            `**Not merged automatically**, because\n\n${objections
              .slice(0, ROWS)
              .map((why) => `- ${inlineCode(oneLine(why, 300))}`)
              .join('\n')}`,
          ];
  return [
    `Made by ${inlineCode(command)}. The change has every digest and how it was verified. A later run replaces this commit if upstream has newer versions, unless somebody else has pushed to the branch. If you close this pull request, a new one is opened only for other versions.`,
    ...automerge,
    ...bumped.map(section),
  ].join('\n\n');
}
