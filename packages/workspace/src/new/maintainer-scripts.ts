import { basename } from 'node:path';
import { HOST_USERS } from '@flatcar/core/engine';

/** Words of a shell command, without quotes. */
const wordsOf = (command: string): string[] =>
  [...command.matchAll(/"([^"]*)"|'([^']*)'|(\S+)/g)].map(([, double, single, plain]) => double ?? single ?? plain ?? '');

/** Calls of some commands in a shell script, each as its words. */
export function callsOf(script: string, commands: string): string[][] {
  const calls = new RegExp(`(?:^|[;&|({]|\\b(?:then|do|else)\\b)\\s*((?:${commands})\\s[^;&|>)\\n]*)`, 'gm');
  return [...script.matchAll(calls)].map(([, call = '']) => wordsOf(call.replace(/\s+\d$/, '')));
}

/** A user that the image creates. */
export interface Account {
  readonly name: string;
  readonly comment: string;
  readonly home: string;
  /** Its primary group, if that has another name. */
  readonly group?: string | undefined;
}

/** The primary group of a user, which by default has the user's name. */
export const groupOf = ({ name, group }: Account): string => group ?? name;

/** Options with a value, of adduser(8), useradd(8), addgroup(8) and groupadd(8). */
const VALUED =
  /^(?:--(?:gecos|comment|home(?:-dir)?|shell|ingroup|uid|gid|groups|base-dir|conf|firstuid|lastuid|firstgid|lastgid|password|skel)|-[cdsgGubpk])$/;

function optionsOf(words: readonly string[]): { options: Map<string, string>; names: string[] } {
  const options = new Map<string, string>();
  const names: string[] = [];
  for (let index = 1; index < words.length; index += 1) {
    const word = words[index] ?? '';
    const [, key, value] = /^(--[\w-]+)=(.*)$/.exec(word) ?? [];
    if (key !== undefined) options.set(key, value ?? '');
    else if (VALUED.test(word)) options.set(word, words[(index += 1)] ?? '');
    else if (!word.startsWith('-')) names.push(word);
  }
  return { options, names };
}

const isName = (text: string): boolean => /^[a-z_][a-z0-9_-]*$/i.test(text);

/** The user that a call of adduser or useradd creates. */
function accountOf(name: string, options: ReadonlyMap<string, string>): Account {
  const get = (...keys: readonly string[]): string => keys.map((key) => options.get(key)).find((one) => one !== undefined) ?? '';
  const home = get('--home', '--home-dir', '-d');
  const group = get('--ingroup', '--gid', '-g');
  return {
    name,
    comment: get('--gecos', '--comment', '-c').replace(/,+$/, ''),
    home: /^\/(?!nonexistent)/.test(home) ? home.replace(/\/$/, '') : '-',
    group: isName(group) && group !== name && group !== 'nogroup' ? group : undefined,
  };
}

/** Users and groups that maintainer scripts create, as lines of sysusers.d(5). */
export function sysusersOf(scripts: readonly string[]): { accounts: Account[]; lines: string[] } {
  const accounts = new Map<string, Account>();
  const groups = new Set<string>();
  const members = new Set<string>();
  for (const words of scripts.flatMap((script) => callsOf(script, 'adduser|useradd|addgroup|groupadd|usermod'))) {
    const { options, names } = optionsOf(words);
    const [first = '', second] = names;
    if (!isName(first)) continue; // a variable that has no known value, or a word of the shell
    if (/group/.test(words[0] ?? '')) groups.add(first);
    else if (words[0] === 'usermod' || (words[0] === 'adduser' && second !== undefined && isName(second))) {
      const group = second ?? options.get('-G') ?? options.get('--groups') ?? '';
      if (isName(group)) members.add(`m ${first} ${group}`);
    } else accounts.set(first, accountOf(first, options));
  }
  const users = [...accounts.values()];
  const own = [...groups].filter((name) => !accounts.has(name) && !HOST_USERS.has(name));
  return {
    accounts: users,
    lines: [
      ...own.map((name) => `g ${name} -`),
      ...users.map(({ name, comment, home, group }) =>
        `u ${name} ${group === undefined ? '-' : `-:${group}`} ${comment === '' ? '-' : `"${comment}"`} ${home}`.replace(/( -)+$/, ' -'),
      ),
      ...members,
    ],
  };
}

/** Users in the text of a sysusers.d file. */
export const accountsIn = (text: string): Account[] =>
  [...text.matchAll(/^u!?\s+(\S+)\s+\S+(?:\s+("[^"]*"|\S+))?(?:\s+(\S+))?/gm)].map(([, name = '', comment = '', home = '-']) => ({
    name,
    comment,
    home,
  }));

/** File capabilities that maintainer scripts set. An image cannot have any. */
export function capabilitiesOf({
  scripts,
}: {
  readonly scripts: readonly string[];
}): { readonly program: string; readonly capabilities: string }[] {
  return scripts
    .flatMap((script) => callsOf(script, 'setcap'))
    .flatMap(([, capabilities = '', program = '']) => (/^cap_/i.test(capabilities) ? [{ program: basename(program), capabilities }] : []));
}
