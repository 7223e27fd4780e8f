package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/flatcar/extensions/packages/agent/internal/delta"
	"github.com/flatcar/extensions/packages/agent/internal/fetch"
	"github.com/flatcar/extensions/packages/agent/internal/files"
	"github.com/flatcar/extensions/packages/agent/internal/image"
	"github.com/flatcar/extensions/packages/agent/internal/index"
	"github.com/flatcar/extensions/packages/agent/internal/journal"
	"github.com/flatcar/extensions/packages/agent/internal/node"
)

// errSlice ends the turn of a download.
var errSlice = errors.New("its turn is over")

// fetchAll has the images of all plans on disk, several at a time. A download whose slice of time is over makes room for the next and gets
// twice the time in its next turn, so that one slow image delays no other. Returns the errors by extension.
func (a *Agent) fetchAll(ctx context.Context, plans []Plan) map[string]error {
	type job struct {
		plan  Plan
		slice time.Duration
	}
	var jobs []job
	for _, plan := range plans {
		if plan.Due() {
			jobs = append(jobs, job{plan, a.Slice})
		}
	}
	failures := map[string]error{}
	var lock sync.Mutex
	for len(jobs) > 0 && ctx.Err() == nil {
		var again []job
		slots := make(chan struct{}, a.Config.Parallel)
		var running sync.WaitGroup
		for _, one := range jobs {
			slots <- struct{}{}
			running.Go(func() {
				defer func() { <-slots }()
				turn, cancel := context.WithTimeoutCause(ctx, one.slice, errSlice)
				defer cancel()
				err := a.obtain(turn, one.plan)
				lock.Lock()
				defer lock.Unlock()
				if errors.Is(err, errSlice) && ctx.Err() == nil {
					again = append(again, job{one.plan, 2 * one.slice})
				} else if err != nil {
					failures[one.plan.Name] = err
				}
			})
		}
		running.Wait()
		jobs = again
	}
	for _, one := range jobs {
		failures[one.plan.Name] = context.Cause(ctx)
	}
	return failures
}

// obtain has one image on disk: verified by digest, and saying of itself what the index says.
func (a *Agent) obtain(ctx context.Context, plan Plan) error {
	one := plan.Choice.Image
	path := a.Node.Path(node.ImagePath(plan.Name, one))
	if !fetch.Matches(path, one.File) {
		if err := a.download(ctx, plan, path); err != nil {
			return fmt.Errorf("%s: %w", plan.Name, err)
		}
	}
	err := image.Check(path, image.Expected{
		Name: plan.Name, Kind: plan.Extension.Kind, Version: plan.Choice.Version.Version, Architecture: a.Node.Architecture, Target: one.Target,
	})
	if err == nil {
		return nil
	}
	return errors.Join(err, a.Journal.Update(func(s *journal.State) { a.refuse(s, plan.Name, path, one.SHA256, err.Error()) }), files.Remove(path))
}

func (a *Agent) refuse(s *journal.State, name, path, digest, reason string) {
	s.Refused[digest] = journal.Refusal{Extension: name, Image: filepath.Base(path), Reason: reason, Time: a.Now()}
}

