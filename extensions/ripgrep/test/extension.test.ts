import { testExtension, testRealUse } from '@flatcar/testing';

testExtension(import.meta.dirname, {
  small: true,
  commands: [{ run: ['rg', '--version'], says: 'version' }],
  machine: { answers: [{ run: 'rg --count "^Description=" /usr/lib/systemd/system/multi-user.target', says: /^1$/ }] },
});

testRealUse(import.meta.dirname, {
  small: true,
  uses: [
    { does: 'finds a line in a tree of files', run: 'mkdir a; echo hello >a/b; rg --no-heading hell', gives: 'a/b:hello' },
    { does: 'leaves out what `.gitignore` names', run: 'mkdir .git; echo x >.gitignore; echo y >x; echo y >z; rg y', gives: 'z:y' },
    { does: 'looks ahead by PCRE2 (`-P`)', run: "printf 'ab\\nac\\n' >f; rg -P 'a(?!b)' f", gives: 'ac' },
    {
      does: 'matches letters of Unicode without a locale',
      run: "printf '\\303\\211T\\303\\211\\n' >f; rg -i '^été$' f | rg -c '\\w{3}'",
      gives: '1',
    },
    { does: 'searches in compressed files (`-z`)', run: 'echo hello | gzip >f.gz; rg -z hell f.gz', gives: 'hello' },
    { does: 'searches in Latin-1 (`-E latin1`)', run: "printf 'caf\\351\\n' >f; rg -E latin1 café f", gives: 'café' },
    { does: 'searches in UTF-16 with a byte order mark', run: "printf '\\377\\376h\\0i\\0\\n\\0' >f; rg -c hi f", gives: '1' },
    { does: 'prints JSON', run: 'echo hi >f; rg --json hi f | grep -o \'"submatches"\'', gives: '"submatches"' },
  ],
});
