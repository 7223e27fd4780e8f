// Package health judges an image after it was merged: by its units, and by a program of the operator.
package health

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/flatcar/extensions/packages/agent/internal/hold"
	"github.com/flatcar/extensions/packages/agent/internal/node"
)

// unit is the state of a unit, as systemctl show prints it.
type unit struct {
	load, active, sub, result, condition string
	restarts                             int
}

func show(ctx context.Context, n *node.Node, name string) (unit, error) {
	output, err := n.Run(ctx, "systemctl", "show", "--property=LoadState,ActiveState,SubState,Result,ConditionResult,NRestarts", "--", name)
	if err != nil {
		return unit{}, err
	}
	values := map[string]string{}
	for line := range strings.Lines(output) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		values[key] = value
	}
	restarts, _ := strconv.Atoi(values["NRestarts"])
	return unit{values["LoadState"], values["ActiveState"], values["SubState"], values["Result"], values["ConditionResult"], restarts}, nil
}

// problem says what is wrong with a unit, or nothing.
func (u unit) problem() string {
	switch {
	case u.load == "masked":
		return "" // the operator does not want it
	case u.load != "loaded":
		return "is not loaded (" + u.load + ")"
	case u.active == "failed":
		return "failed (" + u.result + ")"
	case u.sub == "auto-restart" || u.sub == "auto-restart-queued":
		return "restarts again and again"
	case u.active == "inactive" && u.condition == "yes" && u.result != "success":
		return "ended (" + u.result + ")"
	}
	return ""
}

// Baseline has the problems of units before a change: those are not the fault of the new image.
type Baseline map[string]bool

// Before returns the units that already have a problem.
func Before(ctx context.Context, n *node.Node, units []string) Baseline {
	bad := Baseline{}
	for _, name := range units {
		state, err := show(ctx, n, name)
		if err == nil && state.load == "loaded" && state.problem() != "" {
			bad[name] = true
		}
	}
	return bad
}

// Judge waits for the settle time and returns what is wrong with the units, or with what NAME.check says. A unit that restarts in the second
// half of the time is unhealthy, whatever its state is at the end.
func Judge(ctx context.Context, n *node.Node, extension string, units []string, before Baseline, settle time.Duration) error {
	restarts := map[string]int{}
	for half := range 2 {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(settle / 2):
		}
		for _, name := range units {
			if before[name] {
				continue
			}
			state, err := show(ctx, n, name)
			if err != nil {
				return err
			}
			if half == 0 {
				restarts[name] = state.restarts
				continue
			}
			if problem := state.problem(); problem != "" {
				return fmt.Errorf("%s %s", name, problem)
			}
			if state.restarts > restarts[name] {
				return fmt.Errorf("%s restarts again and again", name)
			}
		}
	}
	return check(ctx, n, extension)
}

// check runs the operator's program for an extension, which has a minute.
func check(ctx context.Context, n *node.Node, extension string) error {
	path := n.Path(filepath.Join(hold.HookDir, extension+".check"))
	if _, err := exec.LookPath(path); err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	_, err := n.Run(ctx, path, extension)
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("%s.check did not end within a minute", extension)
	}
	if err != nil {
		return fmt.Errorf("%s.check failed: %w", extension, err)
	}
	return nil
}
