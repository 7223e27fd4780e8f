// Package metadata reads the TUF metadata of a published tree (theupdateframework.io, specification 1.0). It is the only trust anchor of the
// agent: rollback, freeze, mix-and-match and replaced files are refused by go-tuf's client.
package metadata

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	tuf "github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"

	"github.com/flatcar/extensions/packages/agent/internal/fetch"
	"github.com/flatcar/extensions/packages/agent/internal/files"
	"github.com/flatcar/extensions/packages/agent/internal/index"
)

// target is the one file that the metadata lists; all others hang on its digests.
const target = "index.json"

// Client reads the metadata of one tree and remembers what it has seen.
type Client struct {
	// Tree is the URL of the tree.
	Tree string
	// Root is the root metadata that the operator trusts.
	Root []byte
	// Dir is the folder for what was seen, so that an older tree is refused later.
	Dir   string
	Fetch *fetch.Client
	// Now returns the time that expiry is compared with.
	Now func() time.Time
}

// Result is the verified list of a tree.
type Result struct {
	Index index.Index
	// Expires is when the timestamp of the tree expires.
	Expires time.Time
	// Version is that of the timestamp.
	Version int64
}

// folder is where the metadata of this root and this tree is kept: another root or tree starts with no memory.
func (c *Client) folder() string {
	sum := sha256.Sum256(append([]byte(c.Tree+"\n"), c.Root...))
	return filepath.Join(c.Dir, hex.EncodeToString(sum[:8]))
}

// newestRoot returns the last root that an earlier refresh verified, else the operator's.
func (c *Client) newestRoot() []byte {
	kept, err := files.ReadLimited(filepath.Join(c.folder(), "root.json"), 1<<20)
	if err != nil {
		return c.Root
	}
	seen, err := tuf.Root().FromBytes(kept)
	if err != nil {
		return c.Root // a power cut while it was written
	}
	given, err := tuf.Root().FromBytes(c.Root)
	if err != nil || seen.Signed.Version < given.Signed.Version {
		return c.Root
	}
	return kept
}

func (c *Client) config(ctx context.Context) (*config.UpdaterConfig, error) {
	remote, err := url.JoinPath(c.Tree, "metadata")
	if err != nil {
		return nil, err
	}
	settings, err := config.New(remote, c.newestRoot())
	if err != nil {
		return nil, err
	}
	settings.RemoteTargetsURL = c.Tree
	settings.LocalMetadataDir = c.folder()
	settings.LocalTargetsDir = c.folder()
	settings.Fetcher = fetcher{ctx, c.Fetch}
	return settings, nil
}

// Refresh updates the metadata and returns the index. It fails if the tree shows less than an earlier refresh saw, if its metadata has
// expired, or if a signature or a digest is wrong.
func (c *Client) Refresh(ctx context.Context) (Result, error) {
	if err := c.dropDamaged(); err != nil {
		return Result{}, err
	}
	settings, err := c.config(ctx)
	if err != nil {
		return Result{}, err
	}
	client, err := updater.New(settings)
	if err != nil {
		return Result{}, fmt.Errorf("cannot use the trusted root: %w", err)
	}
	client.UnsafeSetRefTime(c.Now())
	if err := client.Refresh(); err != nil {
		return Result{}, c.explain(err)
	}
	if err := c.sync(); err != nil {
		return Result{}, err
	}
	info, err := client.GetTargetInfo(target)
	if err != nil {
		return Result{}, c.explain(err)
	}
	if info.Length > index.MaxSize {
		return Result{}, fmt.Errorf("%s: %s is larger than %d bytes", c.Tree, target, index.MaxSize)
	}
	_, data, err := client.FindCachedTarget(info, "")
	if err == nil && data == nil {
		_, data, err = client.DownloadTarget(info, "", "")
	}
	if err != nil {
		return Result{}, c.explain(err)
	}
	parsed, err := index.Parse(data)
	timestamp := client.GetTrustedMetadataSet().Timestamp.Signed
	return Result{Index: parsed, Expires: timestamp.Expires, Version: timestamp.Version}, err
}

// dropDamaged removes metadata that is not JSON: a power cut may leave it, and go-tuf would fail for ever. Whoever can write there is root.
func (c *Client) dropDamaged() error {
	for _, role := range []string{tuf.TIMESTAMP, tuf.SNAPSHOT, tuf.TARGETS} {
		path := filepath.Join(c.folder(), role+".json")
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if valid(role, data) {
			continue
		}
		if err := files.Remove(path); err != nil {
			return err
		}
	}
	return nil
}

func valid(role string, data []byte) bool {
	var err error
	switch role {
	case tuf.TIMESTAMP:
		_, err = tuf.Timestamp().FromBytes(data)
	case tuf.SNAPSHOT:
		_, err = tuf.Snapshot().FromBytes(data)
	case tuf.TARGETS:
		_, err = tuf.Targets().FromBytes(data)
	}
	return err == nil
}

// sync makes what go-tuf wrote durable: a power cut must not make the node forget a version.
func (c *Client) sync() error {
	for _, role := range tuf.TOP_LEVEL_ROLE_NAMES {
		if err := files.SyncFile(filepath.Join(c.folder(), role+".json")); err != nil {
			return err
		}
	}
	return files.SyncDir(c.folder())
}

// explain puts an error of go-tuf into the words of an operator.
func (c *Client) explain(err error) error {
	var (
		expired  *tuf.ErrExpiredMetadata
		older    *tuf.ErrBadVersionNumber
		unsigned *tuf.ErrUnsignedMetadata
		status   *tuf.ErrDownloadHTTP
	)
	switch {
	case errors.As(err, &expired):
		return fmt.Errorf("%s: its metadata has expired: the tree is not maintained, an old copy is served, or the clock of this node is wrong: %w", c.Tree, err)
	case errors.As(err, &older):
		return fmt.Errorf("%s: the tree is older than what this node has seen of it: %w", c.Tree, err)
	case errors.As(err, &unsigned):
		return fmt.Errorf("%s: wrong signature: the tree is not signed by the keys of the trusted root: %w", c.Tree, err)
	case errors.As(err, &status) && status.StatusCode == http.StatusNotFound:
		return fmt.Errorf("%s: no published tree: %w", c.Tree, err)
	}
	return fmt.Errorf("%s: %w", c.Tree, err)
}

// fetcher is go-tuf's view of our HTTP client.
type fetcher struct {
	ctx    context.Context
	client *fetch.Client
}

func (f fetcher) DownloadFile(url string, limit int64, _ time.Duration) ([]byte, error) {
	data, err := f.client.Bytes(f.ctx, url, limit)
	var status *fetch.StatusError
	if errors.As(err, &status) {
		return nil, &tuf.ErrDownloadHTTP{StatusCode: status.Status, URL: url}
	}
	return data, err
}
