package image

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
)

// The format: Documentation/filesystems/erofs.rst and fs/erofs/erofs_fs.h of Linux.
const (
	erofsMagic = 0xe0f5e1e2
	erofsBlock = 4096
	// Layouts of an inode's data: whole blocks, and whole blocks with the tail behind the inode. Release files and folders are never compressed.
	layoutPlain  = 0
	layoutInline = 2
)

type erofs struct {
	image  io.ReaderAt
	inodes int64
}

func readErofs(image io.ReaderAt, size int64, path []string) ([]byte, error) {
	super, err := read(image, 1024, 128)
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	if le.Uint32(super) != erofsMagic || super[12] != 12 || int64(le.Uint32(super[36:]))*erofsBlock > size {
		return nil, fmt.Errorf("%w: not an erofs with blocks of 4096 bytes, or cut off", ErrFormat)
	}
	fs := &erofs{image, int64(le.Uint32(super[40:])) * erofsBlock}
	number := uint64(le.Uint16(super[14:]))
	for _, name := range path {
		data, err := fs.content(number, true)
		if err != nil {
			return nil, err
		}
		if number, err = find(data, name); err != nil {
			return nil, err
		}
	}
	return fs.content(number, false)
}

// content reads a folder or a small file.
func (fs *erofs) content(number uint64, isDir bool) ([]byte, error) {
	le := binary.LittleEndian
	at := fs.inodes + int64(number)*32
	head, err := read(fs.image, at, 32)
	if err != nil {
		return nil, err
	}
	format := le.Uint16(head)
	layout, xattrs, mode, size, inodeSize := format>>1&7, le.Uint16(head[2:]), le.Uint16(head[4:]), uint64(le.Uint32(head[8:])), int64(32)
	if format&1 == 1 {
		size, inodeSize = le.Uint64(head[8:]), 64
	}
	wanted, limit := uint16(0o10), uint64(maxRelease)
	if isDir {
		wanted, limit = 0o04, maxListing
	}
	if mode>>12 != wanted || size > limit || (layout != layoutPlain && layout != layoutInline) {
		return nil, fmt.Errorf("%w: a file of mode %o, layout %d and %d bytes", ErrFormat, mode, layout, size)
	}
	tail := at + inodeSize
	if xattrs > 0 {
		tail += 12 + int64(xattrs-1)*4
	}
	whole := int64(size)
	if layout == layoutInline {
		whole -= whole % erofsBlock
	}
	data, err := read(fs.image, int64(le.Uint32(head[16:]))*erofsBlock, whole)
	if whole == 0 {
		data, err = nil, nil
	}
	if err != nil || whole == int64(size) {
		return data, err
	}
	rest, err := read(fs.image, tail, int64(size)-whole)
	return append(data, rest...), err
}

// find looks a name up in the blocks of a folder. Each begins with entries (number, offset of the name, type), which their names follow.
func find(data []byte, name string) (uint64, error) {
	le := binary.LittleEndian
	for len(data) >= 12 {
		block := data[:min(erofsBlock, len(data))]
		data = data[len(block):]
		count := int(le.Uint16(block[8:])) / 12
		if count == 0 || count*12 > len(block) {
			return 0, fmt.Errorf("%w: a damaged folder", ErrFormat)
		}
		for i := range count {
			from, to := int(le.Uint16(block[i*12+8:])), len(block)
			if i+1 < count {
				to = int(le.Uint16(block[(i+1)*12+8:]))
			}
			if from > to || to > len(block) {
				return 0, fmt.Errorf("%w: a damaged folder", ErrFormat)
			}
			if string(bytes.TrimRight(block[from:to], "\x00")) == name {
				return le.Uint64(block[i*12:]), nil
			}
		}
	}
	return 0, fmt.Errorf("%w: it contains no %q", ErrFormat, name)
}

// rootPartitions are the types of root partitions (UAPI.2): x86-64 and arm64, as GPT stores them.
var rootPartitions = [][]byte{
	{0xe3, 0xbc, 0x68, 0x4f, 0xcd, 0xe8, 0xb1, 0x4d, 0x96, 0xe7, 0xfb, 0xca, 0xf9, 0x84, 0xb7, 0x09},
	{0x45, 0xb0, 0x21, 0xb9, 0xf0, 0x1d, 0xc3, 0x41, 0xaf, 0x44, 0x4c, 0x6f, 0x28, 0x0d, 0x3f, 0xae},
}

// rootPartition finds the root partition of a disk image with sectors of 512 bytes.
func rootPartition(image io.ReaderAt, size int64) (start, length int64, err error) {
	le := binary.LittleEndian
	head, err := read(image, 512, 92)
	if err != nil {
		return 0, 0, err
	}
	table, count, entry := int64(le.Uint64(head[72:])), le.Uint32(head[80:]), le.Uint32(head[84:])
	if table < 2 || table > size/512 || count > 1024 || entry < 128 || entry > 4096 {
		return 0, 0, fmt.Errorf("%w: a damaged partition table", ErrFormat)
	}
	entries, err := read(image, table*512, int64(count)*int64(entry))
	if err != nil {
		return 0, 0, err
	}
	for i := range int(count) {
		one := entries[i*int(entry):]
		for _, kind := range rootPartitions {
			if !bytes.Equal(one[:16], kind) {
				continue
			}
			first, last := le.Uint64(one[32:]), le.Uint64(one[40:])
			if first > last || last >= uint64(size)/512 {
				return 0, 0, fmt.Errorf("%w: a partition outside of the image", ErrFormat)
			}
			return int64(first) * 512, int64(last-first+1) * 512, nil
		}
	}
	return 0, 0, fmt.Errorf("%w: it has no root partition", ErrFormat)
}
