// Package hold keeps a node from rebooting into a release whose images are missing.
package hold

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/flatcar/extensions/packages/agent/internal/config"
	"github.com/flatcar/extensions/packages/agent/internal/files"
	"github.com/flatcar/extensions/packages/agent/internal/node"
)

const (
	runDir    = "/run/extension-agent"
	heldFile  = runDir + "/held.json"
	locksmith = "locksmithd.service"
	// rootSince is the first systemd whose block inhibitors also stop root (NEWS of systemd 257).
	rootSince = 257
)

// HookDir has the programs of the operator: NAME.check, hold and release.
const HookDir = "/etc/extension-agent.d"

// Held describes a hold; it is kept in /run, so that it outlives the program and ends with the boot.
type Held struct {
	Release string   `json:"release"`
	Missing []string `json:"missing"`
	// Locksmith is whether locksmithd ran, and was stopped.
	Locksmith bool `json:"locksmith"`
}

// Holder takes and releases the hold of this node.
type Holder struct {
	Node *node.Node
	// Bus is the system bus; nil where there is none.
	Bus func() (*dbus.Conn, error)
	// inhibitor ends with the process: a crash loses it, and locksmithd stays stopped.
	inhibitor *os.File
}

// Read returns the hold that is in force, or nil.
func Read(n *node.Node) (*Held, error) {
	data, err := files.ReadLimited(n.Path(heldFile), 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	held := &Held{}
	if err := json.Unmarshal(data, held); err != nil {
		held.Release = "unknown" // a damaged file still holds
	}
	return held, nil
}

// Hold stops what would reboot the node: locksmithd on every systemd, and logind from systemd 257 on. It can be called again with another
// list. Each part is tried even if another one fails.
func (h *Holder) Hold(ctx context.Context, release string, missing []string) error {
	before, err := Read(h.Node)
	if err != nil {
		return err
	}
	held := Held{Release: release, Missing: missing}
	var problems []error
	if before == nil {
		held.Locksmith, err = h.stopLocksmith(ctx)
		problems = append(problems, err)
	} else {
		held.Locksmith = before.Locksmith
	}
	if h.inhibitor == nil && h.Node.Systemd >= rootSince {
		h.inhibitor, err = h.inhibit(ctx, release)
		problems = append(problems, err)
	}
	data, err := json.Marshal(held)
	if err == nil {
		err = files.WriteAtomic(h.Node.Path(heldFile), data, 0o644)
	}
	problems = append(problems, err)
	if before == nil {
		problems = append(problems, h.hook(ctx, "hold", held))
	}
	return errors.Join(problems...)
}

// stopLocksmith masks locksmithd until the next boot. One that the operator masked stays as it is.
func (h *Holder) stopLocksmith(ctx context.Context) (bool, error) {
	enabled, _ := h.Node.Run(ctx, "systemctl", "is-enabled", locksmith) // exit code 1 for several answers
	switch state := strings.TrimSpace(enabled); {
	case state == "" || state == "not-found" || strings.HasPrefix(state, "masked"):
		return false, nil
	}
	active, _ := h.Node.Run(ctx, "systemctl", "is-active", locksmith)
	if _, err := h.Node.Run(ctx, "systemctl", "mask", "--runtime", "--now", locksmith); err != nil {
		return false, err
	}
	return strings.TrimSpace(active) == "active" || strings.TrimSpace(active) == "activating", nil
}

func (h *Holder) inhibit(ctx context.Context, release string) (*os.File, error) {
	bus, err := h.Bus()
	if err != nil {
		return nil, err
	}
	defer bus.Close()
	why := fmt.Sprintf("the extension images for Flatcar %s are not on this node yet", release)
	var descriptor dbus.UnixFD
	call := bus.Object("org.freedesktop.login1", "/org/freedesktop/login1").
		CallWithContext(ctx, "org.freedesktop.login1.Manager.Inhibit", 0, "shutdown", "extension-agent", why, "block")
	if err := call.Store(&descriptor); err != nil {
		return nil, fmt.Errorf("logind refuses an inhibitor: %w", err)
	}
	return os.NewFile(uintptr(descriptor), "inhibitor"), nil
}

// Release ends the hold: locksmithd runs again if it ran. Without a hold it does nothing.
func (h *Holder) Release(ctx context.Context) error {
	held, err := Read(h.Node)
	if err != nil || held == nil {
		return err
	}
	var problems []error
	if h.inhibitor != nil {
		problems = append(problems, h.inhibitor.Close())
		h.inhibitor = nil
	}
	if enabled, _ := h.Node.Run(ctx, "systemctl", "is-enabled", locksmith); strings.TrimSpace(enabled) == "masked-runtime" {
		_, err := h.Node.Run(ctx, "systemctl", "unmask", "--runtime", locksmith)
		problems = append(problems, err)
		if held.Locksmith {
			_, err := h.Node.Run(ctx, "systemctl", "--no-block", "start", locksmith)
			problems = append(problems, err)
		}
	}
	problems = append(problems, h.hook(ctx, "release", *held))
	problems = append(problems, files.Remove(h.Node.Path(heldFile)))
	return errors.Join(problems...)
}

// hook runs a program of the operator if it exists, with the release and the missing extensions as arguments.
func (h *Holder) hook(ctx context.Context, name string, held Held) error {
	path := h.Node.Path(filepath.Join(HookDir, name))
	if _, err := exec.LookPath(path); err != nil {
		return nil
	}
	_, err := h.Node.Run(ctx, path, append([]string{held.Release}, held.Missing...)...)
	return err
}

func sinceFile(release string) string { return runDir + "/installed-" + release }

// Installed records that a release can be booted; the time of holds starts then. uptime is the time since boot.
func Installed(n *node.Node, release string, uptime time.Duration) error {
	path := n.Path(sinceFile(release))
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	return files.WriteAtomic(path, []byte(strconv.FormatInt(int64(uptime/time.Second), 10)), 0o644)
}

// IsInstalled reports whether Installed was called for a release in this boot.
func IsInstalled(n *node.Node, release string) bool {
	_, err := os.Stat(n.Path(sinceFile(release)))
	return err == nil
}

// Left is how long a reboot into a release may still be held by a policy. Before the release can be booted, the whole time is left.
func Left(n *node.Node, release string, policy config.Hold, uptime time.Duration) time.Duration {
	if policy.Forever {
		return 1<<63 - 1
	}
	data, err := files.ReadLimited(n.Path(sinceFile(release)), 64)
	if err != nil {
		return policy.For
	}
	seconds, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
	since := time.Duration(seconds) * time.Second
	if err != nil || since > uptime {
		return policy.For // damaged: hold too long rather than too short
	}
	return max(0, policy.For-(uptime-since))
}

// Ready reports whether a reboot is due and not held: the sentinel command of kured. The reason says why not.
func Ready(n *node.Node) (bool, string) {
	if _, err := os.Stat(n.Path(node.RebootRequired)); err != nil {
		return false, "no reboot is required"
	}
	held, err := Read(n)
	if err != nil {
		return false, err.Error()
	}
	if held != nil {
		return false, fmt.Sprintf("the reboot into Flatcar %s waits for: %s", held.Release, strings.Join(held.Missing, ", "))
	}
	return true, "a reboot is required"
}
