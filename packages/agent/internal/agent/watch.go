package agent

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/flatcar/extensions/packages/agent/internal/config"
	"github.com/flatcar/extensions/packages/agent/internal/engine"
	"github.com/flatcar/extensions/packages/agent/internal/files"
	"github.com/flatcar/extensions/packages/agent/internal/hold"
	"github.com/flatcar/extensions/packages/agent/internal/journal"
	"github.com/flatcar/extensions/packages/agent/internal/metrics"
	"github.com/flatcar/extensions/packages/agent/internal/node"
	"github.com/flatcar/extensions/packages/agent/internal/version"
)

// nextFile has the release that is being installed, so that other commands and a restarted watcher know it. It ends with the boot.
const nextFile = "/run/extension-agent/next"

// Watcher follows update-engine: it has the images of the next release on the node before the reboot, and holds the reboot until then.
type Watcher struct {
	Agent  *Agent
	Holder *hold.Holder
	// Statuses are those of update-engine.
	Statuses <-chan engine.Status
	// Retry is the time between two attempts to fetch missing images; Warn that between two warnings.
	Retry, Warn time.Duration
	// Uptime is the clock of all waits.
	Uptime func() time.Duration

	next string
	// plans are the last known needs of the next release; nil until the tree was read.
	plans []Plan
	// staging is true while images are fetched in the background.
	staging  bool
	done     chan staged
	retryAt  time.Duration
	warnAt   time.Duration
	last     engine.Status
	problems map[string]bool
}

// staged is the result of one attempt in the background.
type staged struct {
	release string
	agent   *Agent
	plans   []Plan
	tree    *Tree
	err     error
}

// Next returns the release that waits for its boot, as the watcher last saw it, or "".
func Next(n *node.Node) string {
	data, err := files.ReadLimited(n.Path(nextFile), 64)
	if err != nil || !version.IsRelease(strings.TrimSpace(string(data))) {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// rememberSlots notes which releases are in the two slots of the node.
func (a *Agent) rememberSlots(next string) error {
	state := a.Journal.State
	if state.Running == a.Node.Release && (next == "" || state.Other == next) {
		return nil
	}
	return a.Journal.Update(func(s *journal.State) {
		if s.Running != a.Node.Release {
			s.Running, s.Other = a.Node.Release, s.Running
		}
		if next != "" {
			s.Other = next // an installed update overwrote the other slot
		}
	})
}

// Run follows update-engine until the context ends. The hold then stays: ExecStopPost releases it after a deliberate stop only.
func (w *Watcher) Run(ctx context.Context) error {
	w.done = make(chan staged, 1)
	w.next = Next(w.Agent.Node)
	w.problems = map[string]bool{}
	w.warnAt = w.Uptime() + w.Warn
	if w.Agent.Node.Release != "" {
		w.note("cannot write the journal", w.Agent.rememberSlots(""))
	}
	w.note("cannot finish what was interrupted", w.Agent.Recover(ctx))
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			if w.staging {
				<-w.done
			}
			return nil
		case status := <-w.Statuses:
			w.last = status
			w.announce(status)
		case result := <-w.done:
			w.staged(result)
		case <-ticker.C:
		}
		w.step(ctx)
		if w.Uptime() >= w.warnAt {
			w.warnAt = w.Uptime() + w.Warn
			w.hourly(ctx)
		}
	}
}

// note logs a problem once, until it is over.
func (w *Watcher) note(what string, err error) {
	if err != nil && !w.problems[what] {
		w.Agent.Log.Error(what, "error", err)
	}
	w.problems[what] = err != nil
}

// announce takes an answer of update-engine. While it does not answer, what it announced last counts: a release that is installed still waits
// for its boot.
func (w *Watcher) announce(status engine.Status) {
	n := w.Agent.Node
	if n.Release == "" {
		return // no Flatcar: no releases
	}
	switch {
	case status.Operation == "":
		return
	case !status.Offers():
		w.forget()
		return
	}
	offered := status.Version
	if offered == "" {
		offered = w.next
	}
	if offered == "" {
		offered = fromPrefs(n)
	}
	if offered == "" || offered == n.Release {
		return
	}
	if offered != w.next {
		w.next, w.plans, w.retryAt = offered, nil, 0
		w.note("cannot record the next release", files.WriteAtomic(n.Path(nextFile), []byte(offered+"\n"), 0o644))
	}
	if status.Operation == engine.NeedReboot {
		w.note("cannot record the installed release", hold.Installed(n, offered, w.Uptime()))
		w.note("cannot write the journal", w.Agent.rememberSlots(offered))
	}
}

// fromPrefs reads the release from update-engine's own state, which survives its restart.
func fromPrefs(n *node.Node) string {
	data, err := files.ReadLimited(n.Path("/var/lib/update_engine/prefs/full-response"), 1<<20)
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(data), `<manifest version="`)
	found, _, _ := strings.Cut(rest, `"`)
	if !version.IsRelease(found) {
		return ""
	}
	return found
}

func (w *Watcher) forget() {
	if w.next == "" {
		return
	}
	w.next, w.plans = "", nil
	w.note("cannot record the next release", files.Remove(w.Agent.Node.Path(nextFile)))
}

// missing lists configured extensions that have no image for the next release, by what is on disk.
func (w *Watcher) missing() []string {
	var missing []string
	for name := range w.Agent.Config.Extensions {
		if _, ok := w.current(name); !ok {
			missing = append(missing, name)
		}
	}
	for _, plan := range w.plans {
		if _, ok := w.current(plan.Name); !ok && !slices.Contains(missing, plan.Name) {
			missing = append(missing, plan.Name) // an extension that another one requires
		}
	}
	slices.Sort(missing)
	return missing
}

