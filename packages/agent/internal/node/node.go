// Package node knows the paths and the facts of a node: its release, its architecture, its systemd, and the links of its images.
package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/flatcar/extensions/packages/agent/internal/files"
	"github.com/flatcar/extensions/packages/agent/internal/image"
	"github.com/flatcar/extensions/packages/agent/internal/index"
	"github.com/flatcar/extensions/packages/agent/internal/version"
)

// Images is the folder of image files, with a folder for each extension.
const Images = "/opt/extensions"

// RebootRequired is the file by which kured and others learn that a reboot is due.
const RebootRequired = "/run/reboot-required"

// Runner runs a program and returns its standard output. Errors have what it wrote to standard error.
type Runner func(ctx context.Context, name string, args ...string) (string, error)

// Run is the runner of a real node: a program has two minutes.
func Run(ctx context.Context, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, name, args...)
	command.WaitDelay = 5 * time.Second
	output, err := command.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(exit.Stderr)))
	}
	return string(output), err
}

// Node is a node, or the root of one in a folder.
type Node struct {
	// Root is "/" on a running node.
	Root string
	// ID and Release are from os-release; Release is empty on systems other than Flatcar.
	ID, Release, VersionID string
	// Architecture is as systemd writes it.
	Architecture string
	// Systemd is the version of systemd; 0 if it is unknown.
	Systemd int
	// Boot identifies the running boot.
	Boot string
	Run  Runner
	// Live: the node is the running system. In a folder nothing is merged, held or restarted.
	Live bool
	// Booted: systemd runs as PID 1 (sd_booted(3)). In a container or a chroot, images are merged and no unit is touched.
	Booted bool
}

// Offline reports whether the node is a folder.
func (n *Node) Offline() bool { return !n.Live }

var systemdVersion = regexp.MustCompile(`(?m)^systemd (\d+)`)

// Open reads the facts of a node.
func Open(ctx context.Context, root string, run Runner) (*Node, error) {
	node := &Node{Root: root, Run: run, Live: root == "/", Architecture: map[string]string{"amd64": "x86-64", "arm64": "arm64"}[runtime.GOARCH]}
	if node.Architecture == "" {
		return nil, fmt.Errorf("there are no images for %s", runtime.GOARCH)
	}
	text, err := files.ReadLimited(node.Path("/etc/os-release"), 1<<16)
	if errors.Is(err, fs.ErrNotExist) {
		text, err = files.ReadLimited(node.Path("/usr/lib/os-release"), 1<<16)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read os-release: %w", err)
	}
	release := image.ParseRelease(string(text))
	node.ID, node.VersionID = release["ID"], release["VERSION_ID"]
	if node.ID == "flatcar" {
		node.Release = node.VersionID
		if !version.IsRelease(node.Release) {
			return nil, fmt.Errorf("os-release: VERSION_ID=%s is not a Flatcar release such as 4593.2.5", node.Release)
		}
	}
	if boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		node.Boot = strings.TrimSpace(string(boot))
	}
	if node.Offline() {
		return node, nil
	}
	if info, err := os.Stat("/run/systemd/system"); err == nil {
		node.Booted = info.IsDir()
	}
	output, err := run(ctx, "systemctl", "--version")
	if match := systemdVersion.FindStringSubmatch(output); err == nil && match != nil {
		node.Systemd, _ = strconv.Atoi(match[1])
	}
	return node, nil
}

// Path is a path of the node as this process sees it.
func (n *Node) Path(path string) string { return filepath.Join(n.Root, path) }

// Folder is the folder of links that systemd merges; confexts are merged over /etc, so their links cannot be in it (systemd-confext(8)).
func Folder(kind string) string {
	if kind == "confext" {
		return "/var/lib/confexts"
	}
	return "/etc/extensions"
}

// Link is the link of an image for a target.
func Link(kind, name, target string) string {
	if target == index.Portable {
		return filepath.Join(Folder(kind), name+".raw")
	}
	return filepath.Join(Folder(kind), name+"-"+target+".raw")
}

