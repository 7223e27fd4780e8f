package image

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// testdata has images that flatcar-ext built, and two of plain mksquashfs whose release file is in a fragment.
func fixture(t testing.TB, name string) []byte {
	t.Helper()
	file, err := os.Open(filepath.Join("testdata", name+".gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	unpacked, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(unpacked)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func write(t testing.TB, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image.raw")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

var expected = map[string]Expected{
	"portable.squashfs": {Name: "extension-stager", Kind: "sysext", Version: "2026.11.27", Architecture: "x86-64", Target: "portable"},
	"bound.squashfs":    {Name: "extension-stager", Kind: "sysext", Version: "2026.11.27", Architecture: "x86-64", Target: "4593.2.5"},
	"bound.ddi":         {Name: "extension-stager", Kind: "sysext", Version: "2026.11.27", Architecture: "x86-64", Target: "4757.1.0"},
}

func TestCheckAcceptsWhatWasBuilt(t *testing.T) {
	for name, want := range expected {
		if err := Check(write(t, fixture(t, name)), want); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestConfextsHaveTheirOwnReleaseFile(t *testing.T) {
	release, err := ReadRelease(write(t, fixture(t, "confext.squashfs")), "hardening", "confext")
	if err != nil || release["CONFEXT_ID"] != "hardening" || release["ID"] != "_any" {
		t.Errorf("%v %v", release, err)
	}
}

func TestCheckRefusesAnotherImage(t *testing.T) {
	for name, image := range expected {
		for what, change := range map[string]func(*Expected){
			"name":         func(e *Expected) { e.Name = "kubernetes" },
			"version":      func(e *Expected) { e.Version = "2026.11.28" },
			"architecture": func(e *Expected) { e.Architecture = "arm64" },
			"release":      func(e *Expected) { e.Target = "4593.2.4" },
			"kind":         func(e *Expected) { e.Kind = "confext" },
		} {
			want := image
			change(&want)
			if Check(write(t, fixture(t, name)), want) == nil {
				t.Errorf("%s was accepted with another %s", name, what)
			}
		}
	}
}

func TestReleaseFilesInFragments(t *testing.T) {
	for _, name := range []string{"gzip.squashfs", "fragment.squashfs"} {
		release, err := ReadRelease(write(t, fixture(t, name)), "other", "sysext")
		if err != nil || release["ID"] != "flatcar" || release["ARCHITECTURE"] != "x86-64" {
			t.Errorf("%s: %v %v", name, release, err)
		}
	}
}

func TestDamagedImages(t *testing.T) {
	for name := range expected {
		whole := fixture(t, name)
		for _, length := range []int{0, 100, 1028, 4000} {
			if _, err := ReadRelease(write(t, whole[:length]), "extension-stager", "sysext"); !errors.Is(err, ErrFormat) {
				t.Errorf("%s cut to %d bytes: %v", name, length, err)
			}
		}
	}
	if _, err := ReadRelease(write(t, bytes.Repeat([]byte("x"), 1<<16)), "yq", "sysext"); !errors.Is(err, ErrFormat) {
		t.Error("a file that is not an image was read")
	}
}

func TestQuotedValues(t *testing.T) {
	release := parseRelease("ID='flatcar'\nVERSION_ID=\"4593.2.5\"\n# ID=x\n\n\nlower=1\n")
	if release["ID"] != "flatcar" || release["VERSION_ID"] != "4593.2.5" || len(release) != 2 {
		t.Errorf("%v", release)
	}
}

// The reader ends with a result or an error, whatever it is given.
func FuzzReadFile(f *testing.F) {
	path := releasePath("extension-stager", "sysext")
	names, _ := filepath.Glob("testdata/*.squashfs.gz")
	for _, name := range names {
		f.Add(fixture(f, strings.TrimSuffix(filepath.Base(name), ".gz")))
	}
	disk := fixture(f, "bound.ddi")
	start, length, err := rootPartition(bytes.NewReader(disk), int64(len(disk)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(disk[:20<<10])
	f.Add(disk[start:][:min(length, 64<<10)])
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = readFile(bytes.NewReader(data), int64(len(data)), path)
	})
}
