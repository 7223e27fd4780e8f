// Readers that do what none must, for the test of `npm run fuzz`: each at an input that mutations of `ok` come to at once.
type Reader = (bytes: Buffer) => unknown;
const reader = (read: Reader) => ({ what: 'a test', format: 'text', prepare: async () => ['ok'], open: () => read });
const isOther = (bytes: Buffer): boolean => bytes.toString() !== 'ok';

export const READERS = {
  good: reader(() => undefined),
  loops: reader((bytes) => {
    while (isOther(bytes)) bytes.fill(0);
  }),
  waits: reader((bytes) => (isOther(bytes) ? new Promise(() => undefined) : undefined)),
  throws: reader((bytes) => {
    if (isOther(bytes)) throw new TypeError('not a UserError');
  }),
  fills: reader((bytes) => (isOther(bytes) ? Buffer.alloc(200 << 20, 1) : undefined)),
};
