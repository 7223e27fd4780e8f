import type { Readable } from 'node:stream';
import type { ResponseHeaders } from './rate-limit.ts';

/** How long a server may take. */
export interface HttpLimits {
  /** From the end of the request until its headers, in milliseconds: one time for all interim responses (1xx). 30 s by default. */
  readonly headers: number;
  /** A body with fewer bytes a second over `window` milliseconds has stalled. 1024 over 30 s by default. */
  readonly slowest: { readonly bytesPerSecond: number; readonly window: number };
  /** Sum of the pauses between attempts, including those that the server requests, in milliseconds. One minute by default. */
  readonly waits: number;
  /** Everything together, all attempts and pauses, in milliseconds. Five minutes by default. */
  readonly total: number;
}

export const DEFAULT_LIMITS: HttpLimits = {
  headers: 30_000,
  slowest: { bytesPerSecond: 1024, window: 30_000 },
  waits: 60_000,
  total: 300_000,
};

/** Time beside the transfer of a body of known size, in milliseconds. */
const EXTRA_MS = 900_000;
/** The average of a whole body, in bytes a second: a modem with 64 kbit/s. */
const SLOWEST_AVERAGE = 8 << 10;

/** The total time for a body of so many bytes, in milliseconds. */
export const timeFor = (bytes: number): number => EXTRA_MS + (bytes / SLOWEST_AVERAGE) * 1000;

export type HttpMethod = 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
export type HttpBody = Buffer | string | Readable;

/** Headers by name; those without a value are not sent. */
export type RequestHeaders = Readonly<Record<string, string | undefined>>;

/** A request, and the limits for its response. */
export interface HttpOptions {
  /** GET by default. */
  readonly method?: HttpMethod;
  /**
   * Sent with each attempt; a function is called for each. Credentials among them go to the URL's own origin only: after a redirect to
   * another origin, or through a mirror, only headers that describe accepted responses are sent.
   */
  readonly headers?: RequestHeaders | (() => Promise<RequestHeaders>);
  /** Called for each attempt. */
  readonly body?: () => HttpBody;
  /** `https://host/path` is requested as `<mirror>/host/path`. */
  readonly mirror?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Redirects to follow, 10 by default; with 0 the caller receives the response that redirects. Only GET and HEAD follow redirects. */
  readonly redirects?: number;
  /** Attempts in all, 4 by default. */
  readonly attempts?: number;
  /** First pause between attempts in milliseconds, 500 by default, doubled each time. */
  readonly pause?: number;
  /** False for a request that must not reach the server twice: it is repeated only if it certainly did not. Default: all methods but POST and PATCH. */
  readonly idempotent?: boolean;
  readonly limits?: Partial<HttpLimits>;
  /** Advice for a rate limit, such as the variable for a token. */
  readonly whenLimited?: string;
}

/** A response whose body has not been read: it can be read once, and the client closes it. */
export interface HttpExchange {
  readonly status: number;
  readonly headers: ResponseHeaders;
  /** The URL after redirects, without credentials. */
  readonly url: string;
  /** Content-Length in bytes. */
  readonly length: number | undefined;
  readonly body: AsyncIterable<Buffer>;
}

/** A response that was read. */
export interface HttpResponse {
  readonly status: number;
  readonly headers: ResponseHeaders;
  readonly url: string;
  readonly bytes: Buffer;
}
