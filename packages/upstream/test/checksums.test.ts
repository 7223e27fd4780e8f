import { FIRST_DOWNLOAD, parseProof } from '@flatcar/core/engine';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { checksumOf, readChecksums } from '../src/verify/checksums.ts';
import { proofStrength, type ProofStrength } from '../src/verify/proof.ts';
import { sha } from './fake-internet.ts';

const [one, other] = [sha('one'), sha('other')];
const long = sha('one', 'sha512');

describe('the forms that upstreams publish', () => {
  const forms: Record<string, string> = {
    'sha256sum, text': `${other}  other.tgz\n${one}  tool.tgz\n`,
    'sha256sum, binary': `${one} *tool.tgz\n`,
    'with CRLF and no end of line': `${other} *other.tgz\r\n${one} *tool.tgz`,
    'with folders': `${one}  ./dist/tool.tgz\n${other}  ./dist/tool.tgz.sbom\n`,
    BSD: `SHA256 (other.tgz) = ${other}\nSHA256 (tool.tgz) = ${one}\n`,
    'BSD with other algorithms beside it': `MD5 (tool.tgz) = d41d8cd98f00b204e9800998ecf8427e\nSHA256 (tool.tgz) = ${one}\n`,
    'in capitals, with a comment': `# sums\n${one.toUpperCase()}  tool.tgz\n`,
  };
  test.each(Object.entries(forms))('%s', (_, text) => {
    expect(checksumOf(text, 'tool.tgz', 'sums')).toEqual({ algorithm: 'sha256', hash: one, form: 'list' });
  });
  test('bare', () => {
    expect(checksumOf(`${one}\n`, 'tool.tgz', 'sums')).toEqual({ algorithm: 'sha256', hash: one, form: 'file' });
    expect(checksumOf(long, 'tool.tgz', 'sums')).toEqual({ algorithm: 'sha512', hash: long, form: 'file' });
  });
  test('sha512', () => {
    expect(checksumOf(`${long}  tool.tgz`, 'tool.tgz', 'sums')).toEqual({ algorithm: 'sha512', hash: long, form: 'list' });
    expect(checksumOf(`SHA512 (tool.tgz) = ${long}`, 'tool.tgz', 'sums')).toMatchObject({ algorithm: 'sha512', hash: long });
  });
  test('names with blanks', () => {
    expect(readChecksums(`${one}  a tool.tgz`)).toEqual([{ hash: one, file: 'a tool.tgz' }]);
  });
});

test('whatever the names and forms, each file has its own hash, and no other has one', () => {
  const name = fc.stringMatching(/^[A-Za-z0-9_][A-Za-z0-9_.+ -]*[A-Za-z0-9_]$/);
  const line = fc.constantFrom<(hash: string, file: string) => string>(
    (hash, file) => `${hash}  ${file}`,
    (hash, file) => `${hash} *${file}`,
    (hash, file) => `${hash}  ./${file}`,
    (hash, file) => `SHA${hash.length * 4} (${file}) = ${hash}`,
  );
  const entry = fc.record({ file: name, line, algorithm: fc.constantFrom('sha256', 'sha512') });
  fc.assert(
    fc.property(fc.uniqueArray(entry, { selector: ({ file }) => file, minLength: 1 }), name, (entries, other) => {
      const text = entries.map(({ file, line: form, algorithm }) => form(sha(file, algorithm), file)).join('\n');
      for (const { file, algorithm } of entries)
        expect(checksumOf(text, file, 'sums')).toEqual({ algorithm, hash: sha(file, algorithm), form: 'list' });
      fc.pre(entries.every(({ file }) => file !== other));
      expect(() => checksumOf(text, other, 'sums')).toThrow(/no entry/);
    }),
  );
});

describe('refused', () => {
  test('a missing entry, with what is there', () => {
    expect(() => checksumOf(`${one}  other.tgz`, 'tool.tgz', 'sums')).toThrow(
      expect.objectContaining({
        message: expect.stringMatching(/no entry for tool\.tgz/),
        next: 'correct `checksum` in the definition; the list has other.tgz',
      }),
    );
  });
  test('a name that only ends alike', () => {
    expect(() => checksumOf(`${one}  mytool.tgz`, 'tool.tgz', 'sums')).toThrow(/no entry/);
  });
  test('two entries for one file, even when they say the same', () => {
    expect(() => checksumOf(`${one}  tool.tgz\n${other}  tool.tgz`, 'tool.tgz', 'sums')).toThrow(/2 entries for tool\.tgz/);
    expect(() => checksumOf(`${one}  tool.tgz\n${one}  tool.tgz`, 'tool.tgz', 'sums')).toThrow(/2 entries/);
    expect(() => checksumOf(`${one}  a/tool.tgz\n${other}  b/tool.tgz`, 'tool.tgz', 'sums')).toThrow(/2 entries/);
  });
  test('a whole name goes before the ends of paths', () => {
    expect(checksumOf(`${one}  tool.tgz\n${other}  debug/tool.tgz`, 'tool.tgz', 'sums').hash).toBe(one);
  });
  test.each([
    ['nothing', ''],
    ['a page', '<html><body>Not found</body></html>'],
    ['weak hashes', 'd41d8cd98f00b204e9800998ecf8427e  tool.tgz\nda39a3ee5e6b4b0d3255bfef95601890afd80709  tool.tgz'],
    ['a hash that is cut off', `${one.slice(0, 60)}  tool.tgz`],
    ['two bare hashes', `${one}\n${other}`],
  ])('%s', (_, text) => {
    expect(() => checksumOf(text, 'tool.tgz', 'sums')).toThrow(/not a list of sha256 or sha512/);
  });
});

describe('proofs', () => {
  const proofs: [string, ProofStrength][] = [
    ['sha256 list', { published: true, signed: false }],
    ['sha512 file', { published: true, signed: false }],
    [`sha256 list, signed by PGP 0x${'AB'.repeat(20)}`, { published: true, signed: true }],
    ['GitHub asset digest; signed by me (sigstore)', { published: true, signed: true }],
    [`signed by PGP 0x${'AB'.repeat(20)}`, { published: false, signed: true }],
    [FIRST_DOWNLOAD, { published: false, signed: false }],
    ['third-party pin: designed-by/somebody', { published: false, signed: false }],
    ['Go checksum database', { published: true, signed: false }],
    ['Debian archive index, signed by the archive key', { published: true, signed: true }],
  ];
  test.each(proofs)('%s', (text, expected) => {
    expect(proofStrength(parseProof(text))).toEqual(expected);
  });
});
