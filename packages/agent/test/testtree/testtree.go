// Package testtree makes and serves published trees for tests, with go-tuf's own metadata.
package testtree

import (
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	tuf "github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/flatcar/extensions/packages/agent/internal/index"
)

// Tree is a tree in a folder, its keys, and the server that serves it.
type Tree struct {
	t    testing.TB
	Dir  string
	URL  string
	keys map[string][]ed25519.PrivateKey
	// Handler is asked first; it returns true if it has answered.
	Handler func(http.ResponseWriter, *http.Request) bool
	root    *tuf.Metadata[tuf.RootType]
	version int64
	// Expires is when timestamps of later publishes expire.
	Expires time.Time
	// Extensions are what the next publish lists, by name.
	Extensions map[string]*index.Extension
}

// New makes an empty tree with fresh keys: root with two of three keys, one key for each other role.
func New(t testing.TB) *Tree {
	t.Helper()
	tree := &Tree{t: t, Dir: t.TempDir(), keys: map[string][]ed25519.PrivateKey{}, Extensions: map[string]*index.Extension{}}
	tree.Expires = time.Now().Add(7 * 24 * time.Hour)
	files := http.FileServer(http.Dir(tree.Dir))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if tree.Handler == nil || !tree.Handler(w, r) {
			files.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(server.Close)
	tree.URL = server.URL
	tree.root = tuf.Root(time.Now().Add(365 * 24 * time.Hour))
	for _, role := range tuf.TOP_LEVEL_ROLE_NAMES {
		count := 1
		if role == tuf.ROOT {
			count = 3
		}
		for range count {
			tree.addKey(role)
		}
	}
	tree.root.Signed.Roles[tuf.ROOT].Threshold = 2
	tree.WriteRoot(tree.keys[tuf.ROOT]...)
	return tree
}

func (tree *Tree) must(err error) {
	tree.t.Helper()
	if err != nil {
		tree.t.Fatal(err)
	}
}

func (tree *Tree) addKey(role string) {
	_, private, err := ed25519.GenerateKey(nil)
	tree.must(err)
	key, err := tuf.KeyFromPublicKey(private.Public())
	tree.must(err)
	tree.must(tree.root.Signed.AddKey(key, role))
	tree.keys[role] = append(tree.keys[role], private)
}

// RotateKey replaces the key of a role in a new version of the root.
func (tree *Tree) RotateKey(role string) {
	for _, id := range append([]string{}, tree.root.Signed.Roles[role].KeyIDs...) {
		tree.must(tree.root.Signed.RevokeKey(id, role))
	}
	tree.keys[role] = nil
	tree.addKey(role)
	tree.root.Signed.Version++
	tree.WriteRoot(tree.keys[tuf.ROOT]...)
}

// WriteRoot signs the root with some of its keys and writes it.
func (tree *Tree) WriteRoot(keys ...ed25519.PrivateKey) {
	tree.root.ClearSignatures()
	sign(tree, tree.root, keys)
	tree.Write(fmt.Sprintf("metadata/%d.root.json", tree.root.Signed.Version), bytesOf(tree, tree.root))
}

// RootKeys are the keys of the root.
func (tree *Tree) RootKeys() []ed25519.PrivateKey { return tree.keys[tuf.ROOT] }

// NextRoot raises the version of the root, which WriteRoot then signs.
func (tree *Tree) NextRoot() { tree.root.Signed.Version++ }

// Root is the first root metadata, as an operator gets it.
func (tree *Tree) Root() []byte { return tree.Read("metadata/1.root.json") }

func sign[T tuf.Roles](tree *Tree, metadata *tuf.Metadata[T], keys []ed25519.PrivateKey) {
	for _, key := range keys {
		signer, err := signature.LoadSigner(key, crypto.Hash(0))
		tree.must(err)
		_, err = metadata.Sign(signer)
		tree.must(err)
	}
}

func bytesOf[T tuf.Roles](tree *Tree, metadata *tuf.Metadata[T]) []byte {
	data, err := metadata.ToBytes(false)
	tree.must(err)
	return data
}

// Write writes a file of the tree.
func (tree *Tree) Write(path string, data []byte) {
	tree.t.Helper()
	whole := filepath.Join(tree.Dir, path)
	tree.must(os.MkdirAll(filepath.Dir(whole), 0o755))
	tree.must(os.WriteFile(whole, data, 0o644))
}

// Read reads a file of the tree.
func (tree *Tree) Read(path string) []byte {
	tree.t.Helper()
	data, err := os.ReadFile(filepath.Join(tree.Dir, path))
	tree.must(err)
	return data
}

// FileOf describes a file by its content.
func FileOf(path string, data []byte) index.File {
	sum := sha256.Sum256(data)
	return index.File{Path: path, Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:])}
}

