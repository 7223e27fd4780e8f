// Package delta makes an image from another one that the node has, and from a small file of the tree.
//
// Kind "blocks" has the records that differ between two images of one size; docs/deltas.md describes the format, and
// packages/publish/src/deltas writes it. Kind "zstd" is one frame of `zstd --patch-from`.
//
// The caller checks the digest of the result: a delta can be wrong, but it cannot make a wrong image count.
package delta

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// Kinds of deltas.
const (
	Blocks = "blocks"
	Zstd   = "zstd"
)

// ErrFormat is the error of a delta that is damaged or of an unknown kind.
var ErrFormat = errors.New("not a readable delta")

const (
	magic = "FEXTBLK1"
	// maxRecords bounds the number of records.
	maxRecords = 1 << 20
	// maxWindow is the largest window of a zstd patch, in bytes: window log 27.
	maxWindow = 1 << 27
)

// Apply writes the image that a delta makes from the old one; size is that of the result.
func Apply(kind string, old *os.File, patch io.Reader, size int64, result *os.File) error {
	switch kind {
	case Blocks:
		return applyBlocks(old, patch, size, result)
	case Zstd:
		return applyZstd(old, patch, size, result)
	}
	return fmt.Errorf("%w: kind %q is unknown", ErrFormat, kind)
}

func applyBlocks(old *os.File, patch io.Reader, size int64, result *os.File) error {
	stream := bufio.NewReader(patch)
	var head [20]byte
	if _, err := io.ReadFull(stream, head[:]); err != nil || string(head[:8]) != magic {
		return fmt.Errorf("%w: it does not begin with %s", ErrFormat, magic)
	}
	if stated := binary.LittleEndian.Uint64(head[8:]); stated != uint64(size) {
		return fmt.Errorf("%w: it makes %d bytes, and the image has %d", ErrFormat, stated, size)
	}
	count := binary.LittleEndian.Uint32(head[16:])
	if count > maxRecords {
		return fmt.Errorf("%w: %d records", ErrFormat, count)
	}
	if copied, err := io.Copy(result, io.LimitReader(old, size+1)); err != nil {
		return err
	} else if copied != size {
		return fmt.Errorf("%w: it is for images of %d bytes", ErrFormat, size)
	}
	for range count {
		var record [12]byte
		if _, err := io.ReadFull(stream, record[:]); err != nil {
			return fmt.Errorf("%w: it is cut off", ErrFormat)
		}
		offset, length := binary.LittleEndian.Uint64(record[:]), int64(binary.LittleEndian.Uint32(record[8:]))
		if offset > uint64(size) || length > size-int64(offset) {
			return fmt.Errorf("%w: a record outside of the image", ErrFormat)
		}
		if n, err := io.CopyN(io.NewOffsetWriter(result, int64(offset)), stream, length); err != nil {
			if n < length && errors.Is(err, io.EOF) {
				return fmt.Errorf("%w: it is cut off", ErrFormat)
			}
			return err
		}
	}
	return nil
}

func applyZstd(old *os.File, patch io.Reader, size int64, result *os.File) error {
	info, err := old.Stat()
	if err != nil {
		return err
	}
	if info.Size() == 0 || info.Size() > 1<<31-1 {
		return fmt.Errorf("%w: the old image has %d bytes", ErrFormat, info.Size())
	}
	// Mapped, not read: the kernel can drop pages of an image that is larger than the node's free memory.
	content, err := unix.Mmap(int(old.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return err
	}
	defer unix.Munmap(content)
	decoder, err := zstd.NewReader(patch, zstd.WithDecoderDictRaw(0, content), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
	if err != nil {
		return err
	}
	defer decoder.Close()
	n, err := io.Copy(result, io.LimitReader(decoder, size+1))
	if errors.Is(err, unix.ENOSPC) {
		return err
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if n != size {
		return fmt.Errorf("%w: it makes another number of bytes than %d", ErrFormat, size)
	}
	return nil
}
