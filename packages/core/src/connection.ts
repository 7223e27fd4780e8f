import { envOf, type Environment } from './env.ts';
import { UsageError } from './errors.ts';

/** The environment variable by which a URL goes through a proxy, and its value; undefined where it goes directly. As curl and undici read them. */
function proxyOf(url: string, env: Environment): { name: string; value: string } | undefined {
  const names = url.startsWith('https:') ? ['https_proxy', 'HTTPS_PROXY'] : ['http_proxy', 'HTTP_PROXY'];
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
    throw new UsageError(`${name} is not the URL of an HTTP proxy`, { where: value, next: `set ${name} to http://HOST:PORT, or unset it` });
  }
}

/** Codes of all errors that an error was caused by, in one text. */
function codesOf(error: unknown): string {
  const codes: string[] = [];
  for (let at = error, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth += 1) {
    codes.push((at as NodeJS.ErrnoException).code ?? '', at.message);
    if (at instanceof AggregateError) codes.push(...at.errors.map(codesOf));
  }
  return codes.join(' ');
}

/** What to do where a host cannot be reached: names the setting that has to do with it. */
export function connectionAdvice(url: string, error: unknown, env: Environment = process.env): string {
  const codes = codesOf(error);
  if (/CERT_NOT_YET_VALID|CERT_HAS_EXPIRED|certificate is not yet valid|certificate has expired/.test(codes))
    return `this machine's clock says ${new Date().toISOString()}: correct it if it is wrong; else the server's certificate has expired`;
  if (/SELF_SIGNED|UNABLE_TO_(?:GET_ISSUER|VERIFY)|self.signed certificate|unable to (?:get|verify)/.test(codes))
    return 'set NODE_EXTRA_CA_CERTS to a file with the certificate of the authority that your mirror or proxy uses';
  const proxy = proxyOf(url, env);
  if (proxy !== undefined)
    return `check the proxy that ${proxy.name} names (${proxy.value.replace(/\/\/[^@/]*@/, '//')}), or add the host to no_proxy; what was fetched is kept and resumed`;
  return 'check the network and the proxy settings, or name a mirror (--mirror URL); what was fetched is kept and resumed';
}
