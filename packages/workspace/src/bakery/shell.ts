import { UserError } from '@flatcar/core/engine';

// A parser of the part of the shell's language that recipes use. It reads text that others wrote, and runs nothing.

/** A command with its words as they are written: quotes and variables are not expanded. */
export interface ShellCommand {
  readonly kind: 'command';
  readonly line: number;
  readonly words: readonly string[];
  /** Files that its output goes to, as they are written. */
  readonly writes: readonly string[];
  /** The commands that its output is piped into. */
  readonly pipedInto: readonly ShellCommand[];
}

/** `if`, `&&` and `||`, as branches: the commands of the condition and those of the body. The branch of an `else` has no condition. */
export interface ShellIf {
  readonly kind: 'if';
  readonly line: number;
  readonly branches: readonly { readonly condition: readonly ShellNode[]; readonly body: readonly ShellNode[] }[];
}

export interface ShellCase {
  readonly kind: 'case';
  readonly line: number;
  readonly word: string;
  readonly branches: readonly { readonly patterns: readonly string[]; readonly body: readonly ShellNode[] }[];
}

export interface ShellFor {
  readonly kind: 'for';
  readonly line: number;
  readonly name: string;
  readonly words: readonly string[];
  readonly body: readonly ShellNode[];
}

export interface ShellFunction {
  readonly kind: 'function';
  readonly line: number;
  readonly name: string;
  readonly body: readonly ShellNode[];
}

/** A command list in braces or parentheses, or a loop that only a run could follow. */
export interface ShellGroup {
  readonly kind: 'group' | 'loop';
  readonly line: number;
  readonly body: readonly ShellNode[];
}

export type ShellNode = ShellCommand | ShellIf | ShellCase | ShellFor | ShellFunction | ShellGroup;

/** Nested lists in one script, and bytes of it: more than any recipe has. */
const MAX_DEPTH = 40;
const MAX_SIZE = 256 << 10;

interface Token {
  readonly text: string;
  readonly line: number;
  /** True for operators and newlines. */
  readonly isOperator: boolean;
}

const OPERATORS = ['&&', '||', ';;', '<<<', '<<-', '<<', '>>', '&>', '>&', '<&', ';', '&', '|', '(', ')', '<', '>', '\n'];

/** The end of what begins at a position: a quoted text, or `$(…)`, `${…}` with everything nested in it. */
function endOf(text: string, start: number, where: string): number {
  const closing: string[] = [];
  for (let at = start; at < text.length; at += 1) {
    const char = text[at] ?? '';
    const inner = closing.at(-1);
    if (char === '\\' && inner !== "'") at += 1;
    else if (char === inner) {
      closing.pop();
      if (closing.length === 0) return at + 1;
    } else if (inner === "'") continue;
    else if (char === '$' && (text[at + 1] === '(' || text[at + 1] === '{')) {
      closing.push(text[at + 1] === '(' ? ')' : '}');
      at += 1;
    } else if (char === '(' && inner === ')') closing.push(')');
    else if (char === '`') closing.push('`');
    else if (char === '"' || (char === "'" && inner !== '"')) closing.push(char);
    if (closing.length > MAX_DEPTH) break;
  }
  throw new UserError('a quote or a bracket has no end', { where: `${where}:${text.slice(0, start).split('\n').length}` });
}

