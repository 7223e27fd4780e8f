import { UnreachableError } from '../http/errors.ts';
import { UserError } from '../util/errors.ts';
import { outputOf, ToolError } from '../util/exec.ts';

/** What go prints if no connection to the proxy is possible. */
const NO_CONNECTION = /dial tcp|no such host|i\/o timeout|TLS handshake|connection refused|server misbehaving/;
/** What go prints for a path that no module can have. */
const INVALID_PATH = /malformed module path|missing dot in first path element/;
/** What go and proxies print for a module or a version that does not exist. */
const MISSING =
  /unknown revision|invalid version|no matching versions|404 Not Found|410 Gone|not found|no such file|400 Bad Request|403 Forbidden|not available/i;

/** The module that a call of go is about. */
function moduleIn(where: string): { name: string; version?: string } {
  const [, name, version] = /([\w.~-]+(?:\/[\w.~-]+)*)@(v\d[\w.+-]*)/.exec(where) ?? [];
  if (name !== undefined) return { name, version };
  const word = where.split(/\s/).findLast((one) => one.includes('@') || one.includes('/'));
  return { name: word?.replace(/@.*$/, '') ?? where };
}

/**
 * A failure of go in plain words, by its output, since its exit code is always the same: a proxy that cannot be reached, and a module or a version that does
 * not exist. Returns any other error unchanged. `where` contains the module that was requested.
 */
export function plainGoError(cause: unknown, where: string): unknown {
  const output = outputOf(cause);
  if (NO_CONNECTION.test(output))
    return new UnreachableError('the Go module proxy cannot be reached', {
      where,
      next: 'check the network, or set GOPROXY to a proxy that can be reached',
      cause,
    });
  const { name, version } = moduleIn(where);
  if (INVALID_PATH.test(output))
    return new UserError(`'${name}' is not a valid Go module`, {
      where,
      next: 'specify the path in its go.mod, such as github.com/OWNER/REPO or github.com/OWNER/REPO/v2',
      cause,
    });
  if (!MISSING.test(output)) return cause;
  return version === undefined
    ? new UserError(`the Go module proxy has no module '${name}'`, {
        where,
        next: 'check its path (that in its go.mod, with /v2 and so on from major 2 on), and the proxy (GOPROXY)',
        cause,
      })
    : new UserError(`the Go module proxy has no ${name} ${version}`, {
        where,
        next: `list its versions: go list -m -versions ${name}`,
        cause,
      });
}

/** Lines of a failed compilation that are shown. */
const SHOWN = 20;

/**
 * A failure of `go build -v` with what the compiler printed about the first package that failed. Go goes on with packages that do not import that
 * one, so the end of its output is about others. `packages` has the paths that `-v` prints.
 */
export function goBuildError(cause: unknown, packages: ReadonlySet<string>): unknown {
  if (!(cause instanceof ToolError)) return cause;
  const [summary = ''] = cause.message.split('\n');
  const lines = cause.output.split('\n').filter((line) => !packages.has(line) && line !== '');
  const { where, next, output } = cause;
  return new ToolError([summary, ...lines.slice(0, SHOWN)].join('\n'), { where, next, output });
}