func (w *Watcher) current(name string) (node.Linked, bool) {
	for _, kind := range []string{"sysext", "confext"} {
		if one, ok := w.Agent.Node.Current(kind, name, w.next); ok {
			return one, true
		}
	}
	return node.Linked{}, false
}

// left is the longest time for which the missing extensions may still hold the reboot. An extension of which nothing is known holds as an
// essential one: a tree that cannot be read must not let the node lose it.
func (w *Watcher) left(missing []string) time.Duration {
	longest := time.Duration(0)
	for _, name := range missing {
		policy := Plan{Settings: w.Agent.Config.Extensions[name]}
		policy.Extension.Essential = true
		if known := w.Agent.planOf(w.plans, name); known.Extension.Name != "" {
			policy = known
		}
		longest = max(longest, hold.Left(w.Agent.Node, w.next, policy.Hold(), w.Uptime()))
	}
	return longest
}

// step brings hold and downloads in line with what is known.
func (w *Watcher) step(ctx context.Context) {
	if w.next == "" {
		w.note("cannot release the hold", w.Holder.Release(ctx))
		w.reboot(ctx)
		return
	}
	missing := w.missing()
	switch left := w.left(missing); {
	case len(missing) == 0:
		w.note("cannot release the hold", w.Holder.Release(ctx))
		w.reboot(ctx)
	case left > 0:
		w.note("cannot hold the reboot completely", w.Holder.Hold(ctx, w.next, missing))
	default:
		if held, _ := hold.Read(w.Agent.Node); held != nil {
			w.Agent.Log.Warn("the reboot goes on without images", "release", w.next, "missing", missing)
		}
		w.note("cannot release the hold", w.Holder.Release(ctx))
	}
	if len(missing) > 0 && !w.staging && w.Uptime() >= w.retryAt {
		w.stage(ctx)
	}
}

// stage fetches in the background: the loop goes on holding. It reads settings and journal again.
func (w *Watcher) stage(ctx context.Context) {
	w.staging = true
	release, before := w.next, w.Agent
	go func() {
		result := staged{release: release}
		defer func() { w.done <- result }()
		unlock, err := before.Node.Lock(ctx, func() {})
		if err != nil {
			result.err = err
			return
		}
		defer unlock()
		if result.agent, result.err = before.again(); result.err != nil {
			return
		}
		if result.tree, result.err = result.agent.Tree(ctx); result.err != nil {
			return
		}
		result.agent.Stage(ctx, result.tree, release)
		result.plans = result.agent.Plans(ctx, result.tree, release)
	}()
}

// again is an agent of the same node with the settings and the journal of now.
func (a *Agent) again() (*Agent, error) {
	fresh, err := Open(a.Node, a.Log)
	if err != nil {
		return nil, err
	}
	fresh.Fetch, fresh.Now, fresh.Slice = a.Fetch, a.Now, a.Slice
	return fresh, nil
}

func (w *Watcher) staged(result staged) {
	w.staging = false
	w.retryAt = w.Uptime() + w.Retry
	w.note("cannot read the tree", result.err)
	if result.agent != nil {
		w.Agent = result.agent
	}
	if result.release != w.next || result.err != nil {
		return
	}
	w.plans = result.plans
	if len(w.missing()) == 0 {
		w.Agent.Log.Info("all images are on the node", "release", w.next)
	}
	w.metrics(result.tree)
}

// hourly warns about missing images, and writes the metrics.
func (w *Watcher) hourly(ctx context.Context) {
	if w.next != "" {
		if missing := w.missing(); len(missing) > 0 {
			w.Agent.Log.Warn("images of the next release are missing", "release", w.next, "missing", missing)
		}
	}
	w.metrics(nil)
}

func (w *Watcher) metrics(tree *Tree) {
	w.note("cannot write metrics", w.Agent.WriteMetrics(tree, w.next, len(w.missing())))
}

// reboot reboots in a window of the operator, if a reboot is due.
func (w *Watcher) reboot(ctx context.Context) {
	now := w.Agent.Now()
	if !slices.ContainsFunc(w.Agent.Config.Windows, func(window config.Window) bool { return window.Contains(now) }) {
		return
	}
	ready, _ := hold.Ready(w.Agent.Node)
	if !ready && w.last.Operation != engine.NeedReboot {
		return
	}
	w.Agent.Log.Info("rebooting in a reboot window")
	_, err := w.Agent.Node.Run(ctx, "systemctl", "reboot")
	w.note("cannot reboot", err)
}

// WriteMetrics writes the file for node-exporter's textfile collector, if a folder is configured. tree is nil where it was not read.
func (a *Agent) WriteMetrics(tree *Tree, next string, missing int) error {
	if a.Config.Metrics == "" {
		return nil
	}
	rows, err := a.Rows(next)
	if err != nil {
		return err
	}
	held, err := hold.Read(a.Node)
	if err != nil {
		return err
	}
	values := metrics.Values{Held: held != nil, Missing: missing, Refused: len(a.Journal.State.Refused)}
	for _, row := range rows {
		values.Extensions = append(values.Extensions, metrics.Extension{Name: row.Name, Merged: row.Merged, Linked: row.Linked, Next: row.Next, Target: row.Target})
	}
	folder := a.Node.Path(a.Config.Metrics)
	if tree != nil {
		values.LastCheck, values.Expires, values.Serial = a.Now(), tree.Expires, tree.Index.Serial
	} else if values.LastCheck, values.Expires, values.Serial, err = metrics.Kept(folder); err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(folder, metrics.File), err)
	}
	return metrics.Write(folder, values)
}
