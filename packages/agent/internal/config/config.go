// Package config reads the operator's settings: /etc/extension-agent.toml and the files of /etc/extension-agent.toml.d.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/flatcar/extensions/packages/agent/internal/files"
	"github.com/flatcar/extensions/packages/agent/internal/version"
)

// Paths below the root of the node.
const (
	File    = "/etc/extension-agent.toml"
	DropIns = "/etc/extension-agent.toml.d"
)

// maxSize bounds each file, in bytes.
const maxSize = 1 << 20

// Apply says when a newer image of the running release is merged.
type Apply string

const (
	// Reboot merges it at the next boot, which is requested by /run/reboot-required.
	Reboot Apply = "reboot"
	// Refresh merges it at once and restarts the units of the image.
	Refresh Apply = "refresh"
)

// Hold is how long a reboot into a release waits for an image of that release.
type Hold struct {
	Forever bool
	For     time.Duration
}

// UnmarshalText reads "forever", "never" or a duration such as 24h.
func (h *Hold) UnmarshalText(text []byte) error {
	switch string(text) {
	case "forever":
		*h = Hold{Forever: true}
		return nil
	case "never":
		*h = Hold{}
		return nil
	}
	duration, err := time.ParseDuration(string(text))
	if err != nil || duration < 0 {
		return fmt.Errorf(`%q is not a time to hold a reboot: use "forever", "never" or a duration such as "24h"`, text)
	}
	*h = Hold{For: duration}
	return nil
}

func (h Hold) String() string {
	if h.Forever {
		return "forever"
	}
	return h.For.String()
}

// Extension has the settings of one extension.
type Extension struct {
	// Channel is "latest", a branch such as 1.36, or one version. Empty: what the extension's publisher recommends.
	Channel string `toml:"channel"`
	// Target is "portable" or "release": which images to prefer. Empty: portable images if the newest version has one.
	Target string `toml:"target"`
	// Apply overrides the setting for all extensions.
	Apply Apply `toml:"apply"`
	// Hold overrides the publisher's policy: forever for essential extensions, a day for others.
	Hold *Hold `toml:"hold"`
	// AllowOlder accepts a version for the next release that is older than the one that runs.
	AllowOlder bool `toml:"allow-older"`

	// Source is the file that the settings are from; empty for an extension that only another one requires.
	Source string `toml:"-"`
}

// Config has all settings, with defaults.
type Config struct {
	// Tree is the URL of the published tree.
	Tree string `toml:"tree"`
	// Root is the file with the TUF root metadata that the operator trusts.
	Root string `toml:"root"`
	// Parallel is the number of images that are fetched at the same time.
	Parallel int `toml:"parallel"`
	// Apply says when newer images of the running release are merged.
	Apply Apply `toml:"apply"`
	// Settle is how long units must stay healthy after a merge.
	Settle Duration `toml:"settle"`
	// Metrics is the folder of node-exporter's textfile collector; empty writes no metrics.
	Metrics string `toml:"metrics"`
	// Windows are the times in which the agent itself may reboot the node; none: it never does.
	Windows []Window `toml:"reboot-windows"`
	// Extensions has the settings by name.
	Extensions map[string]Extension `toml:"extensions"`
}

// Duration is a time.Duration that is written as text, such as "30s".
type Duration time.Duration

// UnmarshalText reads a duration that is not negative.
func (d *Duration) UnmarshalText(text []byte) error {
	duration, err := time.ParseDuration(string(text))
	if err != nil || duration < 0 {
		return fmt.Errorf(`%q is not a duration such as "30s"`, text)
	}
	*d = Duration(duration)
	return nil
}

// Defaults has the settings of an empty file.
func Defaults() Config {
	return Config{
		Root:       "/etc/extension-agent/root.json",
		Parallel:   4,
		Apply:      Reboot,
		Settle:     Duration(30 * time.Second),
		Extensions: map[string]Extension{},
	}
}

// DefaultHold is the policy for extensions whose settings have none.
func DefaultHold(essential bool) Hold {
	if essential {
		return Hold{Forever: true}
	}
	return Hold{For: 24 * time.Hour}
}

var name = regexp.MustCompile(`^[a-z][a-z0-9]*(?:-[a-z0-9]+)*$`)

// IsName reports whether a text is a valid extension name.
func IsName(text string) bool { return len(text) <= 64 && name.MatchString(text) }

