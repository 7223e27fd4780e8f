package image

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// The format: Documentation/filesystems/squashfs.rst and fs/squashfs/squashfs_fs.h of Linux.
const (
	squashfsMagic = 0x73717368
	metadataSize  = 8192
	noFragment    = 0xffffffff
	plainMetadata = 0x8000
	plainData     = 1 << 24
	// maxListing bounds a folder, in bytes of its listing.
	maxListing = 4 << 20
	// maxMetadata bounds the unpacked metadata that one file costs, in bytes.
	maxMetadata = 32 << 20
)

type squashfs struct {
	image      io.ReaderAt
	size       int64
	blockSize  uint32
	compressor uint16
	inodes     int64
	listings   int64
	fragments  int64
	// budget is how many bytes of metadata may still be unpacked.
	budget int
}

func readSquashfs(image io.ReaderAt, size int64, path []string) ([]byte, error) {
	head, err := read(image, 0, 96)
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	fs := &squashfs{
		image: image, size: size, budget: maxMetadata,
		blockSize: le.Uint32(head[12:]), compressor: le.Uint16(head[20:]),
		inodes: int64(le.Uint64(head[64:])), listings: int64(le.Uint64(head[72:])), fragments: int64(le.Uint64(head[80:])),
	}
	if fs.blockSize < 4096 || fs.blockSize > 1<<20 || int64(le.Uint64(head[40:])) > size {
		return nil, fmt.Errorf("%w: a squashfs that is damaged or cut off", ErrFormat)
	}
	node, err := fs.inode(le.Uint64(head[32:]))
	for _, name := range path {
		if err != nil {
			return nil, err
		}
		node, err = fs.lookup(node, name)
	}
	if err != nil {
		return nil, err
	}
	return fs.content(node)
}

// inode is a folder or a file; other kinds have neither.
type inode struct {
	isDir, isFile bool
	size          uint64
	// Of folders: where the listing is.
	block, offset uint32
	// Of files: where the blocks begin, their sizes, and the place in a fragment.
	start            uint64
	blocks           []uint32
	fragment, within uint32
}

// stream reads metadata from a block at a position, from an offset in it.
func (fs *squashfs) stream(position int64, offset uint32) *metadata {
	return &metadata{fs: fs, next: position, skip: int(offset)}
}

type metadata struct {
	fs   *squashfs
	next int64
	data []byte
	skip int
}

func (m *metadata) Read(to []byte) (int, error) {
	for len(m.data) == 0 {
		if err := m.load(); err != nil {
			return 0, err
		}
	}
	n := copy(to, m.data)
	m.data = m.data[n:]
	return n, nil
}

func (m *metadata) load() error {
	head, err := read(m.fs.image, m.next, 2)
	if err != nil {
		return err
	}
	header := binary.LittleEndian.Uint16(head)
	length := int64(header &^ plainMetadata)
	raw, err := read(m.fs.image, m.next+2, length)
	if err != nil {
		return err
	}
	if length == 0 {
		return fmt.Errorf("%w: an empty metadata block", ErrFormat)
	}
	if header&plainMetadata == 0 {
		if raw, err = m.fs.unpack(raw, metadataSize); err != nil {
			return err
		}
	}
	if m.fs.budget -= len(raw); m.fs.budget < 0 {
		return fmt.Errorf("%w: more metadata than one file needs", ErrFormat)
	}
	m.next += 2 + length
	if m.skip > len(raw) {
		return fmt.Errorf("%w: an offset behind its metadata block", ErrFormat)
	}
	m.data, m.skip = raw[m.skip:], 0
	return nil
}

// unpack decompresses a block of at most limit bytes.
func (fs *squashfs) unpack(raw []byte, limit int) ([]byte, error) {
	var reader io.Reader
	switch fs.compressor {
	case 1:
		packed, err := zlib.NewReader(bytes.NewReader(raw))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrFormat, err)
		}
		reader = packed
	case 6:
		packed, err := zstd.NewReader(bytes.NewReader(raw), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(8<<20))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrFormat, err)
		}
		defer packed.Close()
		reader = packed
	default:
		return nil, fmt.Errorf("%w: compressor %d is neither zstd nor gzip", ErrFormat, fs.compressor)
	}
	data, err := io.ReadAll(io.LimitReader(reader, int64(limit)+1))
	if err != nil || len(data) > limit {
		return nil, fmt.Errorf("%w: a damaged block", ErrFormat)
	}
	return data, nil
}

