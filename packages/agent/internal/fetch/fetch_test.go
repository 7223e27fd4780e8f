package fetch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/flatcar/extensions/packages/agent/internal/index"
)

var content = bytes.Repeat([]byte("0123456789abcdef"), 64<<10)

func fileOf(data []byte) index.File {
	sum := sha256.Sum256(data)
	return index.File{Path: "x.raw", Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:])}
}

func client() *Client {
	c := New()
	c.Stall, c.Pause, c.Reserve = 200*time.Millisecond, time.Millisecond, 0
	return c
}

func serve(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

func ranged(w http.ResponseWriter, r *http.Request) {
	http.ServeContent(w, r, "x.raw", time.Unix(1, 0), bytes.NewReader(content))
}

func TestFileResumesWhereItStopped(t *testing.T) {
	var calls, resumed atomic.Int64
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) == 1 {
			w.Header().Set("Content-Length", "1048576")
			w.Write(content[:300_000])
			panic(http.ErrAbortHandler)
		}
		if from, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok && from != "0-" {
			resumed.Add(1)
		}
		ranged(w, r)
	})
	path := filepath.Join(t.TempDir(), "x", "x.raw")
	if err := client().File(t.Context(), url, fileOf(content), path); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(path); !bytes.Equal(got, content) {
		t.Error("other bytes")
	}
	if calls.Load() != 2 || resumed.Load() != 1 {
		t.Errorf("%d requests, of which %d resumed", calls.Load(), resumed.Load())
	}
}

func TestFileStartsAgainAtAServerWithoutRanges(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) { w.Write(content) })
	path := filepath.Join(t.TempDir(), "x.raw")
	os.WriteFile(Partial(filepath.Dir(path), fileOf(content)), []byte("0123456789"), 0o600)
	if err := client().File(t.Context(), url, fileOf(content), path); err != nil {
		t.Fatal(err)
	}
	if !Matches(path, fileOf(content)) {
		t.Error("other bytes")
	}
}

func TestFileReplacesADamagedPartialFile(t *testing.T) {
	url := serve(t, ranged)
	path := filepath.Join(t.TempDir(), "x.raw")
	os.WriteFile(Partial(filepath.Dir(path), fileOf(content)), []byte("damaged"), 0o600)
	if err := client().File(t.Context(), url, fileOf(content), path); err != nil {
		t.Fatal(err)
	}
}

func TestHostileServers(t *testing.T) {
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		want    error
	}{
		"other bytes": {func(w http.ResponseWriter, r *http.Request) { w.Write(bytes.ToUpper(content)) }, ErrDigest},
		"endless": {func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(content); err != nil {
					return
				}
			}
		}, ErrTooLong},
		"silent": {func(w http.ResponseWriter, r *http.Request) {
			w.Write(content[:10])
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, errStalled},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.raw")
			c := client()
			c.Attempts = 2
			err := c.File(t.Context(), serve(t, test.handler), fileOf(content), path)
			if !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if _, err := os.Stat(path); err == nil {
				t.Error("the file is there")
			}
		})
	}
}

func TestStatusDecidesAboutAnotherAttempt(t *testing.T) {
	for status, want := range map[int]int64{404: 1, 403: 1, 503: 3, 429: 3} {
		var calls atomic.Int64
		url := serve(t, func(w http.ResponseWriter, r *http.Request) {
			calls.Add(1)
			w.WriteHeader(status)
		})
		c := client()
		c.Attempts = 3
		err := c.File(t.Context(), url, fileOf(content), filepath.Join(t.TempDir(), "x.raw"))
		var failure *StatusError
		if !errors.As(err, &failure) || failure.Status != status || calls.Load() != want {
			t.Errorf("status %d: %d requests, %v", status, calls.Load(), err)
		}
	}
}

func TestFullDiskIsReportedBeforeTheFirstByte(t *testing.T) {
	var calls atomic.Int64
	url := serve(t, func(w http.ResponseWriter, r *http.Request) { calls.Add(1) })
	c := client()
	c.Reserve = 1 << 60
	err := c.File(t.Context(), url, fileOf(content), filepath.Join(t.TempDir(), "x.raw"))
	if !errors.Is(err, unix.ENOSPC) || calls.Load() != 0 {
		t.Errorf("%d requests, %v", calls.Load(), err)
	}
}

func TestCancelEndsADownloadAtOnce(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Write(content[:10])
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	c := client()
	c.Stall = time.Hour
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.File(ctx, url, fileOf(content), filepath.Join(t.TempDir(), "x.raw")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestVerified(t *testing.T) {
	url := serve(t, ranged)
	if data, err := client().Verified(t.Context(), url, fileOf(content)); err != nil || !bytes.Equal(data, content) {
		t.Errorf("%v", err)
	}
	short := fileOf(content)
	short.Size--
	if _, err := client().Verified(t.Context(), url, short); !errors.Is(err, ErrTooLong) {
		t.Errorf("a longer file: %v", err)
	}
	if _, err := client().Verified(t.Context(), url, index.File{Size: int64(len(content)), SHA256: strings.Repeat("0", 64)}); !errors.Is(err, ErrDigest) {
		t.Errorf("other bytes: %v", err)
	}
}
