import { inlineCode, oneLine } from '@flatcar/core/engine';
import type { Bumped } from './bump-output.ts';

const ROWS = 40;

/** A word of code in a cell of a table: GFM ends cells at a bar inside of code too. */
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
    ...(rows.length === 0 ? [] : [['| component | origin | checked by | before |', '|---|---|---|---|', ...rows].join('\n')]),
    ...(proofs.length > ROWS ? [`${proofs.length - ROWS} more are in the change.`] : []),
  ].join('\n\n');
}

/** The text of an update's pull request. `objections`: why it is not merged without a person; undefined where that is switched off. */
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
    `Made by ${inlineCode(command)}. The change has every digest and what it was checked by. A new run replaces this commit when upstream has newer versions; it leaves the branch alone once somebody else has pushed to it. If you close this pull request, it is opened again only for other versions.`,
    ...automerge,
    ...bumped.map(section),
  ].join('\n\n');
}
