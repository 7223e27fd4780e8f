// Package agent puts the parts together: metadata, choice, download, check, link, merge, health, commit or return.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"time"

	"github.com/flatcar/extensions/packages/agent/internal/config"
	"github.com/flatcar/extensions/packages/agent/internal/fetch"
	"github.com/flatcar/extensions/packages/agent/internal/files"
	"github.com/flatcar/extensions/packages/agent/internal/health"
	"github.com/flatcar/extensions/packages/agent/internal/index"
	"github.com/flatcar/extensions/packages/agent/internal/journal"
	"github.com/flatcar/extensions/packages/agent/internal/metadata"
	"github.com/flatcar/extensions/packages/agent/internal/node"
	"github.com/flatcar/extensions/packages/agent/internal/version"
)

// stateDir has what the agent remembers.
const stateDir = "/var/lib/extension-agent"

// Agent works on one node with one tree.
type Agent struct {
	Config  config.Config
	Node    *node.Node
	Journal *journal.Journal
	Fetch   *fetch.Client
	Log     *slog.Logger
	Now     func() time.Time
	// Slice is the time after which a download makes room for the others; it is resumed later.
	Slice time.Duration

	// before has units that were unhealthy before the last refresh, by extension.
	before map[string]health.Baseline
}

// Open reads settings and journal of a node.
func Open(n *node.Node, log *slog.Logger) (*Agent, error) {
	settings, err := config.Load(n.Root)
	if err != nil {
		return nil, err
	}
	state, err := journal.Open(n.Root)
	if err != nil {
		return nil, err
	}
	return &Agent{Config: settings, Node: n, Journal: state, Fetch: fetch.New(), Log: log, Now: time.Now, Slice: 5 * time.Minute}, nil
}

// Tree is a verified view of the published tree.
type Tree struct {
	metadata.Result
	agent      *Agent
	extensions map[string]index.Extension
}

// Tree refreshes the metadata and returns the list of the tree. It needs the operator's root.
func (a *Agent) Tree(ctx context.Context) (*Tree, error) {
	if a.Config.Tree == "" {
		return nil, fmt.Errorf("%s: tree: no tree is configured: add tree = \"https://…\"", config.File)
	}
	root, err := files.ReadLimited(a.Node.Path(a.Config.Root), 1<<20)
	if err != nil {
		return nil, fmt.Errorf("cannot verify the tree: no root of trust: %w: copy the tree's metadata/1.root.json there and compare its keys with the publisher", err)
	}
	client := metadata.Client{Tree: a.Config.Tree, Root: root, Dir: a.Node.Path(filepath.Join(stateDir, "trust")), Fetch: a.Fetch, Now: a.Now}
	result, err := client.Refresh(ctx)
	if err != nil {
		return nil, err
	}
	return &Tree{Result: result, agent: a, extensions: map[string]index.Extension{}}, nil
}

// Extension returns the index of an extension, checked against the list.
func (t *Tree) Extension(ctx context.Context, name string) (index.Extension, error) {
	if known, ok := t.extensions[name]; ok {
		return known, nil
	}
	entry, ok := t.Index.Entry(name)
	if !ok {
		return index.Extension{}, fmt.Errorf("the tree has no extension %q", name)
	}
	data, err := t.agent.Fetch.Verified(ctx, t.agent.url(entry.Path), entry.File)
	if err != nil {
		return index.Extension{}, err
	}
	extension, err := index.ParseExtension(data, name)
	if err == nil {
		t.extensions[name] = extension
	}
	return extension, err
}

func (a *Agent) url(path string) string {
	joined, err := url.JoinPath(a.Config.Tree, path)
	if err != nil {
		return a.Config.Tree // checked when the settings were read
	}
	return joined
}

// Plan is what an extension needs for a release.
type Plan struct {
	Name     string
	Settings config.Extension
	// Extension is empty if Err says why it could not be read.
	Extension index.Extension
	// Choice is the image to have; Link is where its link is.
	Choice index.Choice
	Link   string
	// Current is the linked image of that release; Linked is false if there is none.
	Current node.Linked
	Linked  bool
	// Err says why no image was chosen.
	Err error
}

// Missing reports whether the release has no image of the extension.
func (p Plan) Missing() bool { return !p.Linked }

// Due reports whether another image than the linked one was chosen.
func (p Plan) Due() bool {
	return p.Err == nil && (!p.Linked || p.Current.Image != node.ImagePath(p.Name, p.Choice.Image))
}

// Hold is the policy of an extension.
func (p Plan) Hold() config.Hold {
	if p.Settings.Hold != nil {
		return *p.Settings.Hold
	}
	return config.DefaultHold(p.Extension.Essential)
}

// Apply is when a newer image of the running release is merged.
func (a *Agent) apply(p Plan) config.Apply {
	if p.Settings.Apply != "" {
		return p.Settings.Apply
	}
	return a.Config.Apply
}

