package journal

import (
	"os"
	"path/filepath"
	"testing"
)

func TestUpdatesSurviveARestart(t *testing.T) {
	root := t.TempDir()
	journal, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	if err := journal.Update(func(s *State) { s.Trials["yq"] = Trial{Image: "a"} }); err != nil {
		t.Fatal(err)
	}
	again, err := Open(root)
	if err != nil || again.State.Trials["yq"].Image != "a" {
		t.Errorf("%+v %v", again, err)
	}
}

func TestAFailedUpdateChangesNothing(t *testing.T) {
	root := t.TempDir()
	journal, _ := Open(root)
	// A folder where the lock must be: it cannot be opened, as root neither.
	os.MkdirAll(filepath.Join(root, Path+".lock"), 0o755)
	if err := journal.Update(func(s *State) { s.Running = "4593.2.5" }); err == nil {
		t.Error("no error")
	}
	if journal.State.Running != "" {
		t.Error("the state in memory changed")
	}
}

func TestADamagedJournalIsSetAside(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, Path)
	os.MkdirAll(filepath.Dir(path), 0o755)
	os.WriteFile(path, []byte("{\"trials\":"), 0o600)
	journal, err := Open(root)
	if err != nil || len(journal.State.Trials) != 0 {
		t.Fatalf("%+v %v", journal, err)
	}
	if _, err := os.Stat(path + ".damaged"); err != nil {
		t.Error(err)
	}
	if err := journal.Update(func(s *State) { s.Refused["x"] = Refusal{} }); err != nil {
		t.Error(err)
	}
}

func FuzzOpen(f *testing.F) {
	f.Add([]byte(`{"trials":{"yq":{"attempts":1}},"former":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		root := t.TempDir()
		path := filepath.Join(root, Path)
		os.MkdirAll(filepath.Dir(path), 0o755)
		os.WriteFile(path, data, 0o600)
		journal, err := Open(root)
		if err != nil {
			t.Fatal(err)
		}
		if err := journal.Update(func(s *State) { s.Former["a"] = "b" }); err != nil {
			t.Fatal(err)
		}
	})
}

func TestProcessesDoNotOverwriteEachOther(t *testing.T) {
	root := t.TempDir()
	one, _ := Open(root)
	two, _ := Open(root)
	if err := one.Update(func(s *State) { s.Former["a"] = "1" }); err != nil {
		t.Fatal(err)
	}
	if err := two.Update(func(s *State) { s.Former["b"] = "2" }); err != nil {
		t.Fatal(err)
	}
	if len(two.State.Former) != 2 {
		t.Errorf("%v", two.State.Former)
	}
}
