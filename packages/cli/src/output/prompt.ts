import { envOf, UsageError, UserError, inLine, oneLine, plainText } from '@flatcar/core/engine';
import type { Prompter } from '@flatcar/workspace/new/prompter';
import { tell } from './output.ts';

/** Somebody ended a question by Ctrl-C or Escape. */
export class Cancelled extends UserError {}

/** Takes proposals, for scripts: without a proposal, the option must be given. */
const unattended: Prompter = {
  text: async (question, flag, proposed) => {
    if (proposed !== undefined && proposed !== '') return proposed;
    throw new UsageError(`no ${flag} given: ${question}`, { next: `pass ${flag}` });
  },
  choose: async (_, options) => {
    const [first] = options;
    if (first === undefined) throw new Error('nothing to choose from');
    return first.value;
  },
  note: (text) => tell(`      NOTICE ${inLine(text)}`),
};

/** Questions on a terminal, with what was found as the default answer. */
async function attended(signal: AbortSignal): Promise<Prompter> {
  const clack = await import('@clack/prompts');
  const cancelled = (): never => {
    throw new Cancelled('cancelled; nothing was written');
  };
  return {
    text: async (question, _flag, proposed, invalid) => {
      const given = await clack.text({
        message: oneLine(question, 500),
        signal, // an interrupt before the terminal is clack's
        initialValue: proposed === undefined ? undefined : oneLine(proposed, 1000),
        validate: (value) => ((value ?? '').trim() === '' ? 'It cannot be empty.' : invalid?.((value ?? '').trim())),
      });
      return clack.isCancel(given) ? cancelled() : given.trim();
    },
    choose: async (question, options) => {
      const index = await clack.select({
        message: oneLine(question, 500),
        signal,
        options: options.map(({ label }, value) => ({ value, label: oneLine(label) })),
      });
      const chosen = clack.isCancel(index) ? cancelled() : options[index];
      if (chosen === undefined) throw new Error('no such option');
      return chosen.value;
    },
    note: (text) => clack.log.info(inLine(plainText(text))),
  };
}

/** Prompts on a terminal, unless `yes`. */
export async function openPrompter(yes: boolean | undefined, signal: AbortSignal): Promise<{ prompter: Prompter; isAttended: boolean }> {
  const isAttended = yes !== true && process.stdin.isTTY && process.stderr.isTTY && envOf('CI') === undefined;
  return { prompter: isAttended ? await attended(signal) : unattended, isAttended };
}