/** Words, operators and newlines of a script; comments and the texts of here-documents are left out. */
function tokensOf(text: string, where: string): Token[] {
  const tokens: Token[] = [];
  const documents: string[] = [];
  let at = 0;
  let line = 1;
  const skip = (to: number): void => {
    line += text.slice(at, to).split('\n').length - 1;
    at = to;
  };
  while (at < text.length) {
    const rest = text.slice(at, at + 3);
    if (/^\\\r?\n/.test(rest)) skip(text.indexOf('\n', at) + 1);
    else if (/^[ \t\r]/.test(rest)) at += 1;
    else if (rest.startsWith('#')) at = text.indexOf('\n', at) === -1 ? text.length : text.indexOf('\n', at);
    else {
      const operator = OPERATORS.find((one) => rest.startsWith(one));
      if (operator !== undefined) {
        tokens.push({ text: operator, line, isOperator: true });
        skip(at + operator.length);
        if (operator !== '\n') continue;
        while (documents.length > 0) {
          const last = new RegExp(`^\\t*${RegExp.escape(documents.shift() ?? '')}$`, 'gm');
          last.lastIndex = at;
          skip(last.test(text) ? last.lastIndex : text.length);
        }
        continue;
      }
      const begin = at;
      const started = line;
      let to = at;
      while (to < text.length && !/[\s;&|<>()]/.test(text[to] ?? '')) {
        if (text[to] === '\\') to += 2;
        else if (`"'\``.includes(text[to] ?? '') || /^\$[({]/.test(text.slice(to, to + 2))) to = endOf(text, to, where);
        else to += 1;
      }
      skip(Math.max(to, begin + 1));
      const word = text.slice(begin, at);
      if (tokens.at(-1)?.text === '<<' || tokens.at(-1)?.text === '<<-') documents.push(word.replaceAll(/["'\\]/g, ''));
      tokens.push({ text: word, line: started, isOperator: false });
    }
  }
  return tokens;
}

const REDIRECTS = new Set(['<', '>', '>>', '<<', '<<-', '<<<', '&>', '>&', '<&']);
const ENDS = new Set(['then', 'elif', 'else', 'fi', 'do', 'done', 'esac', '}']);

class Parser {
  readonly #tokens: readonly Token[];
  readonly #where: string;
  #at = 0;
  #depth = 0;
  constructor(tokens: readonly Token[], where: string) {
    this.#tokens = tokens;
    this.#where = where;
  }

  get #next(): Token | undefined {
    return this.#tokens[this.#at];
  }

  #fail(what: string): never {
    throw new UserError(what, { where: `${this.#where}:${this.#next?.line ?? this.#tokens.at(-1)?.line ?? 1}` });
  }

  #is(text: string): boolean {
    return this.#next?.text === text;
  }

  #take(text: string): void {
    if (!this.#is(text)) this.#fail(`expected '${text}', found '${this.#next?.text.trim() ?? 'the end'}'`);
    this.#at += 1;
  }

  /** Words up to the end of the line or command; between `[[` and `]]`, operators are words as well. */
  #words(): string[] {
    const words: string[] = [];
    for (let isTest = false; this.#next !== undefined && (isTest || !this.#next.isOperator); this.#at += 1) {
      words.push(this.#next.text);
      isTest = this.#is('[[') || (isTest && !this.#is(']]'));
    }
    return words;
  }

  #skip(...separators: readonly string[]): void {
    while (this.#next?.isOperator === true && separators.includes(this.#next.text)) this.#at += 1;
  }

  /** Commands up to one of the words that end a list, or the end of the script. */
  list(): ShellNode[] {
    this.#depth += 1;
    if (this.#depth > MAX_DEPTH) this.#fail('the script is nested too deeply');
    const nodes: ShellNode[] = [];
    for (;;) {
      this.#skip(';', '\n', '&');
      const next = this.#next;
      if (next === undefined || (next.isOperator && [')', ';;'].includes(next.text)) || (!next.isOperator && ENDS.has(next.text))) break;
      const before = this.#at;
      nodes.push(this.#andOr(next));
      if (this.#at === before) this.#fail(`'${next.text}' is not understood`);
    }
    this.#depth -= 1;
    return nodes;
  }

  /** `A && B` as `if A; then B; fi`, and `A || B` as `if A; then :; else B; fi`. */
  #andOr(first: Token): ShellNode {
    let node = this.#node(first);
    for (let length = 1; this.#is('&&') || this.#is('||'); length += 1) {
      if (length > MAX_DEPTH) this.#fail('a list of commands is too long');
      const isAnd = this.#is('&&');
      this.#at += 1;
      this.#skip('\n');
      const body = [this.#node(this.#next ?? this.#fail('a list of commands has no end'))];
      const condition = [node];
      const branches = isAnd
        ? [{ condition, body }]
        : [
            { condition, body: [] },
            { condition: [], body },
          ];
      node = { kind: 'if', line: first.line, branches };
    }
    return node;
  }

  #node({ text, line, isOperator }: Token): ShellNode {
    if (isOperator && text === '(') return this.#group(line, '(', ')');
    if (text === '{') return this.#group(line, '{', '}');
    if (text === 'if') return this.#if(line);
    if (text === 'case') return this.#case(line);
    if (text === 'for') return this.#for(line);
    if (text === 'while' || text === 'until') {
      this.#at += 1;
      this.list();
      return { kind: 'loop', line, body: this.#loopBody() };
    }
    if (
      text === 'function' ||
      (/^[\w.-]+$/.test(text) && this.#tokens[this.#at + 1]?.text === '(' && this.#tokens[this.#at + 2]?.text === ')')
    )
      return this.#function(line);
    return this.#pipeline();
  }

  /** What is behind the end of a compound command: it may be piped, or redirected. */
  #rest(): void {
    while (this.#next?.isOperator === true && (REDIRECTS.has(this.#next.text) || this.#is('|'))) {
      const isPipe = this.#is('|');
      this.#at += 1;
      if (isPipe) this.#skipCompound();
      else this.#at += 1;
    }
  }

  #group(line: number, open: string, close: string): ShellGroup {
    this.#take(open);
    const body = this.list();
    this.#take(close);
    this.#rest();
    return { kind: 'group', line, body };
  }

  #loopBody(): ShellNode[] {
    this.#take('do');
    const body = this.list();
    this.#take('done');
    this.#rest();
    return body;
  }

  #if(line: number): ShellIf {
    const branches: { condition: ShellNode[]; body: ShellNode[] }[] = [];
    for (let word = 'if'; word !== 'fi';) {
      this.#take(word);
      const condition = word === 'else' ? [] : this.list();
      if (word !== 'else') this.#take('then');
      branches.push({ condition, body: this.list() });
      word = this.#next?.text ?? '';
      if (!['elif', 'else', 'fi'].includes(word)) this.#fail("an 'if' has no 'fi'");
    }
    this.#take('fi');
    this.#rest();
    return { kind: 'if', line, branches };
  }

  #case(line: number): ShellCase {
    this.#take('case');
    const word = this.#next?.text ?? '';
    this.#at += 1;
    this.#take('in');
    this.#skip('\n');
    const branches: { patterns: string[]; body: ShellNode[] }[] = [];
    while (!this.#is('esac')) {
      if (this.#next === undefined) this.#fail("a 'case' has no 'esac'");
      if (this.#is('(')) this.#at += 1;
      const patterns: string[] = [];
      while (!this.#is(')')) {
        patterns.push(...this.#words());
        if (this.#is('|')) this.#at += 1;
        else if (!this.#is(')')) this.#fail("a pattern of 'case' has no end");
      }
      this.#take(')');
      branches.push({ patterns, body: this.list() });
      if (this.#is(';;')) this.#at += 1;
      this.#skip(';', '\n', '&');
    }
    this.#take('esac');
    this.#rest();
    return { kind: 'case', line, word, branches };
  }

  #for(line: number): ShellFor {
    this.#take('for');
    const [name = '', , ...words] = this.#words();
    this.#skip(';', '\n', '&');
    return { kind: 'for', line, name, words, body: this.#loopBody() };
  }

  #function(line: number): ShellFunction {
    if (this.#is('function')) this.#at += 1;
    const name = this.#next?.text ?? '';
    this.#at += 1;
    if (this.#is('(')) {
      this.#at += 1;
      this.#take(')');
    }
    this.#skip('\n');
    const { body } = this.#group(line, '{', '}');
    return { kind: 'function', line, name, body };
  }

  #pipeline(): ShellCommand {
    const first = this.#command();
    const rest: ShellCommand[] = [];
    while (this.#is('|')) {
      this.#at += 1;
      this.#skip('\n');
      const { text } = this.#next ?? this.#fail('a pipe leads nowhere');
      if (['(', '{', 'if', 'case', 'for', 'while', 'until'].includes(text)) this.#skipCompound();
      else rest.push(this.#command());
    }
    return { ...first, pipedInto: rest };
  }

  /** A compound command that output is piped into: it is not followed. */
  #skipCompound(): void {
    this.#depth += 1;
    if (this.#depth > MAX_DEPTH) this.#fail('the script is nested too deeply');
    this.#node(this.#next ?? this.#fail('a pipe leads nowhere'));
    this.#depth -= 1;
  }

  #command(): ShellCommand {
    const line = this.#next?.line ?? 0;
    const words: string[] = [];
    const writes: string[] = [];
    for (;;) {
      words.push(...this.#words());
      const operator = this.#next?.text ?? '';
      if (!REDIRECTS.has(operator)) break;
      this.#at += 1;
      const [target = ''] = this.#next?.isOperator === false ? [this.#next.text] : [];
      this.#at += 1;
      // `2>&1`: the number of a file descriptor is no word of the command.
      if (/^\d$/.test(words.at(-1) ?? '')) words.pop();
      else if (operator.startsWith('>') && operator !== '>&') writes.push(target);
    }
    return { kind: 'command', line, words, writes, pipedInto: [] };
  }

  finish(nodes: ShellNode[]): ShellNode[] {
    if (this.#next !== undefined) this.#fail(`'${this.#next.text.trim()}' is not understood`);
    return nodes;
  }
}

/** Parses a script. Throws a UserError with the line for text that is larger, more nested, or uses other parts of the language. */
export function parseShell(text: string, where: string): readonly ShellNode[] {
  if (text.length > MAX_SIZE) throw new UserError('the script is too large', { where });
  const parser = new Parser(tokensOf(text, where), where);
  return parser.finish(parser.list());
}
