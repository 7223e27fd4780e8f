/**
 * Why a request failed:
 * `unreachable`: no connection to the host (DNS, refused, timed out, refused by the proxy); `tls`: no trusted connection;
 * `timeout`: connected, but no response, or a slow one; `broken`: the connection ended within the response; `protocol`: not valid HTTP, or
 * headers over the limit; `redirect`: too many redirects, or one that must not be followed; `status`: the response is an error;
 * `rate-limited`: the host requests a longer pause than this client waits; `too-large`, `too-short`: the body, by its limit or its known size;
 * `encoding`: a compressed body that was not requested; `request`: the request cannot be sent.
 */
export type HttpErrorCode =
  | 'unreachable'
  | 'tls'
  | 'timeout'
  | 'broken'
  | 'protocol'
  | 'redirect'
  | 'status'
  | 'rate-limited'
  | 'too-large'
  | 'too-short'
  | 'encoding'
  | 'request';

/**
 * Why something failed, for code that decides by it: messages are for people, and change.
 * `usage`: the command line or a setting is wrong; `tool-failed`: a tool ended with an error, and its output explains it; `wrong-digest`: bytes are not
 * the expected ones; `index-unavailable`, `index-stale`: a package index cannot be fetched, or is too old; `no-tree`: nothing is published at a
 * place; `bad-signature`: no known key signed a published index; `conflict`: another publisher was faster; `name-taken`: a published name has other
 * bytes; `no-attestation`: GitHub has none for a file; `pulls-refused`: GitHub does not let this job open pull requests; `different-payloads`: two
 * builders made different payloads.
 */
export type ErrorCode =
  | HttpErrorCode
  | 'usage'
  | 'tool-failed'
  | 'wrong-digest'
  | 'index-unavailable'
  | 'index-stale'
  | 'no-tree'
  | 'bad-signature'
  | 'rolled-back'
  | 'expired-metadata'
  | 'no-root'
  | 'conflict'
  | 'name-taken'
  | 'no-attestation'
  | 'pulls-refused'
  | 'different-payloads';