// ImagePath is the file of an image of the index.
func ImagePath(name string, one index.Image) string {
	return filepath.Join(Images, name, filepath.Base(one.Path))
}

var imageName = regexp.MustCompile(`^/opt/extensions/([a-z0-9-]+)/([a-z0-9-]+)\.([0-9a-z.]+)_([^_/]+)_(x86-64|arm64)\.raw$`)

// Linked is an image with a link.
type Linked struct {
	Name, Kind string
	// Link is its path, Image what it leads to.
	Link, Image string
	// Target and Version are from the name of the image.
	Target, Version string
	// Exists is false for a link that leads nowhere.
	Exists bool
}

// Links lists the links that lead into the folder of images; links of other programs are not listed.
func (n *Node) Links() ([]Linked, error) {
	var all []Linked
	for _, kind := range []string{"sysext", "confext"} {
		folder := Folder(kind)
		entries, err := os.ReadDir(n.Path(folder))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			link := filepath.Join(folder, entry.Name())
			target, err := os.Readlink(n.Path(link))
			if err != nil || !strings.HasSuffix(link, ".raw") {
				continue
			}
			match := imageName.FindStringSubmatch(target)
			if match == nil || match[1] != match[2] || Link(kind, match[1], match[3]) != link {
				continue
			}
			_, err = os.Stat(n.Path(target))
			all = append(all, Linked{Name: match[1], Kind: kind, Link: link, Image: target, Target: match[3], Version: match[4], Exists: err == nil})
		}
	}
	return all, nil
}

// ImageOf returns what a link leads to, or "" if the link or the image does not exist.
func (n *Node) ImageOf(link string) string {
	target, err := os.Readlink(n.Path(link))
	if err != nil {
		return ""
	}
	if info, err := os.Stat(n.Path(target)); err != nil || info.Size() == 0 {
		return ""
	}
	return target
}

// Current returns the linked image of an extension for a release: the bound one, else the portable one.
func (n *Node) Current(kind, name, release string) (Linked, bool) {
	for _, target := range []string{release, index.Portable} {
		if target == "" {
			continue
		}
		link := Link(kind, name, target)
		if path := n.ImageOf(link); path != "" {
			one := Linked{Name: name, Kind: kind, Link: link, Image: path, Target: target, Exists: true}
			if match := imageName.FindStringSubmatch(path); match != nil {
				one.Version = match[4]
			}
			return one, true
		}
	}
	return Linked{}, false
}

// Merged returns the versions of merged extensions by name: what runs, whatever the links say.
func (n *Node) Merged() map[string]string {
	merged := map[string]string{}
	for _, kind := range []string{"sysext", "confext"} {
		folder, prefix := "/usr/lib/extension-release.d", "SYSEXT"
		if kind == "confext" {
			folder, prefix = "/etc/extension-release.d", "CONFEXT"
		}
		found, _ := filepath.Glob(n.Path(folder + "/extension-release.*"))
		for _, path := range found {
			text, err := files.ReadLimited(path, 1<<16)
			if err != nil {
				continue
			}
			release := image.ParseRelease(string(text))
			if name := release[prefix+"_ID"]; name != "" {
				merged[name] = release[prefix+"_VERSION_ID"]
			}
		}
	}
	return merged
}

// Uptime is the time since boot, suspend included: unlike the clock it never jumps.
func Uptime() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return 0
	}
	return time.Duration(now.Nano())
}

// Lock takes the lock of all commands that change the node. It waits, and reports by the function that it does. The returned function releases it.
func (n *Node) Lock(ctx context.Context, waiting func()) (func(), error) {
	path := n.Path("/run/extension-agent/lock")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for told := false; ; {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { file.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			file.Close()
			return nil, err
		}
		if !told {
			waiting()
			told = true
		}
		select {
		case <-ctx.Done():
			file.Close()
			return nil, context.Cause(ctx)
		case <-time.After(200 * time.Millisecond):
		}
	}
}