func (fs *squashfs) inode(reference uint64) (inode, error) {
	le := binary.LittleEndian
	stream := fs.stream(fs.inodes+int64(reference>>16), uint32(reference&0xffff))
	take := func(length int) ([]byte, error) {
		data := make([]byte, length)
		_, err := io.ReadFull(stream, data)
		return data, err
	}
	head, err := take(16)
	if err != nil {
		return inode{}, err
	}
	switch kind := le.Uint16(head); kind {
	case 1, 8:
		length := 16
		if kind == 8 {
			length = 24
		}
		rest, err := take(length)
		if err != nil {
			return inode{}, err
		}
		if kind == 8 {
			return inode{isDir: true, size: uint64(le.Uint32(rest[4:])), block: le.Uint32(rest[8:]), offset: uint32(le.Uint16(rest[18:]))}, nil
		}
		return inode{isDir: true, size: uint64(le.Uint16(rest[8:])), block: le.Uint32(rest), offset: uint32(le.Uint16(rest[10:]))}, nil
	case 2, 9:
		length := 16
		if kind == 9 {
			length = 40
		}
		rest, err := take(length)
		if err != nil {
			return inode{}, err
		}
		node := inode{isFile: true}
		if kind == 9 {
			node.start, node.size, node.fragment, node.within = le.Uint64(rest), le.Uint64(rest[8:]), le.Uint32(rest[28:]), le.Uint32(rest[32:])
		} else {
			node.start, node.size, node.fragment, node.within = uint64(le.Uint32(rest)), uint64(le.Uint32(rest[12:])), le.Uint32(rest[4:]), le.Uint32(rest[8:])
		}
		if node.size > maxRelease {
			return node, nil // not the release file; its blocks are not read
		}
		count := (node.size + uint64(fs.blockSize) - 1) / uint64(fs.blockSize)
		if node.fragment != noFragment {
			count = node.size / uint64(fs.blockSize)
		}
		sizes, err := take(int(count) * 4)
		for i := range int(count) {
			node.blocks = append(node.blocks, le.Uint32(sizes[i*4:]))
		}
		return node, err
	}
	return inode{}, nil
}

// lookup finds an entry of a folder.
func (fs *squashfs) lookup(dir inode, name string) (inode, error) {
	missing := fmt.Errorf("%w: it contains no %q", ErrFormat, name)
	// The stored size counts "." and "..", which are not stored.
	if !dir.isDir || dir.size <= 3 || dir.size > maxListing {
		return inode{}, missing
	}
	le := binary.LittleEndian
	stream := io.LimitReader(fs.stream(fs.listings+int64(dir.block), dir.offset), int64(dir.size-3))
	for {
		var head [12]byte
		if _, err := io.ReadFull(stream, head[:]); err == io.EOF {
			return inode{}, missing
		} else if err != nil {
			return inode{}, fmt.Errorf("%w: %w", ErrFormat, err)
		}
		for range le.Uint32(head[:]) + 1 {
			var entry [8]byte
			if _, err := io.ReadFull(stream, entry[:]); err != nil {
				return inode{}, fmt.Errorf("%w: %w", ErrFormat, err)
			}
			text := make([]byte, int(le.Uint16(entry[6:]))+1)
			if _, err := io.ReadFull(stream, text); err != nil {
				return inode{}, fmt.Errorf("%w: %w", ErrFormat, err)
			}
			if string(text) == name {
				return fs.inode(uint64(le.Uint32(head[4:]))<<16 | uint64(le.Uint16(entry[:])))
			}
		}
	}
}

// content reads a small file: whole blocks, then its tail in a fragment.
func (fs *squashfs) content(node inode) ([]byte, error) {
	if !node.isFile || node.size > maxRelease {
		return nil, fmt.Errorf("%w: the release file is not a file of at most %d bytes", ErrFormat, maxRelease)
	}
	var data []byte
	position := int64(node.start)
	for _, size := range node.blocks {
		block, length, err := fs.data(position, size)
		if err != nil {
			return nil, err
		}
		data = append(data, block...)
		position += length
	}
	if missing := int(node.size) - len(data); missing > 0 && node.fragment != noFragment {
		tail, err := fs.tail(node.fragment)
		if err != nil {
			return nil, err
		}
		if end := uint64(node.within) + uint64(missing); end > uint64(len(tail)) {
			return nil, fmt.Errorf("%w: a file behind the end of its fragment", ErrFormat)
		}
		data = append(data, tail[node.within:][:missing]...)
	}
	if len(data) < int(node.size) {
		return nil, fmt.Errorf("%w: a file that is cut off", ErrFormat)
	}
	return data[:node.size], nil
}

// data reads a data block; the length is that in the image.
func (fs *squashfs) data(position int64, size uint32) ([]byte, int64, error) {
	length := int64(size &^ plainData)
	if length > int64(fs.blockSize) {
		return nil, 0, fmt.Errorf("%w: a block of %d bytes", ErrFormat, length)
	}
	raw, err := read(fs.image, position, length)
	if err != nil || size&plainData != 0 {
		return raw, length, err
	}
	data, err := fs.unpack(raw, int(fs.blockSize))
	return data, length, err
}

// tail reads a fragment: a block with the ends of several files.
func (fs *squashfs) tail(number uint32) ([]byte, error) {
	pointer, err := read(fs.image, fs.fragments+int64(number/512)*8, 8)
	if err != nil {
		return nil, err
	}
	var entry [16]byte
	if _, err := io.ReadFull(fs.stream(int64(binary.LittleEndian.Uint64(pointer)), number%512*16), entry[:]); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	data, _, err := fs.data(int64(binary.LittleEndian.Uint64(entry[:])), binary.LittleEndian.Uint32(entry[8:]))
	return data, err
}
