// Package merge has systemd merge the linked images.
package merge

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/flatcar/extensions/packages/agent/internal/files"
	"github.com/flatcar/extensions/packages/agent/internal/node"
)

// Oldest versions of systemd that can do something (NEWS of systemd).
const (
	// sysextSince: ID=_any, and links to files of another name.
	sysextSince = 252
	// confextSince: systemd-confext.
	confextSince = 254
	// reloadSince: EXTENSION_RELOAD_MANAGER=1.
	reloadSince = 255
)

// Supported returns an error that says why this node cannot merge images of a kind.
func Supported(n *node.Node, kind string) error {
	since := sysextSince
	if kind == "confext" {
		since = confextSince
	}
	if n.Systemd > 0 && n.Systemd < since {
		return fmt.Errorf("systemd %d of this node cannot merge a %s: systemd %d or newer is required", n.Systemd, kind, since)
	}
	return nil
}

// Refresh merges the linked images of the kinds, and starts the units that they bring. It never restarts the merging services: that would
// leave /usr without extensions for a second.
func Refresh(ctx context.Context, n *node.Node, kinds ...string) error {
	for _, kind := range []string{"sysext", "confext"} {
		if !slices.Contains(kinds, kind) {
			continue
		}
		args := []string{"refresh"}
		if !n.Booted && n.Systemd >= reloadSince {
			args = append(args, "--no-reload") // there is no manager to reload
		}
		if _, err := n.Run(ctx, "systemd-"+kind, args...); err != nil {
			return err
		}
	}
	if !n.Booted {
		return nil
	}
	if n.Systemd < reloadSince {
		if _, err := n.Run(ctx, "systemctl", "daemon-reload"); err != nil {
			return err
		}
	}
	// Upholds= of a target counts once the target is active again (Flatcar's ensure-sysext.service does the same).
	_, err := n.Run(ctx, "systemctl", "--no-block", "start", "sockets.target", "timers.target", "multi-user.target")
	return err
}

// Enable has systemd merge images at every boot: Debian and Ubuntu ship the services disabled. On a systemd that does not reload the manager
// by itself, a unit of ours does after each merge at boot.
func Enable(ctx context.Context, n *node.Node, kind string) error {
	if !n.Booted {
		return nil
	}
	service := "systemd-" + kind + ".service"
	state, _ := n.Run(ctx, "systemctl", "is-enabled", service) // exit code 1 for a disabled unit
	switch strings.TrimSpace(state) {
	case "masked", "masked-runtime":
		return fmt.Errorf("%s is masked: run systemctl unmask %s", service, service)
	case "enabled", "enabled-runtime", "static", "alias":
	default:
		if _, err := n.Run(ctx, "systemctl", "enable", service); err != nil {
			return err
		}
	}
	if n.Systemd == 0 || n.Systemd >= reloadSince {
		return nil
	}
	if err := files.WriteAtomic(n.Path(reloadUnit), []byte(reloadText), 0o644); err != nil {
		return err
	}
	if _, err := n.Run(ctx, "systemctl", "daemon-reload"); err != nil {
		return err
	}
	_, err := n.Run(ctx, "systemctl", "enable", filepath.Base(reloadUnit))
	return err
}

const reloadUnit = "/etc/systemd/system/extension-reload.service"

const reloadText = `# Written by extension-agent: systemd before 255 does not read the units of merged extensions by itself.
[Unit]
Description=Units of merged system extensions
DefaultDependencies=no
Requires=systemd-sysext.service
After=systemd-sysext.service
Before=sysinit.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/systemctl daemon-reload
ExecStart=/bin/systemctl --no-block start sockets.target timers.target multi-user.target

[Install]
WantedBy=sysinit.target
`

var upholds = regexp.MustCompile(`(?m)^Upholds=(.+)$`)

// Units are the units that a merged image starts: those in its Upholds= drop-ins, which are named after the extension. None if systemd does
// not run.
func Units(n *node.Node, kind, name string) []string {
	if !n.Booted {
		return nil
	}
	folder := "/usr/lib/systemd/system"
	if kind == "confext" {
		folder = "/etc/systemd/system"
	}
	found, _ := filepath.Glob(n.Path(folder + "/*.target.d/10-" + name + "-*.conf"))
	var units []string
	for _, path := range found {
		text, err := files.ReadLimited(path, 1<<16)
		if err != nil {
			continue
		}
		for _, match := range upholds.FindAllStringSubmatch(string(text), -1) {
			for unit := range strings.FieldsSeq(match[1]) {
				// The name of a drop-in has that of its unit: extension "docker" does not own 10-docker-engine-….conf of another one.
				if filepath.Base(path) == "10-"+name+"-"+strings.ReplaceAll(unit, ".", "-")+".conf" {
					units = append(units, unit)
				}
			}
		}
	}
	slices.Sort(units)
	return slices.Compact(units)
}

// RequestReboot has the programs that schedule reboots schedule one.
func RequestReboot(n *node.Node) error {
	file, err := os.OpenFile(n.Path(node.RebootRequired), os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return file.Close()
}
