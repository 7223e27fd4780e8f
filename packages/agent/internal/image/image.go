// Package image reads what an image says of itself: the release file in a squashfs, an erofs, or the root partition of a disk image.
//
// It reads the few blocks that lead to the file and parses them itself. systemd-dissect would need root and a mount, is missing on some
// systems, and would have the kernel read an image before anything of it is known.
package image

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
)

// ErrFormat is the error of a file that is not an image, or is damaged.
var ErrFormat = errors.New("not a readable image")

// maxRelease bounds the release file, in bytes.
const maxRelease = 64 << 10

// Release has the fields of a release file (os-release(5), extension-release).
type Release map[string]string

// ReadRelease reads the release file of an extension from an image. kind is "sysext" or "confext".
func ReadRelease(path, name, kind string) (Release, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	text, err := readFile(file, info.Size(), releasePath(name, kind))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return parseRelease(string(text)), nil
}

func releasePath(name, kind string) []string {
	if kind == "confext" {
		return []string{"etc", "extension-release.d", "extension-release." + name}
	}
	return []string{"usr", "lib", "extension-release.d", "extension-release." + name}
}

// readFile reads a file from an image of one of the formats.
func readFile(image io.ReaderAt, size int64, path []string) ([]byte, error) {
	magic := make([]byte, 1028)
	if n, err := image.ReadAt(magic, 0); err != nil && err != io.EOF {
		return nil, err
	} else if n < len(magic) {
		return nil, fmt.Errorf("%w: %d bytes", ErrFormat, n)
	}
	switch {
	case binary.LittleEndian.Uint32(magic) == squashfsMagic:
		return readSquashfs(image, size, path)
	case binary.LittleEndian.Uint32(magic[1024:]) == erofsMagic:
		return readErofs(image, size, path)
	case string(magic[512:520]) == "EFI PART":
		start, length, err := rootPartition(image, size)
		if err != nil {
			return nil, err
		}
		return readErofs(io.NewSectionReader(image, start, length), length, path)
	}
	return nil, fmt.Errorf("%w: neither squashfs, erofs nor a disk image", ErrFormat)
}

var releaseLine = regexp.MustCompile(`^([A-Z][A-Z0-9_]*)=(?:"(.*)"|'(.*)'|(.*))$`)

// parseRelease reads KEY=value lines; values may be quoted.
func parseRelease(text string) Release {
	release := Release{}
	for line := range strings.SplitSeq(text, "\n") {
		if match := releaseLine.FindStringSubmatch(strings.TrimSpace(line)); match != nil {
			release[match[1]] = match[2] + match[3] + match[4]
		}
	}
	return release
}

// ParseRelease reads the text of an os-release or extension-release file.
func ParseRelease(text string) Release { return parseRelease(text) }

// Expected is what an image must say of itself before its link counts.
type Expected struct {
	Name, Kind, Version, Architecture string
	// Target is "portable" or a release.
	Target string
}

// Check compares an image with what the index says it is.
func Check(path string, want Expected) error {
	release, err := ReadRelease(path, want.Name, want.Kind)
	if err != nil {
		return err
	}
	prefix := strings.ToUpper(want.Kind)
	fields := map[string]string{
		prefix + "_ID":         want.Name,
		prefix + "_VERSION_ID": want.Version,
		"ARCHITECTURE":         want.Architecture,
		"ID":                   "_any",
		"VERSION_ID":           "",
		prefix + "_LEVEL":      "",
	}
	if want.Target != "portable" {
		fields["ID"], fields["VERSION_ID"] = "flatcar", want.Target
	}
	for key, value := range fields {
		if release[key] != value {
			return fmt.Errorf("%s: the image says %s=%s, and the index promises %q", path, key, release[key], value)
		}
	}
	return nil
}

// read reads length bytes at an offset; a part outside of the image is an error.
func read(image io.ReaderAt, offset, length int64) ([]byte, error) {
	if offset < 0 || length < 0 || length > 1<<24 {
		return nil, fmt.Errorf("%w: a block of %d bytes at %d", ErrFormat, length, offset)
	}
	data := make([]byte, length)
	if _, err := image.ReadAt(data, offset); err != nil {
		if err == io.EOF {
			return nil, fmt.Errorf("%w: it is cut off", ErrFormat)
		}
		return nil, err
	}
	return data, nil
}
