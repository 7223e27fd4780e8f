// Package metrics writes a file for the textfile collector of node-exporter.
package metrics

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/flatcar/extensions/packages/agent/internal/files"
)

// File is the name of the file in the collector's folder.
const File = "extension_agent.prom"

// Extension is one extension of a node; a version is empty where there is none.
type Extension struct{ Name, Merged, Linked, Next, Target string }

// Values are all that is reported.
type Values struct {
	Extensions []Extension
	// Held: a reboot waits for images. Missing is their number; Refused that of images that failed on this node.
	Held             bool
	Missing, Refused int
	// LastCheck is when the tree was last verified, Expires when its metadata does, Serial that of its index; zero: never verified.
	LastCheck, Expires time.Time
	Serial             int64
}

// Write replaces the file. The folder must exist: the collector reads it.
func Write(folder string, values Values) error {
	return files.WriteAtomic(filepath.Join(folder, File), []byte(text(values)), 0o644)
}

func text(values Values) string {
	var out bytes.Buffer
	gauge := func(name, help string) { fmt.Fprintf(&out, "# HELP %s %s\n# TYPE %s gauge\n", name, help, name) }
	gauge("extension_info", "Versions of extensions on this node by state.")
	for _, one := range values.Extensions {
		for _, state := range [][2]string{{"merged", one.Merged}, {"linked", one.Linked}, {"next", one.Next}} {
			if state[1] != "" {
				fmt.Fprintf(&out, "extension_info{name=%s,version=%s,target=%s,state=%s} 1\n", quote(one.Name), quote(state[1]), quote(one.Target), quote(state[0]))
			}
		}
	}
	number := func(name, help string, value int64) {
		gauge(name, help)
		fmt.Fprintf(&out, "%s %d\n", name, value)
	}
	number("extension_reboot_held", "Whether a reboot waits for images.", map[bool]int64{true: 1}[values.Held])
	number("extension_missing_for_next", "Extensions without an image for the next release.", int64(values.Missing))
	number("extension_refused_images", "Images that failed on this node.", int64(values.Refused))
	if !values.LastCheck.IsZero() {
		number("extension_last_check_timestamp_seconds", "When the tree was last verified.", values.LastCheck.Unix())
		number("extension_metadata_expires_timestamp_seconds", "When the metadata of the tree expires.", values.Expires.Unix())
		number("extension_tree_serial", "Serial of the tree.", values.Serial)
	}
	return out.String()
}

var escape = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

func quote(text string) string { return `"` + escape.Replace(text) + `"` }

var kept = regexp.MustCompile(`(?m)^extension_(last_check_timestamp_seconds|metadata_expires_timestamp_seconds|tree_serial) (\d{1,15})$`)

// Kept reads what an earlier file says about the tree; all is zero without a file.
func Kept(folder string) (lastCheck, expires time.Time, serial int64, err error) {
	data, err := files.ReadLimited(filepath.Join(folder, File), 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return time.Time{}, time.Time{}, 0, nil
	}
	for _, match := range kept.FindAllStringSubmatch(string(data), -1) {
		value, _ := strconv.ParseInt(match[2], 10, 64)
		switch match[1] {
		case "last_check_timestamp_seconds":
			lastCheck = time.Unix(value, 0)
		case "metadata_expires_timestamp_seconds":
			expires = time.Unix(value, 0)
		case "tree_serial":
			serial = value
		}
	}
	return lastCheck, expires, serial, err
}
