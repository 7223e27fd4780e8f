// Fetches a URL in a process of its own, whose environment has proxies and certificates: prints what came, or the error.
import { getText } from '../../src/http/client.ts';
import type { HttpError } from '../../src/http/errors.ts';

const [url = '', mirror] = process.argv.slice(2);
try {
  console.log(JSON.stringify({ text: await getText(url, { max: 1000, attempts: 1, mirror }) }));
} catch (error) {
  if (!(error instanceof Error)) throw error;
  const { message, name, stack } = error;
  const { code, where, next } = error as Partial<HttpError>;
  console.log(JSON.stringify({ name, message, stack, code, where, next }));
}
