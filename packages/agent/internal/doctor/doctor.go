// Package doctor says why an image is not merged, and what to do.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/flatcar/extensions/packages/agent/internal/config"
	"github.com/flatcar/extensions/packages/agent/internal/files"
	"github.com/flatcar/extensions/packages/agent/internal/image"
	"github.com/flatcar/extensions/packages/agent/internal/journal"
	"github.com/flatcar/extensions/packages/agent/internal/merge"
	"github.com/flatcar/extensions/packages/agent/internal/node"
)

// Finding is a problem with what to do about it.
type Finding struct {
	// Subject is an extension, or a part of the node.
	Subject string `json:"subject"`
	Problem string `json:"problem"`
	Next    string `json:"next"`
}

// lowDisk is the free space below which downloads are likely to fail, in bytes.
const lowDisk = 256 << 20

// Examine returns the problems of a node: first those that concern all images.
func Examine(ctx context.Context, n *node.Node, settings config.Config, state journal.State) []Finding {
	all := slices.Concat(trust(n, settings), host(ctx, n), folders(n))
	links, err := n.Links()
	if err != nil {
		return append(all, Finding{"node", err.Error(), "correct the permissions of the folder"})
	}
	all = append(all, foreign(n, links)...)
	all = append(all, unlinked(n, settings, links)...)
	merged := n.Merged()
	for _, one := range links {
		if one.Target == "portable" || one.Target == n.Release {
			all = append(all, linked(ctx, n, one, merged, state)...)
		}
	}
	for _, refusal := range state.Refused {
		all = append(all, Finding{refusal.Extension, fmt.Sprintf("%s failed on this node: %s", refusal.Image, refusal.Reason), "install another version; the agent does not try this image again"})
	}
	slices.SortStableFunc(all, func(a, b Finding) int { return strings.Compare(a.Subject, b.Subject) })
	return all
}

func trust(n *node.Node, settings config.Config) []Finding {
	var all []Finding
	if settings.Tree == "" {
		all = append(all, Finding{"settings", "no tree is configured", "add tree = \"https://…\" to " + config.File})
	}
	if _, err := os.Stat(n.Path(settings.Root)); err != nil {
		all = append(all, Finding{"settings", "no root of trust: " + settings.Root + " does not exist", "copy the tree's metadata/1.root.json there, after comparing its keys with the publisher"})
	}
	if strings.HasPrefix(settings.Tree, "http://") {
		all = append(all, Finding{"settings", "the tree is fetched without encryption", "use https: images are verified, but anybody can see and delay them"})
	}
	return all
}

func host(ctx context.Context, n *node.Node) []Finding {
	if !n.Booted {
		return nil
	}
	var all []Finding
	for _, kind := range []string{"sysext", "confext"} {
		if kind == "confext" && !hasLinks(n, kind) {
			continue
		}
		if err := merge.Supported(n, kind); err != nil {
			all = append(all, Finding{"systemd", err.Error(), "update the operating system"})
			continue
		}
		service := "systemd-" + kind + ".service"
		state, _ := n.Run(ctx, "systemctl", "is-enabled", service)
		switch state = strings.TrimSpace(state); state {
		case "disabled":
			all = append(all, Finding{"systemd", service + " is disabled: images are gone after a reboot", "run systemctl enable --now " + service})
		case "masked", "masked-runtime":
			all = append(all, Finding{"systemd", service + " is masked", "run systemctl unmask " + service})
		}
	}
	return all
}

func hasLinks(n *node.Node, kind string) bool {
	found, _ := filepath.Glob(n.Path(node.Folder(kind) + "/*.raw"))
	return len(found) > 0
}

func folders(n *node.Node) []Finding {
	var all []Finding
	for _, folder := range []string{node.Folder("sysext"), node.Images} {
		path := n.Path(folder)
		for { // the agent creates missing folders
			if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) || path == filepath.Dir(path) {
				break
			}
			path = filepath.Dir(path)
		}
		if err := files.Writable(path); err != nil {
			next := "make the file system writable"
			if strings.HasPrefix(folder, "/etc") {
				next = "a confext made /etc read-only: ln -s /etc /var/lib/extensions.mutable/etc, then systemctl restart systemd-confext"
			}
			all = append(all, Finding{folder, "cannot be written: " + err.Error(), next})
		}
		if free, err := files.Free(path); err == nil && free < lowDisk {
			all = append(all, Finding{folder, fmt.Sprintf("only %d MiB are free", free>>20), "remove files; images of up to three releases are kept"})
		}
	}
	return all
}

