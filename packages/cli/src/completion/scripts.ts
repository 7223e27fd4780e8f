import type { CommandWords, OptionWords, Values } from './words.ts';

/** Shells that scripts are made for. */
export const SHELLS = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof SHELLS)[number];

/** A word in single quotes, as all three shells read it. */
const quoted = (text: string): string => `'${text.replaceAll("'", String.raw`'\''`)}'`;

const isWords = (values: Values): values is readonly string[] => Array.isArray(values);

/** Names of the options that take a value. */
const withValues = (options: readonly OptionWords[]): OptionWords[] => options.filter(({ values }) => values !== undefined);

/** Shell code that completes a value in bash. */
function bashValues(values: Values): string {
  if (values === 'files') return 'COMPREPLY=($(compgen -f -- "$current")); compopt -o filenames';
  if (values === 'extensions') return 'COMPREPLY=($(compgen -W "$(_flatcar_ext_extensions)" -- "$current"))';
  return isWords(values) ? `COMPREPLY=($(compgen -W ${quoted(values.join(' '))} -- "$current"))` : ':';
}

function bashCommand({ path, options, commands, values }: CommandWords): string {
  const names = options.flatMap((option) => option.names);
  const cases = withValues(options).map((option) => `        ${option.names.join('|')}) ${bashValues(option.values ?? 'none')}; return ;;`);
  const words = commands.length > 0 ? bashValues(commands) : bashValues(values);
  return [
    `    ${quoted(path.join(' '))})`,
    ...(cases.length === 0 ? [] : ['      case $previous in', ...cases, '      esac']),
    `      case $current in -*) ${bashValues(names)} ;; *) ${words} ;; esac ;;`,
  ].join('\n');
}

function bash(commands: readonly CommandWords[], folder: string): string {
  const paths = commands.map(({ path }) => path.join(' ')).filter((path) => path !== '');
  return `# Completion of flatcar-ext for bash. In ~/.bashrc: source <(flatcar-ext completion bash)
_flatcar_ext_extensions() { local dir; for dir in ${quoted(folder)}/*/extension.ts; do dir=\${dir%/*}; echo "\${dir##*/}"; done; }
_flatcar_ext() {
  local current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD - 1]} command='' word
  COMPREPLY=()
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$command\${command:+ }$word" in
      ${paths.map(quoted).join('|')}) command="$command\${command:+ }$word" ;;
    esac
  done
  case $command in
${commands.map(bashCommand).join('\n')}
  esac
}
complete -F _flatcar_ext flatcar-ext
`;
}

/** The action of _arguments that completes a value in zsh. */
function zshValues(values: Values): string {
  if (values === 'files') return '_files';
  if (values === 'extensions') return '_flatcar_ext_extensions';
  return isWords(values) ? `(${values.join(' ')})` : ' ';
}

/** What _arguments reads as the text of an option: without its own marks. */
const zshText = (text: string): string => text.replaceAll(/[[\]:]/g, String.raw`\$&`);

function zshCommand({ path, options, commands, values }: CommandWords): string {
  const specs = options.flatMap(({ names, description, values: its }) =>
    names.map((name) => quoted(`*${name}[${zshText(description)}]${its === undefined ? '' : `:value:${zshValues(its)}`}`)),
  );
  const rest = commands.length > 0 ? `*:command:(${commands.join(' ')})` : `*:value:${zshValues(values)}`;
  return `    ${quoted(path.join(' '))}) _arguments ${[...specs, quoted(rest)].join(' ')} ;;`;
}

function zsh(commands: readonly CommandWords[], folder: string): string {
  const paths = commands.map(({ path }) => path.join(' ')).filter((path) => path !== '');
  return `#compdef flatcar-ext
# Completion of flatcar-ext for zsh. In ~/.zshrc, after compinit: source <(flatcar-ext completion zsh)
_flatcar_ext_extensions() { local -a names; names=(${quoted(folder)}/*/extension.ts(N:h:t)); compadd -a names; }
_flatcar_ext() {
  local command='' word
  for word in "\${(@)words[2,CURRENT-1]}"; do
    case "$command\${command:+ }$word" in
      ${paths.map((path) => quoted(path)).join('|')}) command="$command\${command:+ }$word" ;;
    esac
  done
  case $command in
${commands.map(zshCommand).join('\n')}
  esac
}
if [[ \${funcstack[1]-} = _flatcar_ext ]]; then _flatcar_ext "$@"; else compdef _flatcar_ext flatcar-ext; fi
`;
}

/** The arguments of fish's complete for a value. */
function fishValues(values: Values): string {
  if (values === 'files') return ' --force-files';
  if (values === 'extensions') return " --no-files --arguments '(__flatcar_ext_extensions)'";
  return isWords(values) ? ` --no-files --arguments ${quoted(values.join(' '))}` : ' --no-files';
}

function fishCommand({ path, options, commands, values }: CommandWords): string[] {
  const start = `complete --command flatcar-ext --condition "__flatcar_ext_at ${quoted(path.join(' '))}"`;
  const lines = options.map(({ names, description, values: its }) => {
    const forms = names.map((name) => (name.startsWith('--') ? `--long-option ${name.slice(2)}` : `--short-option ${name.slice(1)}`));
    const value = its === undefined ? '' : ` --require-parameter${fishValues(its)}`;
    return `${start} ${forms.join(' ')}${value} --description ${quoted(description)}`;
  });
  return [...lines, `${start}${fishValues(commands.length > 0 ? commands : values)}`];
}

function fish(commands: readonly CommandWords[], folder: string): string {
  const paths = commands.map(({ path }) => path.join(' ')).filter((path) => path !== '');
  return `# Completion of flatcar-ext for fish. In ~/.config/fish/config.fish: flatcar-ext completion fish | source
function __flatcar_ext_extensions
  for file in ${quoted(folder)}/*/extension.ts
    string split --right --max 1 --fields 1 / $file | string replace --regex '.*/' ''
  end
end
function __flatcar_ext_at
  set --local command
  for word in (commandline --tokenize --current-process --cut-at-cursor)[2..]
    set --local longer (string trim -- "$command $word")
    contains -- $longer ${paths.map(quoted).join(' ')}; and set command $longer
  end
  test "$command" = "$argv[1]"
end
${commands.flatMap(fishCommand).join('\n')}
`;
}

/** The completion script of a shell; `folder` contains the extensions, whose names are read whenever they are completed. */
export function completionScript(shell: Shell, commands: readonly CommandWords[], folder: string): string {
  return { bash, zsh, fish }[shell](commands, folder);
}
