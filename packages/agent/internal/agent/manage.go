package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/flatcar/extensions/packages/agent/internal/config"
	"github.com/flatcar/extensions/packages/agent/internal/files"
	"github.com/flatcar/extensions/packages/agent/internal/index"
	"github.com/flatcar/extensions/packages/agent/internal/journal"
	"github.com/flatcar/extensions/packages/agent/internal/merge"
	"github.com/flatcar/extensions/packages/agent/internal/node"
	"github.com/flatcar/extensions/packages/agent/internal/version"
)

// Install records an extension in the settings, with a channel, and installs it. Without a channel the publisher's recommendation counts.
func (a *Agent) Install(ctx context.Context, tree *Tree, name, channel string) ([]Outcome, error) {
	extension, err := tree.Extension(ctx, name)
	if err != nil {
		return nil, err
	}
	if !a.Node.Offline() {
		if err := merge.Supported(a.Node, extension.Kind); err != nil {
			return nil, err
		}
	}
	if channel == "" {
		channel = a.Config.Extensions[name].Channel
	}
	if channel == "" {
		channel = recommended(extension, a.Node)
	}
	drop := config.DropIn(name)
	if source := a.Config.Extensions[name].Source; source != "" && source != drop && a.Config.Extensions[name].Channel != channel {
		return nil, fmt.Errorf("%s configures %s: change its channel there", source, name)
	}
	before := a.Config.Extensions[name]
	settings := before
	settings.Channel, settings.Source = channel, drop
	a.Config.Extensions[name] = settings
	plans := a.Plans(ctx, tree, a.Node.Release)
	if err := errors.Join(conflicts(plans), a.planOf(plans, name).Err); err != nil {
		return nil, err
	}
	if before.Source == "" || before.Source == drop {
		if err := files.WriteAtomic(a.Node.Path(drop), []byte(config.DropInText(name, channel)), 0o644); err != nil {
			return nil, fmt.Errorf("cannot record the extension: %w", err)
		}
	}
	if !a.Node.Offline() {
		if err := merge.Enable(ctx, a.Node, extension.Kind); err != nil {
			return nil, err
		}
	}
	return a.Update(ctx, tree)
}

func (a *Agent) planOf(plans []Plan, name string) Plan {
	at := slices.IndexFunc(plans, func(one Plan) bool { return one.Name == name })
	if at < 0 {
		return Plan{}
	}
	return plans[at]
}

// recommended is the channel that the publisher recommends: for "minor" the branch of the newest version that fits the node.
func recommended(extension index.Extension, n *node.Node) string {
	if extension.Follow != "minor" {
		return version.Latest
	}
	choice, err := extension.Choose(index.Query{Release: n.Release, Architecture: n.Architecture, Channel: version.Latest, Systemd: n.Systemd})
	if err != nil {
		return version.Latest
	}
	return version.Minor(choice.Version.Version)
}

// Remove removes links, images and the recorded settings of an extension, and merges without it.
func (a *Agent) Remove(ctx context.Context, name string) error {
	settings, configured := a.Config.Extensions[name]
	if configured && settings.Source != config.DropIn(name) {
		return fmt.Errorf("%s configures %s: remove it there, then run the command again", settings.Source, name)
	}
	links, err := a.Node.Links()
	if err != nil {
		return err
	}
	links = slices.DeleteFunc(links, func(one node.Linked) bool { return one.Name != name })
	if !configured && len(links) == 0 {
		return fmt.Errorf("%s is not installed", name)
	}
	// The settings first: an interrupted removal is not undone by the next update.
	if err := files.Remove(a.Node.Path(config.DropIn(name))); err != nil {
		return err
	}
	for _, one := range links {
		if err := a.Journal.Update(func(s *journal.State) { delete(s.Trials, one.Link); delete(s.Former, one.Link) }); err != nil {
			return err
		}
		if err := files.Remove(a.Node.Path(one.Link)); err != nil {
			return err
		}
	}
	if !a.Node.Offline() && len(links) > 0 {
		if err := merge.Refresh(ctx, a.Node, links[0].Kind); err != nil {
			return err
		}
	}
	return os.RemoveAll(a.Node.Path(filepath.Join(node.Images, name)))
}

