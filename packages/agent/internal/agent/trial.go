package agent

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/flatcar/extensions/packages/agent/internal/fetch"
	"github.com/flatcar/extensions/packages/agent/internal/files"
	"github.com/flatcar/extensions/packages/agent/internal/health"
	"github.com/flatcar/extensions/packages/agent/internal/index"
	"github.com/flatcar/extensions/packages/agent/internal/journal"
	"github.com/flatcar/extensions/packages/agent/internal/merge"
	"github.com/flatcar/extensions/packages/agent/internal/node"
)

// maxAttempts is how often a node may crash while an image is judged, before it goes back.
const maxAttempts = 2

// due returns the links whose trials can be judged now: images of the running release that are merged, or that an interrupted run was merging.
func (a *Agent) due() []string {
	var links []string
	for link, trial := range a.Journal.State.Trials {
		if trial.Target != index.Portable && trial.Target != a.Node.Release {
			continue
		}
		if trial.Failure != "" || !trial.AtReboot || trial.Boot != a.Node.Boot {
			links = append(links, link)
		}
	}
	slices.Sort(links)
	return links
}

// Recover finishes what an interruption left: links that were about to change, trials that were not judged, returns that were not complete.
func (a *Agent) Recover(ctx context.Context) error {
	for link, trial := range a.Journal.State.Trials {
		if a.Node.ImageOf(link) == trial.Image || trial.Failure != "" {
			continue
		}
		if a.Node.ImageOf(link) != trial.Former {
			// Neither: somebody else changed or removed the link, which counts.
			if err := a.forget(link); err != nil {
				return err
			}
			continue
		}
		if err := files.Symlink(trial.Image, a.Node.Path(link)); err != nil {
			return fmt.Errorf("cannot link %s: %w", link, err)
		}
	}
	if a.Node.Offline() {
		return nil
	}
	links := a.due()
	if len(links) == 0 {
		return nil
	}
	_, err := a.judge(ctx, links)
	return err
}

func (a *Agent) forget(link string) error {
	return a.Journal.Update(func(s *journal.State) { delete(s.Trials, link) })
}

// mergeAndJudge merges linked images and writes the verdicts into the outcomes.
func (a *Agent) mergeAndJudge(ctx context.Context, links []string, plans []Plan, outcomes []Outcome) {
	verdicts, err := a.judge(ctx, links)
	for i, plan := range plans {
		if !slices.Contains(links, plan.Link) {
			continue
		}
		switch reason, failed := verdicts[plan.Link]; {
		case err != nil:
			outcomes[i].Result, outcomes[i].Reason = "failed", err.Error()
		case failed:
			outcomes[i].Result, outcomes[i].Reason = "returned", reason
		default:
			outcomes[i].Result = "merged"
		}
	}
}

// judge merges the images of trials, restarts their units, judges their health, and commits or goes back. Returns the reasons of those that
// failed, by link. An error means that there is no verdict: the trials stay in the journal.
func (a *Agent) judge(ctx context.Context, links []string) (map[string]string, error) {
	failed := map[string]string{}
	if err := a.Journal.Update(func(s *journal.State) {
		for _, link := range links {
			trial := s.Trials[link]
			if trial.Attempts++; trial.Attempts > maxAttempts && trial.Failure == "" {
				trial.Failure = "the node went down each time while the image was judged"
			}
			s.Trials[link] = trial
		}
	}); err != nil {
		return nil, err
	}
	if err := a.refresh(ctx, links); err != nil {
		return nil, err
	}
	for _, link := range links {
		trial := a.Journal.State.Trials[link]
		if trial.Failure == "" {
			units := merge.Units(a.Node, trial.Kind, trial.Name)
			if err := health.Judge(ctx, a.Node, trial.Name, units, a.before[trial.Name], time.Duration(a.Config.Settle)); err != nil {
				if ctx.Err() != nil || a.stopping(ctx) {
					return nil, errors.Join(ctx.Err(), errors.New("the node is shutting down: no verdict"))
				}
				trial.Failure = err.Error()
			}
		}
		if trial.Failure == "" {
			if err := a.commit(link, trial); err != nil {
				return nil, err
			}
			continue
		}
		failed[link] = trial.Failure
		if err := a.goBack(ctx, link, trial); err != nil {
			return nil, err
		}
	}
	return failed, nil
}

