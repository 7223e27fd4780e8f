/** The lines of a unit file, with continuation lines joined and without comments and blank lines (systemd.syntax(7)). */
export function unitLines(text: string): string[] {
  return text
    .replaceAll('\r\n', '\n')
    .replaceAll(/\\\n(?:[ \t]*[#;].*\n)*/g, ' ')
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#') && !line.startsWith(';'));
}

/** A unit file's settings in order: section, key, value. */
export function parseUnit(text: string): { section: string; key: string; value: string }[] {
  let section = '';
  return unitLines(text).flatMap((line) => {
    const header = /^\[(.+)\]$/.exec(line);
    if (header !== null) {
      section = header[1] ?? '';
      return [];
    }
    const at = line.indexOf('=');
    return at === -1 ? [] : [{ section, key: line.slice(0, at).trim(), value: line.slice(at + 1).trim() }];
  });
}
