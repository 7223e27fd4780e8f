import { HttpError, RetryableError, UnreachableError } from './errors.ts';
import { connectionAdvice, withoutPassword } from './proxy.ts';

/** A URL for messages: without user and password. */
export const shown = (url: URL | string): string => withoutPassword(typeof url === 'string' ? url : url.href);

const errorsOf = (error: unknown): NodeJS.ErrnoException[] => {
  const found: NodeJS.ErrnoException[] = [];
  for (let at = error, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth += 1) {
    found.push(at);
    if (at instanceof AggregateError) found.push(...(at.errors as NodeJS.ErrnoException[]));
  }
  return found;
};
/** The code of an error if it is a text: DOMExceptions have numbers. */
const codeOf = ({ code }: NodeJS.ErrnoException): string => (typeof code === 'string' ? code : '');

/** Codes of TLS: OpenSSL's and Node's, and those of certificates (X509_V_ERR_* as Node spells them). */
const TLS =
  /^(?:ERR_TLS_|ERR_SSL_|CERT_|UNABLE_TO_|DEPTH_ZERO_|SELF_SIGNED_|CRL_|INVALID_CA$|INVALID_PURPOSE$|HOSTNAME_MISMATCH$|EPROTO$|UND_ERR_PRX_TLS$)/;
/** A proxy that opens no tunnel, and a connection that is not established in time. Nothing else in this client aborts a request with these codes. */
const NOT_CONNECTED = new Set(['UND_ERR_CONNECT_TIMEOUT', 'UND_ERR_ABORTED', 'UND_ERR_PRX_CONN']);

/** Translates an exception of undici or of a socket: into a RetryableError if another attempt may help. */
export function failureOf(cause: unknown, url: URL): unknown {
  const errors = errorsOf(cause);
  const has = (test: (error: NodeJS.ErrnoException) => boolean): boolean => errors.some(test);
  const where = shown(url);
  const [first] = errors;
  const reason = (errors.find(({ message }) => message !== '') ?? first)?.message ?? String(cause);
  const next = connectionAdvice(url.href, cause);
  if (has((error) => TLS.test(codeOf(error))))
    return new HttpError('tls', `no trusted connection to ${url.host}: ${reason}`, { where, next, cause });
  if (has((error) => NOT_CONNECTED.has(codeOf(error)) || /^(?:connect$|getaddrinfo|query)/.test(error.syscall ?? '')))
    return new RetryableError(new UnreachableError(`${url.host} cannot be reached: ${reason}`, { where, next, cause }));
  if (has((error) => error.name === 'HTTPParserError' || codeOf(error) === 'UND_ERR_HEADERS_OVERFLOW'))
    return new HttpError('protocol', `the response of ${url.host} is not valid HTTP: ${reason}`, {
      where,
      next: 'check the URL and the proxy settings',
      cause,
    });
  if (has((error) => ['UND_ERR_INVALID_ARG', 'UND_ERR_NOT_SUPPORTED', 'ERR_INVALID_URL'].includes(codeOf(error))))
    return new HttpError('request', `the request cannot be sent: ${reason}`, {
      where,
      next: 'check the URL, and tokens for line breaks',
      cause,
    });
  if (has((error) => /^(?:UND_ERR_|E(?:CONNRESET|PIPE|CONNABORTED|TIMEDOUT|NETRESET|NOTCONN)$)/.test(codeOf(error))))
    return new RetryableError(new HttpError('broken', `the connection to ${url.host} broke: ${reason}`, { where, next, cause }));
  return cause;
}
