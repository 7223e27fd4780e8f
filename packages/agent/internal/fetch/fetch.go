// Package fetch downloads files of a tree: bounded in size, given up when a server stalls, resumed after an interruption.
package fetch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/flatcar/extensions/packages/agent/internal/files"
	"github.com/flatcar/extensions/packages/agent/internal/index"
)

// StatusError is an answer other than 200 or 206.
type StatusError struct {
	URL    string
	Status int
}

func (e *StatusError) Error() string { return fmt.Sprintf("%s: HTTP status %d", e.URL, e.Status) }

// ErrDigest is the error of a file that does not match the digest in the index.
var ErrDigest = errors.New("wrong digest: the file does not match the index")

// ErrTooLong is the error of an answer that is longer than the index says.
var ErrTooLong = errors.New("the answer is longer than expected")

// errStalled is the error of a server that sends nothing for the stall time.
var errStalled = errors.New("the server sent nothing for too long")

// Client fetches over HTTP.
type Client struct {
	HTTP *http.Client
	// Stall is the longest time without a byte.
	Stall time.Duration
	// Attempts is how often a file is tried; each attempt resumes the one before.
	Attempts int
	// Pause is the time before the second attempt; it doubles with each further one.
	Pause time.Duration
	// Reserve is the free space that a download leaves on the file system, in bytes.
	Reserve int64
}

// New returns a client that resolves proxies by the environment and gives up on a server after a minute of silence.
func New() *Client {
	transport := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:   30 * time.Second,
		ResponseHeaderTimeout: time.Minute,
		IdleConnTimeout:       time.Minute,
		ForceAttemptHTTP2:     true,
		// Ranges and digests are those of the file itself.
		DisableCompression: true,
	}
	return &Client{HTTP: &http.Client{Transport: transport}, Stall: time.Minute, Attempts: 5, Pause: time.Second, Reserve: 64 << 20}
}

// get sends a request for the bytes from offset on. The returned body ends with errStalled when nothing arrives in time.
func (c *Client) get(ctx context.Context, url string, offset int64) (io.ReadCloser, int, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		cancel(nil)
		return nil, 0, err
	}
	request.Header.Set("User-Agent", "extension-agent")
	if offset > 0 {
		request.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	response, err := c.HTTP.Do(request)
	if err != nil {
		cancel(nil)
		return nil, 0, err
	}
	timer := time.AfterFunc(c.Stall, func() { cancel(errStalled) })
	return &body{ReadCloser: response.Body, ctx: ctx, cancel: cancel, timer: timer, stall: c.Stall}, response.StatusCode, nil
}

// body is an answer that resets its timer at each read.
type body struct {
	io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	stall  time.Duration
}

func (b *body) Read(data []byte) (int, error) {
	n, err := b.ReadCloser.Read(data)
	if n > 0 {
		b.timer.Reset(b.stall)
	}
	if err != nil && err != io.EOF && context.Cause(b.ctx) != nil {
		err = context.Cause(b.ctx)
	}
	return n, err
}

func (b *body) Close() error {
	b.timer.Stop()
	err := b.ReadCloser.Close()
	b.cancel(nil)
	return err
}

// Bytes fetches a small file of at most limit bytes, in one attempt.
func (c *Client) Bytes(ctx context.Context, url string, limit int64) ([]byte, error) {
	body, status, err := c.get(ctx, url, 0)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	if status != http.StatusOK {
		return nil, &StatusError{url, status}
	}
	data, err := io.ReadAll(io.LimitReader(body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", url, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s: %w", url, ErrTooLong)
	}
	return data, nil
}

// Verified fetches a small file and checks it against the index.
func (c *Client) Verified(ctx context.Context, url string, file index.File) ([]byte, error) {
	data, err := c.Bytes(ctx, url, file.Size)
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != file.SHA256 {
		return nil, fmt.Errorf("%s: %w", url, ErrDigest)
	}
	return data, nil
}

// Partial is the file of a download that is not complete: by digest, so that a later run resumes it whatever the final name is.
func Partial(dir string, file index.File) string {
	return filepath.Join(dir, ".partial-"+file.SHA256)
}

