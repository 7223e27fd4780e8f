// Package journal keeps what the agent must know after a restart: images that are on trial, images to go back to, and images that failed.
// Links on disk say what is installed; the journal never does.
package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/flatcar/extensions/packages/agent/internal/files"
)

// maxSize bounds the file, in bytes.
const maxSize = 4 << 20

// Trial is an image whose link was changed and whose health is not yet known.
type Trial struct {
	// Name, Kind and Target are those of the image.
	Name   string `json:"name"`
	Kind   string `json:"kind"`
	Target string `json:"target"`
	// Image and Former are the targets of the link, new and old; Former is empty if there was none.
	Image  string `json:"image"`
	Former string `json:"former,omitempty"`
	SHA256 string `json:"sha256"`
	// Boot is the boot in which the link was changed: an image that waits for a reboot is judged in another one.
	Boot string `json:"boot"`
	// AtReboot: the image is merged at the next boot, and not before.
	AtReboot bool `json:"atReboot,omitempty"`
	// Attempts counts how often its health was about to be judged: a node that crashes each time goes back.
	Attempts int `json:"attempts,omitempty"`
	// Failure is why the node goes back; once it is set, nothing else is tried.
	Failure string `json:"failure,omitempty"`
}

// Refusal is an image that failed on this node.
type Refusal struct {
	Extension string    `json:"extension"`
	Image     string    `json:"image"`
	Reason    string    `json:"reason"`
	Time      time.Time `json:"time"`
}

// State is the content of the journal.
type State struct {
	// Trials by path of the link.
	Trials map[string]Trial `json:"trials,omitempty"`
	// Former is the image to go back to, by link.
	Former map[string]string `json:"former,omitempty"`
	// Refused by digest.
	Refused map[string]Refusal `json:"refused,omitempty"`
	// Staged are releases that were fetched on purpose, with the time: they are not removed for two weeks.
	Staged map[string]time.Time `json:"staged,omitempty"`
	// Running and Other are the releases in the two slots of the node; Other is empty until it is known.
	Running string `json:"running,omitempty"`
	Other   string `json:"other,omitempty"`
}

// Journal is the file and its content.
type Journal struct {
	path  string
	State State
}

// Path is the journal below the root of a node.
const Path = "/var/lib/extension-agent/journal.json"

// Open reads the journal below a root. A missing one is empty. A damaged one is set aside as journal.json.damaged: the links remain.
func Open(root string) (*Journal, error) {
	journal := &Journal{path: filepath.Join(root, Path)}
	return journal, journal.read()
}

func (j *Journal) read() error {
	state := State{}
	data, err := files.ReadLimited(j.path, maxSize)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	default:
		if err := json.Unmarshal(data, &state); err != nil {
			state = State{}
			if err := files.Rename(j.path, j.path+".damaged"); err != nil {
				return fmt.Errorf("%s is damaged, and cannot be set aside: %w", j.path, err)
			}
		}
	}
	j.State = state.copy()
	return nil
}

// copy returns a state of its own, without nil maps.
func (s State) copy() State {
	s.Trials, s.Former, s.Refused = clone(s.Trials), clone(s.Former), clone(s.Refused)
	s.Staged = clone(s.Staged)
	return s
}

func clone[K comparable, V any](m map[K]V) map[K]V {
	if m == nil {
		return map[K]V{}
	}
	return maps.Clone(m)
}

// Update changes what is on disk, where another process may have changed it in the meantime, then the state in memory. After an error the
// journal on disk is as it was.
func (j *Journal) Update(change func(*State)) error {
	unlock, err := j.lock()
	if err != nil {
		return fmt.Errorf("cannot write the journal: %w", err)
	}
	defer unlock()
	if err := j.read(); err != nil {
		return err
	}
	next := j.State.copy()
	change(&next)
	data, err := json.MarshalIndent(next, "", "  ")
	if err != nil {
		return err
	}
	if err := files.WriteAtomic(j.path, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("cannot write the journal: %w", err)
	}
	j.State = next
	return nil
}

// lock keeps other processes from changing the journal for the moment of an update.
func (j *Journal) lock() (func(), error) {
	if err := os.MkdirAll(filepath.Dir(j.path), 0o755); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(j.path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX)
		if err == nil {
			return func() { file.Close() }, nil
		}
		if !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(err, file.Close())
		}
	}
}