// download tries the delta of each image that the node has, then the whole image.
func (a *Agent) download(ctx context.Context, plan Plan, path string) error {
	one := plan.Choice.Image
	for _, candidate := range one.Deltas {
		old, ok := a.source(plan, candidate)
		if !ok {
			continue
		}
		err := a.applyDelta(ctx, candidate, old, one, path)
		if err == nil {
			a.Log.Info("made from a delta", "image", filepath.Base(path), "bytes", candidate.Size, "of", one.Size)
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		a.Log.Warn("a delta failed; fetching the whole image", "image", filepath.Base(path), "error", err)
	}
	return a.Fetch.File(ctx, a.url(one.Path), one.File, path)
}

// source finds the image on disk that a delta changes.
func (a *Agent) source(plan Plan, wanted index.Delta) (string, bool) {
	if wanted.Kind != delta.Blocks && wanted.Kind != delta.Zstd {
		return "", false
	}
	for _, version := range plan.Extension.Versions {
		at := slices.IndexFunc(version.Images, func(one index.Image) bool { return one.SHA256 == wanted.From })
		if at < 0 {
			continue
		}
		path := a.Node.Path(node.ImagePath(plan.Name, version.Images[at]))
		if info, err := os.Stat(path); err == nil && info.Size() == version.Images[at].Size {
			return path, true
		}
	}
	return "", false
}

// applyDelta makes an image in a temporary file, checks its digest and renames it.
func (a *Agent) applyDelta(ctx context.Context, one index.Delta, oldPath string, result index.Image, path string) (err error) {
	dir := filepath.Dir(path)
	patchPath := filepath.Join(dir, ".delta-"+one.SHA256)
	defer os.Remove(patchPath)
	if err := a.Fetch.File(ctx, a.url(one.Path), one.File, patchPath); err != nil {
		return err
	}
	old, err := os.Open(oldPath)
	if err != nil {
		return err
	}
	defer old.Close()
	patch, err := os.Open(patchPath)
	if err != nil {
		return err
	}
	defer patch.Close()
	made, err := os.CreateTemp(dir, ".made-*")
	if err != nil {
		return err
	}
	defer os.Remove(made.Name())
	if free, err := files.Free(dir); err == nil && free < result.Size+a.Fetch.Reserve {
		return errors.Join(fmt.Errorf("%s: %d MiB are free", dir, free>>20), made.Close())
	}
	err = delta.Apply(one.Kind, old, patch, result.Size, made)
	if err == nil {
		err = made.Chmod(0o644)
	}
	if err == nil {
		err = made.Sync()
	}
	if err = errors.Join(err, made.Close()); err != nil {
		return err
	}
	if !fetch.Matches(made.Name(), result.File) {
		return fetch.ErrDigest
	}
	return files.Rename(made.Name(), path)
}

// link records the trial, then switches the link: a crash between the two is resumed by Recover.
func (a *Agent) link(plan Plan, atReboot bool) error {
	path := node.ImagePath(plan.Name, plan.Choice.Image)
	former := a.Node.ImageOf(plan.Link)
	if trial, ok := a.Journal.State.Trials[plan.Link]; ok {
		former = trial.Former // the linked image was never judged: it is nothing to go back to
	}
	err := a.Journal.Update(func(s *journal.State) {
		s.Trials[plan.Link] = journal.Trial{
			Name: plan.Name, Kind: plan.Extension.Kind, Target: plan.Choice.Image.Target,
			Image: path, Former: former, SHA256: plan.Choice.Image.SHA256, Boot: a.Node.Boot, AtReboot: atReboot,
		}
	})
	if err != nil {
		return err
	}
	if err := files.Symlink(path, a.Node.Path(plan.Link)); err != nil {
		return fmt.Errorf("cannot link %s: %w", plan.Link, err)
	}
	if err := a.replaceBuiltIns(plan); err != nil {
		return err
	}
	// An extension is merged once: the other kind of image for the same release gives way.
	if plan.Linked && plan.Current.Link != plan.Link {
		return files.Remove(a.Node.Path(plan.Current.Link))
	}
	return nil
}

// builtIns are Flatcar's own extensions, each with a program that identifies an image that replaces it.
var builtIns = map[string]string{"containerd-flatcar": "usr/bin/containerd", "docker-flatcar": "usr/bin/dockerd"}

// replaceBuiltIns disables Flatcar's own extensions that an image replaces; a link to /dev/null does (flatcar.org, system extensions).
func (a *Agent) replaceBuiltIns(plan Plan) error {
	if a.Node.ID != "flatcar" {
		return nil
	}
	for name, program := range builtIns {
		if !slices.Contains(plan.Choice.Version.Replaces, program) {
			continue
		}
		if err := files.Symlink("/dev/null", a.Node.Path(filepath.Join(node.Folder("sysext"), name+".raw"))); err != nil {
			return err
		}
	}
	return nil
}

// stagedFor is how long images of a release that was staged by hand are kept.
const stagedFor = 14 * 24 * time.Hour

// Prune removes links of releases that are in no slot, and images that nothing needs. keep has further releases. It removes no bound link
// while the release of the other slot is unknown.
func (a *Agent) Prune(keep []string) error {
	links, err := a.Node.Links()
	if err != nil {
		return err
	}
	state := a.Journal.State
	kept := append([]string{index.Portable, a.Node.Release, state.Running, state.Other}, keep...)
	for release, since := range state.Staged {
		if age := a.Now().Sub(since); age < stagedFor {
			kept = append(kept, release)
		}
	}
	needed := map[string]bool{}
	for _, one := range links {
		if state.Other != "" && !slices.Contains(kept, one.Target) {
			if err := a.Journal.Update(func(s *journal.State) { delete(s.Trials, one.Link); delete(s.Former, one.Link) }); err != nil {
				return err
			}
			if err := files.Remove(a.Node.Path(one.Link)); err != nil {
				return err
			}
			a.Log.Info("removed the link of a release that is in no slot", "link", one.Link)
			continue
		}
		needed[one.Image] = true
		needed[state.Former[one.Link]] = true
	}
	for _, trial := range state.Trials {
		needed[trial.Image], needed[trial.Former] = true, true
	}
	return a.removeImages(needed)
}

// removeImages removes images of the agent's extensions that are not needed. It leaves partial downloads and files of other programs.
func (a *Agent) removeImages(needed map[string]bool) error {
	folders, err := os.ReadDir(a.Node.Path(node.Images))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, folder := range folders {
		if _, ours := a.Config.Extensions[folder.Name()]; !ours {
			continue
		}
		found, err := filepath.Glob(a.Node.Path(filepath.Join(node.Images, folder.Name(), "*.raw")))
		if err != nil {
			return err
		}
		for _, path := range found {
			inNode := filepath.Join(node.Images, folder.Name(), filepath.Base(path))
			if needed[inNode] {
				continue
			}
			if err := files.Remove(path); err != nil {
				return err
			}
		}
	}
	return nil
}