// Load reads the settings below a root folder. A later file overrides single keys of an earlier one; drop-ins are read in the order of their names.
// Errors name the file and the line.
func Load(root string) (Config, error) {
	config := Defaults()
	names := []string{File}
	entries, err := os.ReadDir(filepath.Join(root, DropIns))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return config, err
	}
	for _, entry := range entries { // sorted by name
		if strings.HasSuffix(entry.Name(), ".toml") && !strings.HasPrefix(entry.Name(), ".") {
			names = append(names, filepath.Join(DropIns, entry.Name()))
		}
	}
	for _, name := range names {
		data, err := files.ReadLimited(filepath.Join(root, name), maxSize)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return config, err
		}
		if err := merge(&config, data, name); err != nil {
			return config, err
		}
	}
	return config, validate(config)
}

// merge adds the settings of one file.
func merge(config *Config, data []byte, source string) error {
	before := config.Extensions
	config.Extensions = nil
	decoder := toml.NewDecoder(strings.NewReader(string(data))).DisallowUnknownFields()
	if err := decoder.Decode(config); err != nil {
		return explain(err, source)
	}
	read := config.Extensions
	config.Extensions = before
	for name, settings := range read {
		if !IsName(name) {
			return fmt.Errorf("%s: extensions.%s: %q is not a valid extension name", source, name, name)
		}
		settings.Source = source
		config.Extensions[name] = overlay(before[name], settings)
	}
	return nil
}

// overlay takes the keys of b that are set.
func overlay(a, b Extension) Extension {
	if b.Channel == "" {
		b.Channel = a.Channel
	}
	if b.Target == "" {
		b.Target = a.Target
	}
	if b.Apply == "" {
		b.Apply = a.Apply
	}
	if b.Hold == nil {
		b.Hold = a.Hold
	}
	b.AllowOlder = a.AllowOlder || b.AllowOlder
	return b
}

func explain(err error, source string) error {
	var unknown *toml.StrictMissingError
	if errors.As(err, &unknown) && len(unknown.Errors) > 0 {
		row, _ := unknown.Errors[0].Position()
		return fmt.Errorf("%s: line %d: unknown setting %q", source, row, strings.Join(unknown.Errors[0].Key(), "."))
	}
	var decode *toml.DecodeError
	if errors.As(err, &decode) {
		row, _ := decode.Position()
		return fmt.Errorf("%s: line %d: %s", source, row, strings.TrimPrefix(decode.Error(), "toml: "))
	}
	return fmt.Errorf("%s: %w", source, err)
}

func validate(config Config) error {
	if config.Tree != "" {
		parsed, err := url.Parse(config.Tree)
		if err != nil || (parsed.Scheme != "https" && parsed.Scheme != "http") || parsed.Host == "" || parsed.RawQuery != "" || parsed.Fragment != "" {
			return fmt.Errorf("%s: tree: %q is not the URL of a tree: write it as https://host/path", File, config.Tree)
		}
	}
	if config.Parallel < 1 || config.Parallel > 64 {
		return fmt.Errorf("%s: parallel: %d is not between 1 and 64", File, config.Parallel)
	}
	if !filepath.IsAbs(config.Root) {
		return fmt.Errorf("%s: root: %q is not an absolute path", File, config.Root)
	}
	if config.Metrics != "" && !filepath.IsAbs(config.Metrics) {
		return fmt.Errorf("%s: metrics: %q is not an absolute path", File, config.Metrics)
	}
	applies := []Apply{"", Reboot, Refresh}
	if !slices.Contains(applies[1:], config.Apply) {
		return fmt.Errorf(`%s: apply: %q is not "reboot" or "refresh"`, File, config.Apply)
	}
	for name, one := range config.Extensions {
		switch {
		case one.Channel != "" && !version.IsChannel(one.Channel):
			return fmt.Errorf(`%s: extensions.%s.channel: %q is not a channel: use "latest", a branch such as "1.36", or a version`, one.Source, name, one.Channel)
		case one.Target != "" && one.Target != "portable" && one.Target != "release":
			return fmt.Errorf(`%s: extensions.%s.target: %q is not "portable" or "release"`, one.Source, name, one.Target)
		case !slices.Contains(applies, one.Apply):
			return fmt.Errorf(`%s: extensions.%s.apply: %q is not "reboot" or "refresh"`, one.Source, name, one.Apply)
		}
	}
	return nil
}

// DropIn is the file in which `install` records an extension.
func DropIn(name string) string { return filepath.Join(DropIns, "50-"+name+".toml") }

// DropInText has the settings that `install` records.
func DropInText(name, channel string) string {
	return fmt.Sprintf("# Written by extension-agent install.\n[extensions.%s]\nchannel = %q\n", name, channel)
}
