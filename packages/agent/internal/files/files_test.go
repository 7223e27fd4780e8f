package files

import (
	"os"
	"path/filepath"
	"testing"
)

func TestWriteAtomicReplacesAndLeavesNothingElse(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	path := filepath.Join(dir, "state")
	for _, text := range []string{"first", "second"} {
		if err := WriteAtomic(path, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(path); string(got) != text {
			t.Fatalf("got %q, want %q", got, text)
		}
	}
	info, _ := os.Stat(path)
	if info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v", info.Mode())
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("temporary files were left: %v", entries)
	}
}

func TestSymlinkReplacesALinkAndSurvivesAnInterruptedOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.raw")
	if err := os.Symlink("half", filepath.Join(filepath.Dir(path), ".x.raw.new")); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"/opt/a", "/opt/b"} {
		if err := Symlink(target, path); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.Readlink(path); got != target {
			t.Fatalf("got %q, want %q", got, target)
		}
	}
}

func TestReadLimited(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	os.WriteFile(path, []byte("12345"), 0o600)
	if got, err := ReadLimited(path, 5); err != nil || string(got) != "12345" {
		t.Errorf("%q %v", got, err)
	}
	if _, err := ReadLimited(path, 4); err == nil {
		t.Error("a file over the limit was read")
	}
	if _, err := ReadLimited(t.TempDir(), 4); err == nil {
		t.Error("a folder was read")
	}
}
