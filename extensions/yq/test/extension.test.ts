import { testExtension, testRealUse } from '@flatcar/testing';

testExtension(import.meta.dirname, {
  small: true,
  commands: [{ run: ['yq', '--version'], says: 'version' }],
});

testRealUse(import.meta.dirname, {
  small: true,
  uses: [
    { does: 'reads a value', run: "echo 'a: {b: [1, 2]}' | yq '.a.b[1]'", gives: '2' },
    {
      does: 'edits a file and keeps its comments (`-i`)',
      run: "printf '# of us\\na: 1 # one\\n' >f.yaml; yq -i '.a = 2 | .b = \"é\"' f.yaml; cat f.yaml",
      gives: '# of us\na: 2 # one\nb: é',
    },
    {
      does: 'merges files',
      run: "echo 'a: 1' >f; echo 'b: 2' >g; yq eval-all '. as $one ireduce ({}; . * $one)' f g",
      gives: 'a: 1\nb: 2',
    },
    { does: 'reads many documents of one file', run: "printf 'a: 1\\n---\\na: 2\\n' | yq -N .a", gives: '1\n2' },
    {
      does: 'converts JSON, XML, TOML and CSV',
      run: "echo '{\"a\": 1}' | yq -P; echo '<a>1</a>' | yq -p xml; echo 'a = 1' | yq -p toml -o json -I 0; printf 'a\\n1\\n' | yq -p csv -o json -I 0",
      gives: 'a: 1\na: "1"\n{"a":1}\n[{"a":1}]',
    },
    { does: 'takes values of the environment', run: "name=x yq -n '.a = strenv(name)'", gives: 'a: x' },
    { does: 'refuses what is not YAML', run: "echo 'a: [' | yq . 2>&1 || true", gives: /^Error: bad file/ },
  ],
});
