package delta

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func temp(t testing.TB, data []byte) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return file
}

type record struct {
	offset uint64
	data   []byte
}

func blocks(size int, records ...record) []byte {
	out := append([]byte(magic), binary.LittleEndian.AppendUint64(nil, uint64(size))...)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(records)))
	for _, one := range records {
		out = binary.LittleEndian.AppendUint64(out, one.offset)
		out = binary.LittleEndian.AppendUint32(out, uint32(len(one.data)))
		out = append(out, one.data...)
	}
	return out
}

func apply(t testing.TB, kind string, old, patch []byte, size int) ([]byte, error) {
	t.Helper()
	result := temp(t, nil)
	if err := Apply(kind, temp(t, old), bytes.NewReader(patch), int64(size), result); err != nil {
		return nil, err
	}
	return os.ReadFile(result.Name())
}

func TestBlocks(t *testing.T) {
	for _, test := range []struct{ old, patch, want string }{
		{"0123456789", string(blocks(10, record{2, []byte("ab")}, record{9, []byte("z")})), "01ab45678z"},
		{"0123456789", string(blocks(10)), "0123456789"},
	} {
		got, err := apply(t, Blocks, []byte(test.old), []byte(test.patch), len(test.want))
		if err != nil || string(got) != test.want {
			t.Errorf("%q: got %q %v", test.want, got, err)
		}
	}
}

func TestDamagedDeltasAreRefused(t *testing.T) {
	whole := blocks(10, record{2, []byte("ab")})
	for name, patch := range map[string][]byte{
		"empty":          nil,
		"cut off":        whole[:len(whole)-1],
		"without record": whole[:20],
		"outside":        blocks(10, record{9, []byte("ab")}),
		"far outside":    blocks(10, record{1 << 63, []byte("a")}),
		"another size":   blocks(11),
		"another magic":  append([]byte("FEXTBLK2"), whole[8:]...),
	} {
		if _, err := apply(t, Blocks, []byte("0123456789"), patch, 10); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, old := range []string{"012345678", "0123456789a"} {
		if _, err := apply(t, Blocks, []byte(old), whole, 10); !errors.Is(err, ErrFormat) {
			t.Errorf("an old image of %d bytes: %v", len(old), err)
		}
	}
	if _, err := apply(t, Zstd, []byte("0123456789"), []byte("no frame"), 10); !errors.Is(err, ErrFormat) {
		t.Errorf("zstd: %v", err)
	}
	if _, err := apply(t, "bsdiff", []byte("0"), nil, 1); !errors.Is(err, ErrFormat) {
		t.Errorf("unknown kind: %v", err)
	}
}

// What the zstd tool makes, this program reads: a patch of random bytes is small only if the old image was used as a dictionary.
func TestPatchesOfTheZstdTool(t *testing.T) {
	if _, err := exec.LookPath("zstd"); err != nil {
		t.Skip("no zstd tool on this machine")
	}
	random := rand.New(rand.NewPCG(1, 2))
	old := make([]byte, 12<<20)
	for i := range old {
		old[i] = byte(random.Uint32())
	}
	// A block moves, bytes change, and the end is new.
	changed := bytes.Join([][]byte{old[5<<20:], old[:5<<20], []byte("the end")}, nil)
	copy(changed[1<<20:], "changed")
	dir := t.TempDir()
	os.WriteFile(filepath.Join(dir, "old"), old, 0o600)
	os.WriteFile(filepath.Join(dir, "new"), changed, 0o600)
	command := exec.Command("zstd", "-q", "-3", "--long=27", "--patch-from=old", "new", "-o", "patch")
	command.Dir = dir
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	patch, _ := os.ReadFile(filepath.Join(dir, "patch"))
	if len(patch) > 1<<20 {
		t.Fatalf("the patch has %d bytes", len(patch))
	}
	got, err := apply(t, Zstd, old, patch, len(changed))
	if err != nil || !bytes.Equal(got, changed) {
		t.Errorf("other bytes: %v", err)
	}
	if _, err := apply(t, Zstd, old, patch, len(changed)-1); !errors.Is(err, ErrFormat) {
		t.Errorf("a result that is longer than the image: %v", err)
	}
}

func FuzzBlocks(f *testing.F) {
	f.Add(blocks(10, record{2, []byte("ab")}, record{9, []byte("z")}))
	f.Add(blocks(1 << 20))
	f.Fuzz(func(t *testing.T, patch []byte) {
		got, err := apply(t, Blocks, []byte("0123456789"), patch, 10)
		if err == nil && len(got) != 10 {
			t.Errorf("%d bytes", len(got))
		}
	})
}
