package metadata

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	tuf "github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/flatcar/extensions/packages/agent/internal/fetch"
	"github.com/flatcar/extensions/packages/agent/test/testtree"
)

func setUp(t *testing.T) (*testtree.Tree, *Client) {
	t.Helper()
	tree := testtree.New(t)
	tree.Image("yq", "4.1.0", "portable", "x86-64", []byte("one"))
	tree.Publish()
	http := fetch.New()
	http.Stall = time.Second
	return tree, &Client{Tree: tree.URL, Root: tree.Root(), Dir: t.TempDir(), Fetch: http, Now: time.Now}
}

func TestRefreshReturnsTheIndexAndRemembersIt(t *testing.T) {
	tree, client := setUp(t)
	for range 2 {
		result, err := client.Refresh(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := result.Index.Entry("yq"); !ok || result.Version != 1 || result.Expires.Before(time.Now()) {
			t.Errorf("%+v", result)
		}
	}
	tree.Image("yq", "4.2.0", "portable", "x86-64", []byte("two"))
	tree.Publish()
	if result, err := client.Refresh(t.Context()); err != nil || result.Index.Serial != 2 {
		t.Errorf("%+v %v", result, err)
	}
}

// Each attack on a tree that the node has seen once (version 2), by whoever has the server or the network but no key.
func TestAttacks(t *testing.T) {
	for name, test := range map[string]struct {
		attack func(t *testing.T, tree *testtree.Tree, client *Client, old map[string][]byte)
		want   string
	}{
		"rollback of everything": {func(t *testing.T, tree *testtree.Tree, _ *Client, old map[string][]byte) {
			for path, data := range old {
				tree.Write(path, data)
			}
		}, "older than what this node has seen"},
		"freeze": {func(t *testing.T, tree *testtree.Tree, client *Client, _ map[string][]byte) {
			client.Now = func() time.Time { return time.Now().Add(8 * 24 * time.Hour) }
		}, "has expired"},
		"mix and match: an old index under the new metadata": {func(t *testing.T, tree *testtree.Tree, client *Client, old map[string][]byte) {
			os.RemoveAll(client.folder())
			paths, _ := filepath.Glob(filepath.Join(tree.Dir, "*.index.json"))
			for _, path := range paths {
				os.WriteFile(path, old["index"], 0o600)
			}
		}, "mismatch"},
		"old snapshot under the new timestamp": {func(t *testing.T, tree *testtree.Tree, client *Client, old map[string][]byte) {
			os.RemoveAll(client.folder())
			tree.Write("metadata/2.snapshot.json", tree.Read("metadata/1.snapshot.json"))
		}, "older than what this node has seen"},
		"changed bytes in the timestamp": {func(t *testing.T, tree *testtree.Tree, client *Client, _ map[string][]byte) {
			os.RemoveAll(client.folder())
			tree.Write("metadata/timestamp.json", bytes.Replace(tree.Read("metadata/timestamp.json"), []byte(`"version":2`), []byte(`"version":9`), 2))
		}, "wrong signature"},
		"another tree, signed by other keys": {func(t *testing.T, tree *testtree.Tree, client *Client, _ map[string][]byte) {
			other := testtree.New(t)
			other.Image("yq", "9.9.9", "portable", "x86-64", []byte("evil"))
			for range 3 {
				other.Publish()
			}
			client.Tree = other.URL
		}, "wrong signature"},
		"a new root with one of the two signatures": {func(t *testing.T, tree *testtree.Tree, _ *Client, _ map[string][]byte) {
			tree.NextRoot()
			tree.WriteRoot(tree.RootKeys()[0])
		}, "wrong signature"},
		"endless timestamp": {func(t *testing.T, tree *testtree.Tree, _ *Client, _ map[string][]byte) {
			tree.Handler = func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, "timestamp.json") {
					return false
				}
				for r.Context().Err() == nil {
					if _, err := w.Write(make([]byte, 1<<16)); err != nil {
						break
					}
				}
				return true
			}
		}, "longer than expected"},
		"slow retrieval": {func(t *testing.T, tree *testtree.Tree, client *Client, _ map[string][]byte) {
			client.Fetch.Stall = 50 * time.Millisecond
			tree.Handler = func(w http.ResponseWriter, r *http.Request) bool {
				w.Write([]byte("{"))
				w.(http.Flusher).Flush()
				<-r.Context().Done()
				return true
			}
		}, "sent nothing for too long"},
		"nothing served": {func(t *testing.T, tree *testtree.Tree, _ *Client, _ map[string][]byte) {
			os.RemoveAll(filepath.Join(tree.Dir, "metadata"))
		}, "no published tree"},
	} {
		t.Run(name, func(t *testing.T) {
			tree, client := setUp(t)
			old := map[string][]byte{"metadata/timestamp.json": tree.Read("metadata/timestamp.json")}
			paths, _ := filepath.Glob(filepath.Join(tree.Dir, "*.index.json"))
			old["index"], _ = os.ReadFile(paths[0])
			tree.Image("yq", "4.2.0", "portable", "x86-64", []byte("two"))
			tree.Publish()
			if _, err := client.Refresh(t.Context()); err != nil {
				t.Fatalf("the control failed: %v", err)
			}
			test.attack(t, tree, client, old)
			result, err := client.Refresh(t.Context())
			if err == nil {
				t.Fatalf("accepted: %+v", result)
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %q, want %q", err, test.want)
			}
		})
	}
}

func TestKeysRotateAndARevokedKeyStaysRevoked(t *testing.T) {
	tree, client := setUp(t)
	old := map[string][]byte{}
	for _, path := range []string{"metadata/timestamp.json", "metadata/1.snapshot.json"} {
		old[path] = tree.Read(path)
	}
	tree.RotateKey(tuf.TIMESTAMP)
	tree.Publish()
	if result, err := client.Refresh(t.Context()); err != nil || result.Version != 2 {
		t.Fatalf("%+v %v", result, err)
	}
	// An attacker with the revoked key withholds the new root.
	os.Remove(filepath.Join(tree.Dir, "metadata", "2.root.json"))
	for path, data := range old {
		tree.Write(path, data)
	}
	if _, err := client.Refresh(t.Context()); err == nil || !strings.Contains(err.Error(), "wrong signature") {
		t.Errorf("the revoked key was accepted: %v", err)
	}
}

func TestDamagedMemoryIsReplaced(t *testing.T) {
	_, client := setUp(t)
	if _, err := client.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"root", "timestamp", "snapshot", "targets"} {
		os.WriteFile(filepath.Join(client.folder(), name+".json"), nil, 0o600)
	}
	if _, err := client.Refresh(t.Context()); err != nil {
		t.Error(err)
	}
}