// Row is an extension in the answers of status and list.
type Row struct {
	Name string `json:"name"`
	// Merged is the version that runs; Linked the one that the link leads to; Next the one for the next release.
	Merged string `json:"merged,omitempty"`
	Linked string `json:"linked,omitempty"`
	Next   string `json:"next,omitempty"`
	Target string `json:"target,omitempty"`
	// Trial is what an image waits for: "reboot" or "health".
	Trial   string `json:"trial,omitempty"`
	Channel string `json:"channel,omitempty"`
	// Former is the image that rollback goes back to.
	Former string `json:"former,omitempty"`
}

// Rows lists configured and linked extensions. next is the release that waits for its boot, or empty.
func (a *Agent) Rows(next string) ([]Row, error) {
	links, err := a.Node.Links()
	if err != nil {
		return nil, err
	}
	names := map[string]string{}
	for name := range a.Config.Extensions {
		names[name] = "sysext"
	}
	for _, one := range links {
		names[one.Name] = one.Kind
	}
	merged := a.Node.Merged()
	var rows []Row
	for name, kind := range names {
		row := Row{Name: name, Merged: merged[name], Channel: a.Config.Extensions[name].Channel}
		if current, ok := a.Node.Current(kind, name, a.Node.Release); ok {
			row.Linked, row.Target = current.Version, current.Target
			row.Former = filepath.Base(a.Journal.State.Former[current.Link])
			if trial, waits := a.Journal.State.Trials[current.Link]; waits {
				row.Trial = "health"
				if trial.AtReboot && trial.Boot == a.Node.Boot {
					row.Trial = "reboot"
				}
			}
			if row.Former == "." {
				row.Former = ""
			}
		}
		if next != "" {
			if one, ok := a.Node.Current(kind, name, next); ok {
				row.Next = one.Version
			}
		}
		rows = append(rows, row)
	}
	slices.SortFunc(rows, func(x, y Row) int { return compareText(x.Name, y.Name) })
	return rows, nil
}

func compareText(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// Forecast is what an extension will have on a release.
type Forecast struct {
	Name string `json:"name"`
	Now  string `json:"now,omitempty"`
	Then string `json:"then,omitempty"`
	// Bytes is how much will be fetched.
	Bytes  int64  `json:"bytes"`
	Hold   string `json:"hold"`
	Reason string `json:"reason,omitempty"`
}

// Check says what a boot into a release would mean, and fetches no image.
func (a *Agent) Check(ctx context.Context, tree *Tree, release string) []Forecast {
	var all []Forecast
	for _, plan := range a.Plans(ctx, tree, release) {
		one := Forecast{Name: plan.Name, Then: plan.Choice.Version.Version, Hold: plan.Hold().String()}
		if running, ok := a.Node.Current(cmpKind(plan.Extension.Kind), plan.Name, a.Node.Release); ok {
			one.Now = running.Version
		}
		if plan.Err != nil {
			one.Reason = plan.Err.Error()
			if plan.Linked {
				one.Then = plan.Current.Version
			}
		} else if plan.Due() {
			one.Bytes = a.cost(plan)
		}
		all = append(all, one)
	}
	return all
}

func cmpKind(kind string) string {
	if kind == "" {
		return "sysext"
	}
	return kind
}

// cost is how many bytes an image will be fetched with.
func (a *Agent) cost(plan Plan) int64 {
	if _, err := os.Stat(a.Node.Path(node.ImagePath(plan.Name, plan.Choice.Image))); !errors.Is(err, fs.ErrNotExist) {
		return 0
	}
	for _, one := range plan.Choice.Image.Deltas {
		if _, ok := a.source(plan, one); ok {
			return one.Size
		}
	}
	return plan.Choice.Image.Size
}
