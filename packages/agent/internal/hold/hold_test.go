package hold_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/flatcar/extensions/packages/agent/internal/config"
	"github.com/flatcar/extensions/packages/agent/internal/hold"
	"github.com/flatcar/extensions/packages/agent/internal/node"
	"github.com/flatcar/extensions/packages/agent/test/testtree"
)

const next = "4757.1.0"

// open is a node whose systemd needs no inhibitor: this machine has no logind.
func open(t *testing.T) (*testtree.Systemd, *node.Node, *hold.Holder) {
	t.Helper()
	systemd := testtree.NewNode(t, "4593.2.5")
	systemd.Version = 255
	n := systemd.Open(t, "b1")
	return systemd, n, &hold.Holder{Node: n}
}

func TestLocksmithdIsStoppedAndStartedAgain(t *testing.T) {
	systemd, n, holder := open(t)
	for range 2 {
		if err := holder.Hold(t.Context(), next, []string{"alpha"}); err != nil {
			t.Fatal(err)
		}
	}
	if systemd.Locksmith != "masked" {
		t.Errorf("locksmithd is %s", systemd.Locksmith)
	}
	if held, err := hold.Read(n); err != nil || held.Release != next || !held.Locksmith {
		t.Errorf("%+v %v", held, err)
	}
	// Another process, after a crash.
	again := &hold.Holder{Node: n}
	if err := again.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	if systemd.Locksmith != "active" {
		t.Errorf("locksmithd is %s", systemd.Locksmith)
	}
	if held, _ := hold.Read(n); held != nil {
		t.Errorf("%+v", held)
	}
}

func TestAStoppedLocksmithdStaysStopped(t *testing.T) {
	systemd, _, holder := open(t)
	systemd.Locksmith = "inactive"
	if err := holder.Hold(t.Context(), next, nil); err != nil {
		t.Fatal(err)
	}
	if err := holder.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	if systemd.Locksmith != "inactive" {
		t.Errorf("locksmithd is %s", systemd.Locksmith)
	}
}

func TestALocksmithdThatTheOperatorMaskedStaysMasked(t *testing.T) {
	systemd, _, holder := open(t)
	systemd.Locksmith = "masked"
	if err := holder.Hold(t.Context(), next, nil); err != nil {
		t.Fatal(err)
	}
	for _, call := range systemd.Calls {
		if strings.Contains(call, "mask --runtime") {
			t.Errorf("it was masked again: %s", call)
		}
	}
}

func TestHooksGetReleaseAndNames(t *testing.T) {
	systemd, _, holder := open(t)
	log := filepath.Join(systemd.Root, "log")
	for _, name := range []string{"hold", "release"} {
		systemd.Write(t, "etc/extension-agent.d/"+name, "#!/bin/sh\necho "+name+" \"$@\" >>"+log+"\n")
	}
	for range 2 {
		if err := holder.Hold(t.Context(), next, []string{"alpha", "bravo"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := holder.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	text, _ := os.ReadFile(log)
	if string(text) != "hold 4757.1.0 alpha bravo\nrelease 4757.1.0 alpha bravo\n" {
		t.Errorf("%q", text)
	}
}

func TestTheTimeOfAHoldStartsWithTheInstallation(t *testing.T) {
	_, n, _ := open(t)
	day := config.Hold{For: 24 * time.Hour}
	if left := hold.Left(n, next, day, 100*time.Hour); left != 24*time.Hour {
		t.Errorf("before it is installed: %s", left)
	}
	for _, at := range []time.Duration{100 * time.Hour, 110 * time.Hour} { // the first counts
		if err := hold.Installed(n, next, at); err != nil {
			t.Fatal(err)
		}
	}
	if left := hold.Left(n, next, day, 110*time.Hour); left != 14*time.Hour {
		t.Errorf("after ten hours: %s", left)
	}
	if left := hold.Left(n, next, day, 130*time.Hour); left != 0 {
		t.Errorf("after thirty hours: %s", left)
	}
	if left := hold.Left(n, next, config.Hold{Forever: true}, 1000*time.Hour); left < 1000*time.Hour {
		t.Errorf("for ever: %s", left)
	}
}

func TestReady(t *testing.T) {
	systemd, n, holder := open(t)
	if ready, _ := hold.Ready(n); ready {
		t.Error("no reboot is required")
	}
	systemd.Write(t, "run/reboot-required", "")
	if ready, reason := hold.Ready(n); !ready {
		t.Error(reason)
	}
	if err := holder.Hold(t.Context(), next, []string{"alpha"}); err != nil {
		t.Fatal(err)
	}
	if ready, reason := hold.Ready(n); ready || !strings.Contains(reason, "alpha") {
		t.Errorf("%v %s", ready, reason)
	}
	// A damaged file still holds.
	systemd.Write(t, "run/extension-agent/held.json", "{")
	if ready, _ := hold.Ready(n); ready {
		t.Error("a damaged hold is no hold")
	}
}
