package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func load(t *testing.T, contents map[string]string) (Config, error) {
	t.Helper()
	root := t.TempDir()
	for name, text := range contents {
		path := filepath.Join(root, name)
		os.MkdirAll(filepath.Dir(path), 0o755)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return Load(root)
}

func TestDropInsOverrideSingleKeys(t *testing.T) {
	config, err := load(t, map[string]string{
		File:                 "tree = 'https://example.org/tree'\nparallel = 2\n[extensions.kubernetes]\nchannel = '1.36'\nhold = '2h'\n[extensions.yq]\n",
		DropIns + "/10.toml": "apply = 'refresh'\n[extensions.kubernetes]\nchannel = '1.37'\n",
		DropIns + "/readme":  "not TOML",
	})
	if err != nil {
		t.Fatal(err)
	}
	if config.Tree != "https://example.org/tree" || config.Parallel != 2 || config.Apply != Refresh {
		t.Errorf("%+v", config)
	}
	kubernetes := config.Extensions["kubernetes"]
	if kubernetes.Channel != "1.37" || kubernetes.Hold.For != 2*time.Hour || kubernetes.Source != DropIns+"/10.toml" {
		t.Errorf("%+v", kubernetes)
	}
	if yq, ok := config.Extensions["yq"]; !ok || yq.Hold != nil {
		t.Errorf("%+v", yq)
	}
}

func TestWithoutFilesTheDefaultsApply(t *testing.T) {
	config, err := load(t, nil)
	if err != nil || config.Parallel != 4 || config.Apply != Reboot || config.Tree != "" {
		t.Errorf("%+v %v", config, err)
	}
}

func TestErrorsNameFileAndLine(t *testing.T) {
	for text, want := range map[string]string{
		"tree = 'https://x'\nchanel = 1":       File + ": line 2: unknown setting \"chanel\"",
		"[extensions.yq]\nchannel = 3":         File + ": line 2: ",
		"tree = ":                              File + ": line 1: ",
		"tree = 'ftp://x'":                     "is not the URL of a tree",
		"parallel = 0":                         "between 1 and 64",
		"apply = 'now'":                        "apply: \"now\"",
		"[extensions.Yq]":                      "not a valid extension name",
		"[extensions.yq]\nchannel = '../1'":    "extensions.yq.channel",
		"[extensions.yq]\nhold = 'tomorrow'":   "is not a time to hold a reboot",
		"[extensions.yq]\ntarget = 'both'":     "extensions.yq.target",
		"reboot-windows = ['Sat 25:00-26:00']": "is not a time of the week",
		"root = 'root.json'":                   "not an absolute path",
	} {
		_, err := load(t, map[string]string{File: text})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

func TestWindows(t *testing.T) {
	moment := func(text string) time.Time {
		at, err := time.Parse("2006-01-02 15:04", text)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	for _, test := range []struct {
		window, at string
		want       bool
	}{
		{"Sat 02:00-05:00", "2026-11-28 02:00", true},
		{"Sat 02:00-05:00", "2026-11-28 05:00", false},
		{"Sat 02:00-05:00", "2026-11-27 03:00", false},
		{"Fri 23:00-01:00", "2026-11-28 00:59", true},
		{"Fri 23:00-01:00", "2026-11-27 00:30", false},
		{"Sat-Mon 10:00-11:00", "2026-11-29 10:30", true},
		{"Sat-Mon,Wed 10:00-11:00", "2026-12-02 10:30", true},
		{"03:00-04:00", "2026-11-24 03:59", true},
	} {
		var window Window
		if err := window.UnmarshalText([]byte(test.window)); err != nil {
			t.Fatal(err)
		}
		if got := window.Contains(moment(test.at)); got != test.want {
			t.Errorf("%s contains %s: %v", test.window, test.at, got)
		}
	}
}

func TestInstallRecordsWhatLoadReads(t *testing.T) {
	config, err := load(t, map[string]string{DropIn("yq"): DropInText("yq", "4.2")})
	if err != nil || config.Extensions["yq"].Channel != "4.2" {
		t.Errorf("%+v %v", config, err)
	}
}

func FuzzMerge(f *testing.F) {
	f.Add([]byte("tree = 'https://x'\n[extensions.yq]\nhold = 'forever'\n"))
	f.Add([]byte("reboot-windows = ['Sat 02:00-05:00']"))
	f.Fuzz(func(t *testing.T, data []byte) {
		config := Defaults()
		if merge(&config, data, File) == nil {
			_ = validate(config)
		}
	})
}
