package testtree

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/flatcar/extensions/packages/agent/internal/image"
	"github.com/flatcar/extensions/packages/agent/internal/node"
)

// Systemd stands for the programs of systemd on a node in a folder: it merges the links that match the release, and has a unit for each
// extension. All programs of the agent's Runner go through it.
type Systemd struct {
	Root    string
	Version int
	// Bad has images, by file name, whose unit fails: "failed" or "restarts".
	Bad map[string]string
	// Calls are the commands that were run.
	Calls []string
	// Locksmith is the state of locksmithd: "active", "inactive" or "masked".
	Locksmith string
	// Fail makes a command fail, by its whole text.
	Fail map[string]bool

	lock     sync.Mutex
	merged   map[string]string
	restarts map[string]int
}

// NewNode makes the root of a Flatcar node and its systemd.
func NewNode(t testing.TB, release string) *Systemd {
	t.Helper()
	s := &Systemd{Root: t.TempDir(), Version: 257, Bad: map[string]string{}, Fail: map[string]bool{}, Locksmith: "active"}
	s.Boot(t, release)
	return s
}

// Write writes a file of the node.
func (s *Systemd) Write(t testing.TB, path, text string) {
	t.Helper()
	whole := filepath.Join(s.Root, path)
	if err := os.MkdirAll(filepath.Dir(whole), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(whole, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

// Boot boots the node into a release: /run is empty, and all links are merged.
func (s *Systemd) Boot(t testing.TB, release string) {
	t.Helper()
	s.Write(t, "usr/lib/os-release", fmt.Sprintf("ID=flatcar\nVERSION_ID=%s\nSYSEXT_LEVEL=1.0\n", release))
	os.RemoveAll(filepath.Join(s.Root, "run"))
	os.MkdirAll(filepath.Join(s.Root, "run"), 0o755)
	s.restarts = map[string]int{}
	if s.Locksmith == "masked" {
		s.Locksmith = "active"
	}
	s.merge()
}

// Open opens the node as the agent does on a running system. Each name of a boot is another boot.
func (s *Systemd) Open(t testing.TB, boot string) *node.Node {
	t.Helper()
	n, err := node.Open(t.Context(), s.Root, s.Run)
	if err != nil {
		t.Fatal(err)
	}
	n.Live, n.Booted, n.Systemd, n.Boot = true, true, s.Version, boot
	return n
}

// Merged is the image file that is merged of an extension, or "".
func (s *Systemd) Merged(name string) string { return s.merged[name] }

func (s *Systemd) merge() {
	s.merged = map[string]string{}
	os.RemoveAll(filepath.Join(s.Root, "usr/lib/extension-release.d"))
	os.RemoveAll(filepath.Join(s.Root, "usr/lib/systemd/system"))
	text, _ := os.ReadFile(filepath.Join(s.Root, "usr/lib/os-release"))
	running := image.ParseRelease(string(text))
	links, _ := filepath.Glob(filepath.Join(s.Root, "etc/extensions/*.raw"))
	for _, link := range links {
		target, err := os.Readlink(link)
		if err != nil {
			continue
		}
		name, _, _ := strings.Cut(filepath.Base(target), ".")
		release, err := image.ReadRelease(filepath.Join(s.Root, target), name, "sysext")
		if err != nil || (release["ID"] != "_any" && release["VERSION_ID"] != running["VERSION_ID"]) {
			continue
		}
		s.merged[name] = filepath.Base(target)
		folder := filepath.Join(s.Root, "usr/lib")
		os.MkdirAll(filepath.Join(folder, "extension-release.d"), 0o755)
		os.WriteFile(filepath.Join(folder, "extension-release.d/extension-release."+name), []byte("SYSEXT_ID="+name+"\nSYSEXT_VERSION_ID="+release["SYSEXT_VERSION_ID"]+"\n"), 0o644)
		drop := filepath.Join(folder, "systemd/system/multi-user.target.d")
		os.MkdirAll(drop, 0o755)
		os.WriteFile(filepath.Join(drop, "10-"+name+"-"+name+"-service.conf"), []byte("[Unit]\nUpholds="+name+".service\n"), 0o644)
	}
}

// Run stands for the programs.
func (s *Systemd) Run(ctx context.Context, name string, args ...string) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	s.lock.Lock()
	defer s.lock.Unlock()
	if filepath.IsAbs(name) {
		return node.Run(ctx, name, args...) // a program of the operator
	}
	call := strings.Join(append([]string{name}, args...), " ")
	s.Calls = append(s.Calls, call)
	if s.Fail[call] {
		return "", errors.New("stand-in: " + call + " fails")
	}
	last := ""
	if len(args) > 0 {
		last = args[len(args)-1]
	}
	switch {
	case call == "systemctl --version":
		return fmt.Sprintf("systemd %d (%d)\n", s.Version, s.Version), nil
	case name == "systemd-sysext":
		s.merge()
	case call == "systemctl is-enabled locksmithd.service":
		return map[string]string{"masked": "masked-runtime\n"}[s.Locksmith] + map[bool]string{true: "enabled\n"}[s.Locksmith != "masked"], nil
	case call == "systemctl is-active locksmithd.service":
		return s.Locksmith + "\n", nil
	case call == "systemctl mask --runtime --now locksmithd.service":
		s.Locksmith = "masked"
	case call == "systemctl unmask --runtime locksmithd.service":
		s.Locksmith = "inactive"
	case call == "systemctl --no-block start locksmithd.service":
		s.Locksmith = "active"
	case strings.HasPrefix(call, "systemctl show"):
		return s.show(strings.TrimSuffix(last, ".service")), nil
	case strings.HasPrefix(call, "systemctl is-enabled"):
		return "enabled\n", nil
	case call == "systemctl is-system-running":
		return "running\n", nil
	}
	return "", nil
}

func (s *Systemd) show(name string) string {
	file, merged := s.merged[name]
	switch {
	case !merged:
		return "LoadState=not-found\nActiveState=inactive\n"
	case s.Bad[file] == "failed":
		return "LoadState=loaded\nActiveState=failed\nSubState=failed\nResult=exit-code\nConditionResult=yes\nNRestarts=0\n"
	case s.Bad[file] == "restarts":
		s.restarts[name]++
		return fmt.Sprintf("LoadState=loaded\nActiveState=active\nSubState=running\nResult=success\nConditionResult=yes\nNRestarts=%d\n", s.restarts[name])
	}
	return "LoadState=loaded\nActiveState=active\nSubState=running\nResult=success\nConditionResult=yes\nNRestarts=0\n"
}

// Names are the merged extensions.
func (s *Systemd) Names() []string { return slices.Sorted(maps.Keys(s.merged)) }