// Plans chooses an image of each configured extension, and of those that they require, for a release.
func (a *Agent) Plans(ctx context.Context, tree *Tree, release string) []Plan {
	var plans []Plan
	pending := slices.Sorted(maps.Keys(a.Config.Extensions))
	seen := map[string]bool{}
	for len(pending) > 0 {
		name := pending[0]
		pending = pending[1:]
		if seen[name] {
			continue
		}
		seen[name] = true
		plan := a.plan(ctx, tree, name, release)
		plans = append(plans, plan)
		pending = append(pending, plan.Choice.Version.Requires...)
	}
	return plans
}

func (a *Agent) plan(ctx context.Context, tree *Tree, name, release string) Plan {
	plan := Plan{Name: name, Settings: a.Config.Extensions[name]}
	for _, kind := range []string{"sysext", "confext"} {
		if current, ok := a.Node.Current(kind, name, release); ok {
			plan.Current, plan.Linked = current, true
		}
	}
	extension, err := tree.Extension(ctx, name)
	if err != nil {
		plan.Err = err
		return plan
	}
	plan.Extension = extension
	query := index.Query{
		Release: release, Architecture: a.Node.Architecture, Target: plan.Settings.Target, Systemd: a.Node.Systemd,
		Channel: plan.Settings.Channel, Refused: a.refused(),
	}
	running, installed := a.Node.Current(extension.Kind, name, a.Node.Release)
	if query.Channel == "" {
		query.Channel = version.Latest
		if extension.Follow == "minor" && installed {
			query.Channel = version.Minor(running.Version)
		}
	}
	if release != a.Node.Release {
		// The systemd of the next release is not known here; the tree lists only images that run on their release.
		query.Systemd = 0
	}
	if installed && !plan.Settings.AllowOlder {
		query.AtLeast = running.Version
	}
	plan.Choice, plan.Err = extension.Choose(query)
	if plan.Err == nil {
		plan.Link = node.Link(extension.Kind, name, plan.Choice.Image.Target)
	}
	return plan
}

func (a *Agent) refused() map[string]bool {
	refused := map[string]bool{}
	for digest := range a.Journal.State.Refused {
		refused[digest] = true
	}
	return refused
}

// conflicts returns an error if two of the extensions must not be merged together.
func conflicts(plans []Plan) error {
	for _, plan := range plans {
		for _, other := range plan.Choice.Version.Conflicts {
			if slices.ContainsFunc(plans, func(one Plan) bool { return one.Name == other }) {
				return fmt.Errorf("%s and %s cannot be merged together: remove one of them", plan.Name, other)
			}
		}
	}
	return nil
}

// Outcome is what happened to an extension.
type Outcome struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
	Target  string `json:"target,omitempty"`
	// Result is "unchanged", "linked" (merged at the next boot), "merged", "returned" or "failed".
	Result string `json:"result"`
	Reason string `json:"reason,omitempty"`
}

// Failed reports whether any extension is not as it should be.
func Failed(outcomes []Outcome) bool {
	return slices.ContainsFunc(outcomes, func(one Outcome) bool { return one.Result == "failed" || one.Result == "returned" })
}

// Stage fetches and links the images of a release that the node does not run yet.
func (a *Agent) Stage(ctx context.Context, tree *Tree, release string) []Outcome {
	return a.install(ctx, a.Plans(ctx, tree, release), false)
}

// Update fetches newer images of the running release, and merges those whose settings say so.
func (a *Agent) Update(ctx context.Context, tree *Tree) ([]Outcome, error) {
	if err := a.Recover(ctx); err != nil {
		return nil, err
	}
	plans := a.Plans(ctx, tree, a.Node.Release)
	if err := conflicts(plans); err != nil {
		return nil, err
	}
	return a.install(ctx, plans, true), nil
}

// install fetches all images, then links each. One failure does not stop the others.
func (a *Agent) install(ctx context.Context, plans []Plan, running bool) []Outcome {
	if err := a.Prune(nil); err != nil {
		a.Log.Warn("cannot remove old images", "error", err)
	}
	failures := a.fetchAll(ctx, plans)
	outcomes := make([]Outcome, len(plans))
	var merge []string
	for i, plan := range plans {
		outcomes[i] = Outcome{Name: plan.Name, Version: plan.Choice.Version.Version, Target: plan.Choice.Image.Target, Result: "unchanged"}
		err := errors.Join(plan.Err, failures[plan.Name])
		if err == nil && plan.Due() {
			atReboot := !running || a.Node.Offline() || a.apply(plan) == config.Reboot && plan.Linked
			if err = a.link(plan, atReboot); err == nil {
				outcomes[i].Result = "linked"
				if !atReboot {
					merge = append(merge, plan.Link)
				} else if running && !a.Node.Offline() {
					a.requestReboot(plan)
				}
			}
		}
		if err == nil {
			continue
		}
		if plan.Linked && plan.Err != nil {
			// What is linked stays: no newer image is not a failure.
			outcomes[i] = Outcome{Name: plan.Name, Version: plan.Current.Version, Target: plan.Current.Target, Result: "unchanged", Reason: err.Error()}
			continue
		}
		outcomes[i].Result, outcomes[i].Reason = "failed", err.Error()
		a.Log.Warn("no image", "extension", plan.Name, "error", err)
	}
	if len(merge) > 0 {
		a.mergeAndJudge(ctx, merge, plans, outcomes)
	}
	return outcomes
}
