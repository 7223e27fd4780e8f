// Package index reads the lists of a published tree: index.json and the index of each extension (packages/publish/src/tree/schema.ts).
// The caller has checked their digests.
package index

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"

	"github.com/flatcar/extensions/packages/agent/internal/config"
	"github.com/flatcar/extensions/packages/agent/internal/version"
)

// Schema is the newest schema that this program reads.
const Schema = 1

// MaxSize bounds each index, in bytes.
const MaxSize = 32 << 20

// maxImage bounds the size of an image, in bytes: what a wrong index can make a node fetch.
const maxImage = 16 << 30

// Index is the list of all extensions.
type Index struct {
	Schema     int     `json:"schema"`
	Serial     int64   `json:"serial"`
	Extensions []Entry `json:"extensions"`
}

// Entry is an extension with the file of its own index.
type Entry struct {
	Name    string `json:"name"`
	Summary string `json:"summary"`
	Newest  string `json:"newest"`
	File
}

// File is a file of the tree.
type File struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Extension has all that is published of one extension.
type Extension struct {
	Schema int    `json:"schema"`
	Name   string `json:"name"`
	// Kind is "sysext" or "confext".
	Kind    string `json:"kind"`
	Summary string `json:"summary"`
	// Essential: nodes hold a reboot for as long as an image is missing.
	Essential bool `json:"essential"`
	// Follow is the recommended channel: "latest", or "minor" for the branch of the version that was installed first.
	Follow string `json:"follow"`
	// Versions are sorted newest first.
	Versions []Version `json:"versions"`
}

// Version is one version with its images.
type Version struct {
	Version   string           `json:"version"`
	Needs     map[string]Needs `json:"needs"`
	Replaces  []string         `json:"replaces"`
	Conflicts []string         `json:"conflicts"`
	Requires  []string         `json:"requires"`
	Withdrawn *Withdrawn       `json:"withdrawn"`
	Images    []Image          `json:"images"`
}

// Needs has the oldest host that a version runs on.
type Needs struct {
	Systemd string `json:"systemd"`
}

// Withdrawn says why a version must no longer be used.
type Withdrawn struct {
	Reason string `json:"reason"`
	By     string `json:"by"`
}

// Portable is the target of images for any distribution.
const Portable = "portable"

// Image is one image file.
type Image struct {
	// Target is "portable" or a Flatcar release.
	Target       string  `json:"target"`
	Architecture string  `json:"architecture"`
	Deltas       []Delta `json:"deltas"`
	File
}

// Delta makes an image from another one that a node may have.
type Delta struct {
	// Kind is "blocks" or "zstd"; an unknown kind is skipped.
	Kind string `json:"kind"`
	// From is the digest of the image that it changes.
	From string `json:"from"`
	File
}

var (
	plainPath = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]*(?:/[A-Za-z0-9][A-Za-z0-9._+-]*)*$`)
	digest    = regexp.MustCompile(`^[0-9a-f]{64}$`)
	plainWord = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z.+-]{0,63}$`)
)

func (f File) check(where string, limit int64) error {
	switch {
	case len(f.Path) > 1024 || !plainPath.MatchString(f.Path):
		return fmt.Errorf("%s: path: %q is not a plain path within the tree", where, f.Path)
	case f.Size < 0 || f.Size > limit:
		return fmt.Errorf("%s: size: %d is not between 0 and %d", where, f.Size, limit)
	case !digest.MatchString(f.SHA256):
		return fmt.Errorf("%s: sha256: not a digest", where)
	}
	return nil
}

func decode(data []byte, schema *int, value any) error {
	var versioned struct {
		Schema int `json:"schema"`
	}
	if err := json.Unmarshal(data, &versioned); err != nil {
		return fmt.Errorf("invalid index: %w", err)
	}
	if versioned.Schema > Schema {
		return fmt.Errorf("the index has schema %d, and %d is the newest that this program reads: update extension-agent", versioned.Schema, Schema)
	}
	if err := json.Unmarshal(data, value); err != nil {
		return fmt.Errorf("invalid index: %w", err)
	}
	if *schema != Schema {
		return fmt.Errorf("invalid index: schema: %d is not %d", *schema, Schema)
	}
	return nil
}

// Parse reads index.json. Unknown keys are ignored: a key that changes the meaning of others raises the schema.
func Parse(data []byte) (Index, error) {
	var index Index
	if err := decode(data, &index.Schema, &index); err != nil {
		return index, err
	}
	seen := map[string]bool{}
	for i, entry := range index.Extensions {
		where := fmt.Sprintf("invalid index: extensions[%d]", i)
		if !config.IsName(entry.Name) || seen[entry.Name] {
			return index, fmt.Errorf("%s: name: %q is not a valid extension name, or is listed twice", where, entry.Name)
		}
		seen[entry.Name] = true
		if err := entry.check(where, MaxSize); err != nil {
			return index, err
		}
	}
	return index, nil
}

// Entry returns the entry of an extension.
func (i Index) Entry(name string) (Entry, bool) {
	at := slices.IndexFunc(i.Extensions, func(entry Entry) bool { return entry.Name == name })
	if at < 0 {
		return Entry{}, false
	}
	return i.Extensions[at], true
}

// ParseExtension reads the index of an extension.
func ParseExtension(data []byte, name string) (Extension, error) {
	var extension Extension
	if err := decode(data, &extension.Schema, &extension); err != nil {
		return extension, err
	}
	if extension.Name != name {
		return extension, fmt.Errorf("invalid index: name: %q is not %q", extension.Name, name)
	}
	if extension.Kind != "sysext" && extension.Kind != "confext" {
		return extension, fmt.Errorf("invalid index: kind: %q is not \"sysext\" or \"confext\"", extension.Kind)
	}
	for i, version := range extension.Versions {
		if err := version.check(fmt.Sprintf("invalid index: versions[%d]", i)); err != nil {
			return extension, err
		}
	}
	slices.SortStableFunc(extension.Versions, func(a, b Version) int { return version.Compare(b.Version, a.Version) })
	return extension, nil
}

func (v Version) check(where string) error {
	if !plainWord.MatchString(v.Version) {
		return fmt.Errorf("%s: version: %q is not a valid version", where, v.Version)
	}
	for _, name := range slices.Concat(v.Requires, v.Conflicts) {
		if !config.IsName(name) {
			return fmt.Errorf("%s: %q is not a valid extension name", where, name)
		}
	}
	for i, image := range v.Images {
		where := fmt.Sprintf("%s.images[%d]", where, i)
		if image.Target != Portable && !version.IsRelease(image.Target) {
			return fmt.Errorf("%s: target: %q is not \"portable\" or a release", where, image.Target)
		}
		if err := image.check(where, maxImage); err != nil {
			return err
		}
		for j, delta := range image.Deltas {
			where := fmt.Sprintf("%s.deltas[%d]", where, j)
			if !digest.MatchString(delta.From) {
				return fmt.Errorf("%s: from: not a digest", where)
			}
			if err := delta.check(where, maxImage); err != nil {
				return err
			}
		}
	}
	return nil
}
