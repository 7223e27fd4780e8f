import { envOf, type Environment } from '../util/env.ts';
import { UsageError } from '../util/errors.ts';

/** A URL without user and password, for messages; also removes everything between `//` and the last `@` from a text that is not an http(s) URL. */
export function withoutPassword(url: string): string {
  if (!/^https?:/i.test(url) || !URL.canParse(url)) return url.replace(/^([^/@]*\/\/)?.*@/s, '$1');
  const parsed = new URL(url);
  if (parsed.username === '' && parsed.password === '') return url;
  parsed.username = '';
  parsed.password = '';
  return url.endsWith('/') ? parsed.href : parsed.href.replace(/\/$/, '');
}

/** The environment variable that sets the proxy for a URL, and its value; undefined for a direct connection. As in undici, https falls back to the proxy of http. */
function proxyOf(url: string, env: Environment): { name: string; value: string } | undefined {
  const names = ['http_proxy', 'HTTP_PROXY'];
  if (url.startsWith('https:')) names.unshift('https_proxy', 'HTTPS_PROXY');
  for (const name of names) {
    const value = envOf(name, env);
    if (value !== undefined) return { name, value };
  }
  return undefined;
}

/** Throws a UsageError for a proxy setting that is not the URL of an HTTP proxy. */
export function checkProxies(env: Environment = process.env): void {
  for (const name of ['https_proxy', 'HTTPS_PROXY', 'http_proxy', 'HTTP_PROXY']) {
    const value = envOf(name, env);
    if (value === undefined || (/^https?:\/\/./.test(value) && URL.canParse(value))) continue;
    throw new UsageError(`${name} is not the URL of an HTTP proxy`, {
      where: withoutPassword(value),
      next: `set ${name} to http://HOST:PORT, or unset it`,
    });
  }
}

/** Codes of an error and of all its causes. */
function codesOf(error: unknown): string[] {
  const codes: string[] = [];
  for (let at = error, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth += 1) {
    const { code } = at as NodeJS.ErrnoException;
    if (typeof code === 'string') codes.push(code);
    if (at instanceof AggregateError) codes.push(...at.errors.flatMap(codesOf));
  }
  return codes;
}

const WRONG_TIME = new Set(['CERT_NOT_YET_VALID', 'CERT_HAS_EXPIRED']);
const UNKNOWN_ISSUER = new Set([
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
]);

/** Advice for a host that cannot be reached: names the relevant setting. */
export function connectionAdvice(url: string, error: unknown, env: Environment = process.env): string {
  const codes = codesOf(error);
  if (codes.some((code) => WRONG_TIME.has(code)))
    return `this machine's clock reads ${new Date().toISOString()}: correct it if it is wrong; otherwise the server's certificate has expired`;
  if (codes.some((code) => UNKNOWN_ISSUER.has(code)))
    return 'set NODE_EXTRA_CA_CERTS to a file with the certificate of the authority that your mirror or proxy uses';
  const proxy = proxyOf(url, env);
  if (proxy !== undefined)
    return `check the proxy in ${proxy.name} (${withoutPassword(proxy.value)}), or add the host to no_proxy; downloaded data is kept and resumed`;
  return 'check the network and the proxy settings, or specify a mirror (--mirror URL); downloaded data is kept and resumed';
}