// File downloads a file of the index to a path in the same folder as its partial file: it resumes, verifies, then renames. A file that
// already exists is replaced. An interruption at any time leaves the partial file, or the complete one.
func (c *Client) File(ctx context.Context, url string, file index.File, path string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	pause := c.Pause
	var err error
	for attempt := range c.Attempts {
		if attempt > 0 {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(pause):
			}
			pause *= 2
		}
		if err = c.attempt(ctx, url, file, dir); err == nil {
			return files.Rename(Partial(dir, file), path)
		}
		if !worthRetrying(ctx, err) {
			return err
		}
	}
	return err
}

// worthRetrying reports whether another attempt may end differently.
func worthRetrying(ctx context.Context, err error) bool {
	var status *StatusError
	if errors.As(err, &status) {
		return status.Status >= 500 || status.Status == http.StatusTooManyRequests || status.Status == http.StatusRequestTimeout
	}
	return ctx.Err() == nil && !errors.Is(err, ErrTooLong) && !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EROFS)
}

// attempt continues the partial file until it is complete and verified. A partial file with a wrong digest is removed.
func (c *Client) attempt(ctx context.Context, url string, file index.File, dir string) (err error) {
	partial, err := os.OpenFile(Partial(dir, file), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, partial.Close()) }()
	hash := sha256.New()
	have, err := io.Copy(hash, partial)
	if err != nil {
		return err
	}
	if have > file.Size {
		return errors.Join(fmt.Errorf("%s: %w", url, ErrDigest), os.Remove(partial.Name()))
	}
	if have < file.Size {
		if free, err := files.Free(dir); err == nil && free < file.Size-have+c.Reserve {
			return fmt.Errorf("%s: %d MiB are free, and the download requires %d MiB: %w", dir, free>>20, (file.Size-have+c.Reserve)>>20, unix.ENOSPC)
		}
		if err := c.receive(ctx, url, file.Size, have, partial, hash); err != nil {
			return fmt.Errorf("%s: %w", url, err)
		}
	}
	if hex.EncodeToString(hash.Sum(nil)) != file.SHA256 {
		return errors.Join(fmt.Errorf("%s: %w", url, ErrDigest), os.Remove(partial.Name()))
	}
	return partial.Sync()
}

// receive appends the bytes that are missing. A server without ranges sends the file from its start.
func (c *Client) receive(ctx context.Context, url string, size, have int64, partial *os.File, hash interface {
	io.Writer
	Reset()
}) error {
	body, status, err := c.get(ctx, url, have)
	if err != nil {
		return err
	}
	defer body.Close()
	switch {
	case status == http.StatusPartialContent && have > 0:
	case status == http.StatusOK:
		if err := partial.Truncate(0); err != nil {
			return err
		}
		if _, err := partial.Seek(0, io.SeekStart); err != nil {
			return err
		}
		hash.Reset()
		have = 0
	default:
		return &StatusError{url, status}
	}
	n, err := io.Copy(io.MultiWriter(partial, hash), io.LimitReader(body, size-have))
	if err != nil {
		return err
	}
	if n < size-have {
		return io.ErrUnexpectedEOF
	}
	if extra, _ := io.CopyN(io.Discard, body, 1); extra > 0 {
		return errors.Join(ErrTooLong, os.Remove(partial.Name()))
	}
	return nil
}

// Matches reports whether a file on disk has the size and the digest of the index.
func Matches(path string, file index.File) bool {
	info, err := os.Stat(path)
	if err != nil || info.Size() != file.Size {
		return false
	}
	sum, err := Digest(path)
	return err == nil && sum == file.SHA256
}

// Digest returns the sha256 of a file in hexadecimal digits.
func Digest(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// RemoveStale removes partial files in a folder that no wanted file continues.
func RemoveStale(dir string, wanted map[string]bool) error {
	found, err := filepath.Glob(filepath.Join(dir, ".partial-*"))
	if err != nil {
		return err
	}
	for _, path := range found {
		if wanted[path] {
			continue
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
