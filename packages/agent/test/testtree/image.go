package testtree

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"fmt"
	"io"
	"strings"
)

// alpha is a squashfs of mksquashfs, without compression: its release file is replaced here, as bind does.
//
//go:embed testdata/alpha.squashfs.gz
var alpha []byte

// Squashfs is an image that says of itself what is given. The name has five letters, as in the file that is embedded.
func Squashfs(name, version, target, arch string) []byte {
	unpacked, err := gzip.NewReader(bytes.NewReader(alpha))
	if err != nil {
		panic(err)
	}
	data, err := io.ReadAll(unpacked)
	if err != nil || len(name) != 5 {
		panic(fmt.Sprint(err, name))
	}
	text := "ID=_any\n"
	if target != "portable" {
		text = fmt.Sprintf("ID=flatcar\nVERSION_ID=%s\n", target)
	}
	text += fmt.Sprintf("ARCHITECTURE=%s\nSYSEXT_ID=%s\nSYSEXT_VERSION_ID=%s\n", arch, name, version)
	text += strings.Repeat("\n", 4096-len(text))
	data = bytes.ReplaceAll(data, []byte("extension-release.alpha"), []byte("extension-release."+name))
	start := bytes.Index(data, []byte("ID=RELEASEBLOCK"))
	copy(data[start:], text)
	return data
}

// Add adds a squashfs image of an extension for this architecture.
func (tree *Tree) Add(name, version, target, arch string) {
	tree.t.Helper()
	tree.Image(name, version, target, arch, Squashfs(name, version, target, arch))
}
