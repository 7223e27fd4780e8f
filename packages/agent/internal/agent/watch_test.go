package agent

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/flatcar/extensions/packages/agent/internal/engine"
	"github.com/flatcar/extensions/packages/agent/internal/hold"
	"github.com/flatcar/extensions/packages/agent/test/testtree"
)

// watched is a node whose agent follows a stand-in for update-engine on a private bus.
type watched struct {
	world
	bus    *testtree.Bus
	uptime atomic.Int64
	stop   func()
}

func watch(t *testing.T, settings string) *watched {
	t.Helper()
	w := &watched{world: newWorld(t), bus: testtree.NewBus(t)}
	w.settings(settings)
	w.node.Version = 255 // its hold is locksmithd's stop: there is no logind here
	w.bus.Start()
	w.uptime.Store(int64(100 * time.Hour))
	return w
}

func (w *watched) start() {
	w.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	a := w.open("b1")
	a.Slice = time.Second
	watcher := &Watcher{
		Agent: a, Holder: &hold.Holder{Node: a.Node}, Statuses: engine.Watch(ctx, w.connect, 50*time.Millisecond),
		Retry: 0, Warn: time.Hour, Uptime: func() time.Duration { return time.Duration(w.uptime.Load()) },
	}
	var running sync.WaitGroup
	running.Go(func() {
		if err := watcher.Run(ctx); err != nil {
			w.Error(err)
		}
	})
	w.stop = func() {
		cancel()
		running.Wait()
	}
	w.Cleanup(w.stop)
}

func (w *watched) connect() (*dbus.Conn, error) { return w.bus.Connect() }

func (w *watched) eventually(what string, is func() bool) {
	w.Helper()
	for limit := time.Now().Add(20 * time.Second); time.Now().Before(limit); time.Sleep(10 * time.Millisecond) {
		if is() {
			return
		}
	}
	w.Fatalf("never: %s", what)
}

func (w *watched) held() bool {
	_, err := os.Stat(filepath.Join(w.node.Root, "run/extension-agent/held.json"))
	return err == nil
}

func (w *watched) linkedForNext() bool {
	return w.link("etc/extensions/alpha-"+next+".raw") == file("1.0.0", next)
}

// A server that hangs: the hold must be there from the announcement on, while the download goes on in the background.
func TestTheHoldBeginsWithTheAnnouncement(t *testing.T) {
	w := watch(t, "[extensions.alpha]\n")
	w.tree.Add("alpha", "1.0.0", now, arch)
	w.tree.Add("alpha", "1.0.0", next, arch)
	w.tree.Publish()
	w.update("b1")
	let := make(chan struct{})
	w.tree.Handler = func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, ".raw") {
			select {
			case <-let:
			case <-r.Context().Done():
			}
		}
		return false
	}
	w.start()
	w.bus.Set(engine.UpdateAvailable, next)
	w.eventually("held", w.held)
	w.bus.Set(engine.NeedReboot, next)
	time.Sleep(100 * time.Millisecond)
	if !w.held() || w.linkedForNext() {
		t.Fatal("not held while the image is missing")
	}
	if w.node.Locksmith != "masked" {
		t.Errorf("locksmithd is %s", w.node.Locksmith)
	}
	close(let)
	w.eventually("linked and released", func() bool { return w.linkedForNext() && !w.held() })
	w.eventually("locksmithd runs", func() bool { return w.node.Locksmith == "active" })
}

func TestACrashOfTheWatcherLetsNothingGo(t *testing.T) {
	w := watch(t, "[extensions.alpha]\n")
	w.tree.Add("alpha", "1.0.0", now, arch)
	w.tree.Publish() // nothing for the next release
	w.update("b1")
	w.start()
	w.bus.Set(engine.NeedReboot, next)
	w.eventually("held", w.held)
	w.stop()
	if !w.held() || w.node.Locksmith != "masked" {
		t.Fatal("the hold ended with the watcher")
	}
	w.bus.Stop() // update-engine restarts as well, and the new watcher does not hear of it
	w.start()
	time.Sleep(200 * time.Millisecond)
	if !w.held() {
		t.Fatal("the new watcher let go")
	}
	w.tree.Add("alpha", "1.0.0", next, arch)
	w.tree.Publish()
	w.eventually("linked and released", func() bool { return w.linkedForNext() && !w.held() })
}

func TestAHoldOfADayEndsByTheMonotonicClock(t *testing.T) {
	w := watch(t, "[extensions.alpha]\n")
	w.tree.Add("alpha", "1.0.0", now, arch)
	w.tree.Publish()
	w.update("b1")
	w.start()
	w.bus.Set(engine.NeedReboot, next)
	w.eventually("held", w.held)
	w.uptime.Add(int64(23 * time.Hour))
	time.Sleep(1500 * time.Millisecond)
	if !w.held() {
		t.Fatal("it ended too early")
	}
	w.uptime.Add(int64(2 * time.Hour))
	w.eventually("released", func() bool { return !w.held() })
}

func TestAnEssentialExtensionHoldsForEver(t *testing.T) {
	w := watch(t, "[extensions.alpha]\n")
	w.tree.Add("alpha", "1.0.0", now, arch)
	w.tree.Extensions["alpha"].Essential = true
	w.tree.Publish()
	w.update("b1")
	w.start()
	w.bus.Set(engine.NeedReboot, next)
	w.eventually("held", w.held)
	w.uptime.Add(int64(1000 * time.Hour))
	time.Sleep(1500 * time.Millisecond)
	if !w.held() {
		t.Fatal("it ended")
	}
	w.bus.Set(engine.Idle, "0.0.0") // the update was withdrawn
	w.eventually("released", func() bool { return !w.held() })
}

func TestPortableImagesHoldNothing(t *testing.T) {
	w := watch(t, "[extensions.alpha]\n")
	w.tree.Add("alpha", "1.0.0", "portable", arch)
	w.tree.Publish()
	w.update("b1")
	w.start()
	w.bus.Set(engine.NeedReboot, next)
	w.eventually("next is known", func() bool { return Next(w.open("b1").Node) == next })
	time.Sleep(1200 * time.Millisecond)
	if w.held() {
		t.Error("held")
	}
}