// refresh notes the state of units, merges, and restarts the units of images that were merged without a reboot.
func (a *Agent) refresh(ctx context.Context, links []string) error {
	a.before = map[string]health.Baseline{}
	var kinds, restart []string
	for _, link := range links {
		trial := a.Journal.State.Trials[link]
		if trial.AtReboot {
			continue // systemd merged it at boot
		}
		kinds = append(kinds, trial.Kind)
		if trial.Former != "" {
			units := merge.Units(a.Node, trial.Kind, trial.Name)
			a.before[trial.Name] = health.Before(ctx, a.Node, units)
			restart = append(restart, units...)
		}
	}
	if len(kinds) == 0 {
		return nil
	}
	if err := merge.Refresh(ctx, a.Node, kinds...); err != nil {
		return err
	}
	return a.restart(ctx, restart)
}

// restart restarts units that run, but not the agent's own.
func (a *Agent) restart(ctx context.Context, units []string) error {
	units = slices.DeleteFunc(slices.Clone(units), func(unit string) bool { return strings.HasPrefix(unit, "extension-agent") })
	if len(units) == 0 {
		return nil
	}
	_, err := a.Node.Run(ctx, "systemctl", append([]string{"--no-block", "try-restart", "--"}, units...)...)
	return err
}

func (a *Agent) stopping(ctx context.Context) bool {
	state, _ := a.Node.Run(ctx, "systemctl", "is-system-running")
	return strings.TrimSpace(state) == "stopping"
}

// commit ends a trial: the former image is kept for a rollback.
func (a *Agent) commit(link string, trial journal.Trial) error {
	a.Log.Info("healthy", "extension", trial.Name, "image", filepath.Base(trial.Image))
	return a.Journal.Update(func(s *journal.State) {
		delete(s.Trials, link)
		if trial.Former != "" {
			s.Former[link] = trial.Former
		}
	})
}

// goBack relinks the former image, or removes the link if there was none, and merges. The journal has the failure first.
func (a *Agent) goBack(ctx context.Context, link string, trial journal.Trial) error {
	a.Log.Error("going back", "extension", trial.Name, "image", filepath.Base(trial.Image), "to", filepath.Base(trial.Former), "reason", trial.Failure)
	if err := a.Journal.Update(func(s *journal.State) {
		s.Trials[link] = trial
		a.refuse(s, trial.Name, trial.Image, trial.SHA256, trial.Failure)
	}); err != nil {
		return err
	}
	var err error
	if trial.Former == "" {
		err = files.Remove(a.Node.Path(link))
	} else {
		err = files.Symlink(trial.Former, a.Node.Path(link))
	}
	if err != nil {
		return err
	}
	if !a.Node.Offline() {
		if err := merge.Refresh(ctx, a.Node, trial.Kind); err != nil {
			return err
		}
		if err := a.restart(ctx, merge.Units(a.Node, trial.Kind, trial.Name)); err != nil {
			return err
		}
	}
	return a.forget(link)
}

// Rollback relinks the image that an extension had before, merges it, and refuses the present one.
func (a *Agent) Rollback(ctx context.Context, name string) (string, error) {
	for _, kind := range []string{"sysext", "confext"} {
		current, ok := a.Node.Current(kind, name, a.Node.Release)
		if !ok {
			continue
		}
		former := a.Journal.State.Former[current.Link]
		if trial, ok := a.Journal.State.Trials[current.Link]; ok {
			former = trial.Former
		}
		if former == "" {
			return "", fmt.Errorf("%s: there is no former image to go back to", name)
		}
		digest, err := fetch.Digest(a.Node.Path(current.Image))
		if err != nil {
			return "", err
		}
		trial := journal.Trial{Name: name, Kind: kind, Target: current.Target, Image: current.Image, Former: former, SHA256: digest, Boot: a.Node.Boot, Failure: "rolled back by hand"}
		if err := a.goBack(ctx, current.Link, trial); err != nil {
			return "", err
		}
		return filepath.Base(former), a.Journal.Update(func(s *journal.State) { delete(s.Former, current.Link) })
	}
	return "", fmt.Errorf("%s is not installed", name)
}

func (a *Agent) requestReboot(plan Plan) {
	if err := merge.RequestReboot(a.Node); err != nil {
		a.Log.Warn("cannot request a reboot", "error", err)
	}
	a.Log.Info("merged at the next boot", "extension", plan.Name, "version", plan.Choice.Version.Version, "file", node.RebootRequired)
}