// foreign finds files that systemd would merge, but that cannot work: one of them can keep all others from being merged.
func foreign(n *node.Node, links []node.Linked) []Finding {
	var all []Finding
	for _, kind := range []string{"sysext", "confext"} {
		found, _ := filepath.Glob(n.Path(node.Folder(kind) + "/*.raw"))
		for _, path := range found {
			inNode := filepath.Join(node.Folder(kind), filepath.Base(path))
			if slices.ContainsFunc(links, func(one node.Linked) bool { return one.Link == inNode }) {
				continue
			}
			if target, err := os.Readlink(path); err == nil && target == "/dev/null" {
				continue
			}
			if _, err := os.Stat(path); err != nil {
				all = append(all, Finding{inNode, "the link leads nowhere", "remove it: systemd may refuse to merge all images"})
				continue
			}
			name, _, _ := strings.Cut(strings.TrimSuffix(filepath.Base(path), ".raw"), "-")
			if _, err := image.ReadRelease(path, strings.TrimSuffix(filepath.Base(path), ".raw"), kind); errors.Is(err, image.ErrFormat) {
				all = append(all, Finding{inNode, "not an image of " + name + ", or damaged", "remove it, or name the link as the image's release file"})
			}
		}
	}
	return all
}

// unlinked finds configured extensions without a link for the running release.
func unlinked(n *node.Node, settings config.Config, links []node.Linked) []Finding {
	var all []Finding
	for name := range settings.Extensions {
		var targets []string
		for _, one := range links {
			if one.Name == name {
				targets = append(targets, one.Target)
			}
		}
		switch {
		case slices.Contains(targets, "portable") || slices.Contains(targets, n.Release):
		case len(targets) > 0:
			all = append(all, Finding{name, fmt.Sprintf("its images are for %s, and this is %s", strings.Join(targets, ", "), n.VersionID), "run extension-agent update"})
		default:
			all = append(all, Finding{name, "it has no image", "run extension-agent update"})
		}
	}
	return all
}

// linked examines an image that should be merged.
func linked(ctx context.Context, n *node.Node, one node.Linked, merged map[string]string, state journal.State) []Finding {
	finding := func(problem, next string) []Finding { return []Finding{{one.Name, problem, next}} }
	if !one.Exists {
		return finding(one.Link+" leads to "+one.Image+", which does not exist", "run extension-agent update")
	}
	release, err := image.ReadRelease(n.Path(one.Image), one.Name, one.Kind)
	if err != nil {
		return finding("the image is damaged: "+err.Error(), "remove "+one.Image+", then run extension-agent update")
	}
	if arch := release["ARCHITECTURE"]; arch != n.Architecture {
		return finding(fmt.Sprintf("the image is for %s, and this is %s", arch, n.Architecture), "remove "+one.Image+", then run extension-agent update")
	}
	if id := release["ID"]; id != "_any" && (id != n.ID || release["VERSION_ID"] != n.VersionID) {
		return finding(fmt.Sprintf("the image is for %s %s, and this is %s %s", id, release["VERSION_ID"], n.ID, n.VersionID), "remove "+one.Image+", then run extension-agent update")
	}
	if n.Offline() {
		return nil
	}
	if version := merged[one.Name]; version != one.Version {
		if trial, waits := state.Trials[one.Link]; waits && trial.AtReboot && trial.Boot == n.Boot {
			return nil // as configured
		}
		what := "it is not merged"
		if version != "" {
			what = "version " + version + " is merged, and " + one.Version + " is linked"
		}
		return finding(what, "run systemd-"+one.Kind+" refresh, and read its messages: an image policy or another damaged image can be the cause")
	}
	return units(ctx, n, one)
}

func units(ctx context.Context, n *node.Node, one node.Linked) []Finding {
	var all []Finding
	for _, unit := range merge.Units(n, one.Kind, one.Name) {
		output, err := n.Run(ctx, "systemctl", "show", "--property=LoadState,ActiveState,NeedDaemonReload", "--", unit)
		if err != nil {
			return append(all, Finding{one.Name, err.Error(), "look at systemctl status " + unit})
		}
		switch {
		case strings.Contains(output, "LoadState=masked"):
			all = append(all, Finding{one.Name, unit + " is masked", "run systemctl unmask " + unit + ", if it should run"})
		case strings.Contains(output, "LoadState=not-found"), strings.Contains(output, "NeedDaemonReload=yes"):
			all = append(all, Finding{one.Name, "systemd has not read " + unit, "run systemctl daemon-reload"})
		case strings.Contains(output, "ActiveState=failed"):
			all = append(all, Finding{one.Name, unit + " failed", "look at journalctl -u " + unit})
		}
	}
	return all
}