// Image adds an image to a version of an extension; both are created as needed. The next Publish lists it.
func (tree *Tree) Image(name, version, target, arch string, data []byte) index.Image {
	path := fmt.Sprintf("%s/%s/%s.%s_%s_%s.raw", name, target, name, target, version, arch)
	tree.Write(path, data)
	image := index.Image{Target: target, Architecture: arch, File: FileOf(path, data)}
	extension := tree.Extensions[name]
	if extension == nil {
		extension = &index.Extension{Schema: index.Schema, Name: name, Kind: "sysext", Follow: "latest"}
		tree.Extensions[name] = extension
	}
	for i := range extension.Versions {
		if extension.Versions[i].Version == version {
			extension.Versions[i].Images = append(extension.Versions[i].Images, image)
			return image
		}
	}
	extension.Versions = append([]index.Version{{Version: version, Images: []index.Image{image}}}, extension.Versions...)
	return image
}

// Publish writes the indexes and the metadata of a new version of the tree.
func (tree *Tree) Publish() {
	tree.t.Helper()
	tree.version++
	list := index.Index{Schema: index.Schema, Serial: tree.version}
	for name, extension := range tree.Extensions {
		data, err := json.Marshal(extension)
		tree.must(err)
		file := FileOf("", data)
		file.Path = fmt.Sprintf("%s/index-%s.json", name, file.SHA256)
		tree.Write(file.Path, data)
		list.Extensions = append(list.Extensions, index.Entry{Name: name, Newest: extension.Versions[0].Version, File: file})
	}
	data, err := json.Marshal(list)
	tree.must(err)
	tree.PublishIndex(data)
}

// PublishIndex writes the metadata of an index.
func (tree *Tree) PublishIndex(data []byte) {
	file := FileOf("index.json", data)
	tree.Write(file.SHA256+".index.json", data)
	target, err := tuf.TargetFile().FromBytes("index.json", data)
	tree.must(err)
	year := time.Now().Add(365 * 24 * time.Hour)

	targets := tuf.Targets(year)
	targets.Signed.Version = tree.version
	targets.Signed.Targets["index.json"] = target
	sign(tree, targets, tree.keys[tuf.TARGETS])
	tree.Write(fmt.Sprintf("metadata/%d.targets.json", tree.version), bytesOf(tree, targets))

	snapshot := tuf.Snapshot(year)
	snapshot.Signed.Version = tree.version
	snapshot.Signed.Meta["targets.json"] = tuf.MetaFile(tree.version)
	sign(tree, snapshot, tree.keys[tuf.SNAPSHOT])
	tree.Write(fmt.Sprintf("metadata/%d.snapshot.json", tree.version), bytesOf(tree, snapshot))

	timestamp := tuf.Timestamp(tree.Expires)
	timestamp.Signed.Version = tree.version
	timestamp.Signed.Meta["snapshot.json"] = tuf.MetaFile(tree.version)
	sign(tree, timestamp, tree.keys[tuf.TIMESTAMP])
	tree.Write("metadata/timestamp.json", bytesOf(tree, timestamp))
}
