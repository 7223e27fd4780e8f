package index

import (
	"encoding/json"

	"strings"
	"testing"
)

const sha = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func image(target, arch, digest string) Image {
	return Image{Target: target, Architecture: arch, File: File{Path: "yq/" + target + "/yq.raw", Size: 1, SHA256: strings.Repeat(digest, 64)}}
}

func extension() Extension {
	return Extension{Schema: 1, Name: "yq", Kind: "sysext", Versions: []Version{
		{Version: "4.3.1", Withdrawn: &Withdrawn{Reason: "crashes", By: "4.3.1-1"}, Images: []Image{image("portable", "x86-64", "1")}},
		{Version: "4.3.1-1", Images: []Image{image("4593.2.5", "x86-64", "2")}},
		{Version: "4.3.0", Images: []Image{image("portable", "x86-64", "3"), image("4593.2.5", "x86-64", "4"), image("4593.2.5", "arm64", "5")},
			Needs: map[string]Needs{"x86-64": {Systemd: "254"}}},
		{Version: "4.2.9", Images: []Image{image("portable", "x86-64", "6"), image("4757.1.0", "x86-64", "7")}},
	}}
}

func parsed(t *testing.T) Extension {
	t.Helper()
	data, _ := json.Marshal(extension())
	one, err := ParseExtension(data, "yq")
	if err != nil {
		t.Fatal(err)
	}
	return one
}

func TestChoose(t *testing.T) {
	for name, test := range map[string]struct {
		query       Query
		want, error string
	}{
		"newest of the release":     {query: Query{Release: "4593.2.5", Channel: "latest"}, want: "2"},
		"portable before bound":     {query: Query{Release: "4593.2.5", Channel: "4.3.0"}, want: "3"},
		"bound if asked for":        {query: Query{Release: "4593.2.5", Channel: "4.3.0", Target: "release"}, want: "4"},
		"portable elsewhere":        {query: Query{Channel: "latest"}, want: "3"},
		"a branch":                  {query: Query{Release: "4757.1.0", Channel: "4.2"}, want: "6"},
		"old systemd":               {query: Query{Channel: "latest", Systemd: 252}, want: "6"},
		"refused digests":           {query: Query{Release: "4593.2.5", Channel: "latest", Refused: map[string]bool{strings.Repeat("2", 64): true}}, want: "3"},
		"architecture":              {query: Query{Release: "4593.2.5", Channel: "latest", Architecture: "arm64"}, want: "5"},
		"nothing older":             {query: Query{Release: "4757.1.0", Channel: "latest", AtLeast: "4.3.1-1"}, error: "older than the installed 4.3.1-1"},
		"withdrawn":                 {query: Query{Release: "4593.2.4", Channel: "4.3.1"}, error: "withdrawn: crashes"},
		"no version in the channel": {query: Query{Channel: "5"}, error: `no version is in channel "5"`},
		"no image of the release":   {query: Query{Release: "4593.2.4", Channel: "4.3.0", Target: "release"}, error: "no image for Flatcar 4593.2.4 on x86-64"},
	} {
		if test.query.Architecture == "" {
			test.query.Architecture = "x86-64"
		}
		choice, err := parsed(t).Choose(test.query)
		switch {
		case test.error != "" && (err == nil || !strings.Contains(err.Error(), test.error)):
			t.Errorf("%s: got %v, want %q", name, err, test.error)
		case test.error == "" && (err != nil || choice.Image.SHA256 != strings.Repeat(test.want, 64)):
			t.Errorf("%s: got %v %v, want %s", name, choice.Image, err, test.want)
		}
	}
}

func TestHostileIndexes(t *testing.T) {
	for change, want := range map[string]string{
		`"path":"yq/portable/yq.raw"`: `"path":"../../etc/passwd"`,
		`"name":"yq"`:                 `"name":"jq"`,
		`"kind":"sysext"`:             `"kind":"other"`,
		`"size":1`:                    `"size":-1`,
		`"target":"4757.1.0"`:         `"target":"../x"`,
		`"version":"4.2.9"`:           `"version":"../../4"`,
		`"schema":1`:                  `"schema":2`,
		strings.Repeat("6", 64):       "6",
	} {
		data, _ := json.Marshal(extension())
		changed := strings.Replace(string(data), change, want, 1)
		if changed == string(data) {
			t.Fatalf("%s is not in the index", change)
		}
		if _, err := ParseExtension([]byte(changed), "yq"); err == nil {
			t.Errorf("%s was accepted", want)
		}
	}
}

func TestParse(t *testing.T) {
	text := `{"schema":1,"serial":7,"extensions":[{"name":"yq","summary":"","newest":"4","path":"yq/index-1.json","size":3,"sha256":"` + sha + `"}],"later":true}`
	index, err := Parse([]byte(text))
	if err != nil || index.Serial != 7 {
		t.Fatalf("%+v %v", index, err)
	}
	if entry, ok := index.Entry("yq"); !ok || entry.Path != "yq/index-1.json" {
		t.Errorf("%+v %v", entry, ok)
	}
	if _, ok := index.Entry("jq"); ok {
		t.Error("an extension that is not listed was found")
	}
	if _, err := Parse([]byte(strings.Replace(text, `"schema":1`, `"schema":9`, 1))); err == nil || !strings.Contains(err.Error(), "update extension-agent") {
		t.Errorf("a later schema: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	data, _ := json.Marshal(extension())
	f.Add(data)
	f.Add([]byte(`{"schema":1,"extensions":[{"name":"yq"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = Parse(data)
		if one, err := ParseExtension(data, "yq"); err == nil {
			_, _ = one.Choose(Query{Channel: "latest", Architecture: "x86-64", Release: "4593.2.5"})
		}
	})
}
