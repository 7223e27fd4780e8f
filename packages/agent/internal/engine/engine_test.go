package engine_test

import (
	"context"
	"testing"
	"time"

	"github.com/flatcar/extensions/packages/agent/internal/engine"
	"github.com/flatcar/extensions/packages/agent/test/testtree"
)

func await(t *testing.T, statuses <-chan engine.Status, want engine.Status) {
	t.Helper()
	limit := time.After(10 * time.Second)
	for {
		select {
		case got := <-statuses:
			if got == want {
				return
			}
		case <-limit:
			t.Fatalf("never saw %+v", want)
		}
	}
}

func TestSignalsArriveWithoutAPoll(t *testing.T) {
	bus := testtree.NewBus(t)
	bus.Start()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	statuses := engine.Watch(ctx, bus.Connect, time.Hour)
	await(t, statuses, engine.Status{Operation: engine.Idle})
	bus.Set(engine.UpdateAvailable, "4757.1.0+nightly")
	await(t, statuses, engine.Status{Operation: engine.UpdateAvailable, Version: "4757.1.0"})
	bus.Set(engine.NeedReboot, "0.0.0")
	await(t, statuses, engine.Status{Operation: engine.NeedReboot})
}

func TestRestartsOfUpdateEngine(t *testing.T) {
	bus := testtree.NewBus(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	statuses := engine.Watch(ctx, bus.Connect, 20*time.Millisecond)
	await(t, statuses, engine.Status{}) // not started yet
	bus.Start()
	await(t, statuses, engine.Status{Operation: engine.Idle})
	bus.Stop()
	await(t, statuses, engine.Status{})
	bus.Start()
	bus.Set(engine.Downloading, "4757.1.0")
	await(t, statuses, engine.Status{Operation: engine.Downloading, Version: "4757.1.0"})
}

func TestHostileVersions(t *testing.T) {
	bus := testtree.NewBus(t)
	bus.Start()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	statuses := engine.Watch(ctx, bus.Connect, time.Hour)
	await(t, statuses, engine.Status{Operation: engine.Idle})
	bus.Set(engine.NeedReboot, "../../etc")
	await(t, statuses, engine.Status{Operation: engine.NeedReboot})
}
