package agent

import (
	"encoding/binary"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flatcar/extensions/packages/agent/internal/config"
	"github.com/flatcar/extensions/packages/agent/internal/files"
	"github.com/flatcar/extensions/packages/agent/internal/index"
	"github.com/flatcar/extensions/packages/agent/internal/journal"
	"github.com/flatcar/extensions/packages/agent/test/testtree"
)

const (
	now  = "4593.2.5"
	next = "4757.1.0"
)

var arch = map[string]string{"amd64": "x86-64", "arm64": "arm64"}[runtime.GOARCH]

// world is a published tree and a node that uses it.
type world struct {
	*testing.T
	tree *testtree.Tree
	node *testtree.Systemd
}

func newWorld(t *testing.T) world {
	t.Helper()
	w := world{t, testtree.New(t), testtree.NewNode(t, now)}
	w.node.Write(t, config.Defaults().Root, string(w.tree.Root()))
	w.settings("")
	return w
}

func (w world) settings(text string) {
	w.Helper()
	w.node.Write(w.T, config.File, "tree = '"+w.tree.URL+"'\nsettle = '2ms'\n"+text)
}

// open is a fresh start of the agent in a boot.
func (w world) open(boot string) *Agent {
	w.Helper()
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	a, err := Open(w.node.Open(w.T, boot), log)
	if err != nil {
		w.Fatal(err)
	}
	a.Fetch.Pause, a.Fetch.Attempts, a.Fetch.Reserve = time.Millisecond, 2, 0
	return a
}

func (w world) update(boot string) []Outcome {
	w.Helper()
	a := w.open(boot)
	tree, err := a.Tree(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	outcomes, err := a.Update(w.Context(), tree)
	if err != nil {
		w.Fatal(err)
	}
	return outcomes
}

func (w world) link(path string) string {
	target, _ := os.Readlink(filepath.Join(w.node.Root, path))
	return filepath.Base(target)
}

func (w world) expect(what, got, want string) {
	w.Helper()
	if got != want {
		w.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func file(version, target string) string {
	return "alpha." + target + "_" + version + "_" + arch + ".raw"
}

func TestInstallMergesAndRecords(t *testing.T) {
	w := newWorld(t)
	w.tree.Add("alpha", "1.0.0", "portable", arch)
	w.tree.Add("alpha", "1.1.0", "portable", arch)
	w.tree.Publish()
	a := w.open("b1")
	tree, err := a.Tree(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	outcomes, err := a.Install(t.Context(), tree, "alpha", "1.0")
	if err != nil || len(outcomes) != 1 || outcomes[0].Result != "merged" {
		t.Fatalf("%+v %v", outcomes, err)
	}
	w.expect("merged", w.node.Merged("alpha"), file("1.0.0", "portable"))
	rows, err := w.open("b1").Rows("")
	if err != nil || len(rows) != 1 || rows[0].Merged != "1.0.0" || rows[0].Channel != "1.0" || rows[0].Trial != "" {
		t.Errorf("%+v %v", rows, err)
	}
	if again := w.update("b1"); again[0].Result != "unchanged" {
		t.Errorf("%+v", again)
	}
}

func TestAnUpdateWaitsForTheRebootByDefault(t *testing.T) {
	w := newWorld(t)
	w.settings("[extensions.alpha]\n")
	w.tree.Add("alpha", "1.0.0", "portable", arch)
	w.tree.Publish()
	w.update("b1")
	w.tree.Add("alpha", "1.1.0", "portable", arch)
	w.tree.Publish()
	if outcomes := w.update("b1"); outcomes[0].Result != "linked" {
		t.Fatalf("%+v", outcomes)
	}
	w.expect("merged", w.node.Merged("alpha"), file("1.0.0", "portable"))
	if _, err := os.Stat(filepath.Join(w.node.Root, "run/reboot-required")); err != nil {
		t.Error("no reboot is requested")
	}
	w.node.Boot(t, now)
	w.expect("merged after the boot", w.node.Merged("alpha"), file("1.1.0", "portable"))
	if err := w.open("b2").Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	a := w.open("b2")
	if len(a.Journal.State.Trials) != 0 || len(a.Journal.State.Refused) != 0 {
		t.Errorf("%+v", a.Journal.State)
	}
	if image, err := a.Rollback(t.Context(), "alpha"); err != nil || image != file("1.0.0", "portable") {
		t.Errorf("%q %v", image, err)
	}
	w.expect("merged after the rollback", w.node.Merged("alpha"), file("1.0.0", "portable"))
	if outcomes := w.update("b2"); outcomes[0].Result != "unchanged" {
		t.Errorf("the image that was rolled back came again: %+v", outcomes)
	}
}

func TestUnhealthyImagesGoBackAndDoNotComeAgain(t *testing.T) {
	for _, how := range []string{"failed", "restarts", "check"} {
		t.Run(how, func(t *testing.T) {
			w := newWorld(t)
			w.settings("apply = 'refresh'\n[extensions.alpha]\n")
			w.tree.Add("alpha", "1.0.0", "portable", arch)
			w.tree.Publish()
			w.update("b1")
			w.tree.Add("alpha", "1.1.0", "portable", arch)
			w.tree.Publish()
			if how == "check" {
				w.node.Write(t, "etc/extension-agent.d/alpha.check", "#!/bin/sh\necho no >&2\nexit 1\n")
			} else {
				w.node.Bad[file("1.1.0", "portable")] = how
			}
			outcomes := w.update("b1")
			if outcomes[0].Result != "returned" || outcomes[0].Reason == "" {
				t.Fatalf("%+v", outcomes)
			}
			w.expect("merged", w.node.Merged("alpha"), file("1.0.0", "portable"))
			if outcomes := w.update("b1"); outcomes[0].Result != "unchanged" {
				t.Errorf("%+v", outcomes)
			}
			w.tree.Add("alpha", "1.1.0-1", "portable", arch)
			w.tree.Publish()
			os.Remove(filepath.Join(w.node.Root, "etc/extension-agent.d/alpha.check"))
			if outcomes := w.update("b1"); outcomes[0].Result != "merged" {
				t.Errorf("the repaired version: %+v", outcomes)
			}
		})
	}
}

func TestAnImageThatFailsAfterTheRebootGoesBack(t *testing.T) {
	w := newWorld(t)
	w.settings("[extensions.alpha]\n")
	w.tree.Add("alpha", "1.0.0", "portable", arch)
	w.tree.Publish()
	w.update("b1")
	w.tree.Add("alpha", "1.1.0", "portable", arch)
	w.tree.Publish()
	w.update("b1")
	w.node.Bad[file("1.1.0", "portable")] = "failed"
	w.node.Boot(t, now)
	if err := w.open("b2").Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.expect("merged", w.node.Merged("alpha"), file("1.0.0", "portable"))
}

// A node that goes down each time before it has judged an image returns at the third start.
func TestCrashesWhileAnImageIsJudgedCount(t *testing.T) {
	w := newWorld(t)
	w.settings("apply = 'refresh'\n[extensions.alpha]\n")
	w.tree.Add("alpha", "1.0.0", "portable", arch)
	w.tree.Publish()
	w.update("b1")
	w.tree.Add("alpha", "1.1.0", "portable", arch)
	w.tree.Publish()
	w.node.Fail["systemd-sysext refresh"] = true
	for range 2 {
		a := w.open("b1")
		tree, err := a.Tree(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = a.Update(t.Context(), tree) // ends without a verdict
		w.expect("linked", w.link("etc/extensions/alpha.raw"), file("1.1.0", "portable"))
	}
	w.node.Fail = map[string]bool{}
	if err := w.open("b3").Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.expect("merged", w.node.Merged("alpha"), file("1.0.0", "portable"))
}

func TestAnInterruptedLinkIsFinished(t *testing.T) {
	w := newWorld(t)
	w.settings("apply = 'refresh'\n[extensions.alpha]\n")
	w.tree.Add("alpha", "1.0.0", "portable", arch)
	w.tree.Publish()
	w.update("b1")
	link := "/etc/extensions/alpha.raw"
	a := w.open("b1")
	w.node.Write(t, "opt/extensions/alpha/"+file("1.1.0", "portable"), string(testtree.Squashfs("alpha", "1.1.0", "portable", arch)))
	err := a.Journal.Update(func(s *journal.State) {
		s.Trials[link] = journal.Trial{Name: "alpha", Kind: "sysext", Target: "portable", Boot: "b1", SHA256: "x",
			Image: "/opt/extensions/alpha/" + file("1.1.0", "portable"), Former: "/opt/extensions/alpha/" + file("1.0.0", "portable")}
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.open("b1").Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.expect("merged", w.node.Merged("alpha"), file("1.1.0", "portable"))
}

func TestStageLinksTheNextReleaseOnly(t *testing.T) {
	w := newWorld(t)
	w.settings("[extensions.alpha]\n")
	w.tree.Add("alpha", "1.0.0", now, arch)
	w.tree.Add("alpha", "1.0.0", next, arch)
	w.tree.Publish()
	w.update("b1")
	a := w.open("b1")
	tree, err := a.Tree(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if outcomes := a.Stage(t.Context(), tree, next); outcomes[0].Result != "linked" {
		t.Fatalf("%+v", outcomes)
	}
	w.expect("link", w.link("etc/extensions/alpha-"+next+".raw"), file("1.0.0", next))
	w.expect("merged", w.node.Merged("alpha"), file("1.0.0", now))
	if _, err := os.Stat(filepath.Join(w.node.Root, "run/reboot-required")); err == nil {
		t.Error("a reboot was requested")
	}
	w.node.Boot(t, next)
	w.expect("merged on the next release", w.node.Merged("alpha"), file("1.0.0", next))
}

func TestTheNextReleaseNeverGetsAnOlderVersion(t *testing.T) {
	w := newWorld(t)
	w.settings("[extensions.alpha]\n")
	w.tree.Add("alpha", "1.0.0", next, arch)
	w.tree.Add("alpha", "1.1.0", now, arch)
	w.tree.Publish()
	w.update("b1")
	stage := func() Outcome {
		a := w.open("b1")
		tree, err := a.Tree(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return a.Stage(t.Context(), tree, next)[0]
	}
	if one := stage(); one.Result != "failed" || !strings.Contains(one.Reason, "older than the installed 1.1.0") {
		t.Errorf("%+v", one)
	}
	w.settings("[extensions.alpha]\nallow-older = true\n")
	if one := stage(); one.Result != "linked" || one.Version != "1.0.0" {
		t.Errorf("%+v", one)
	}
}

func TestAnImageThatSaysSomethingElseIsNotLinked(t *testing.T) {
	w := newWorld(t)
	w.settings("[extensions.alpha]\n")
	w.tree.Image("alpha", "1.0.0", "portable", arch, testtree.Squashfs("alpha", "0.9.0", "portable", arch))
	w.tree.Publish()
	outcomes := w.update("b1")
	if outcomes[0].Result != "failed" || !strings.Contains(outcomes[0].Reason, "the image says SYSEXT_VERSION_ID=0.9.0") {
		t.Errorf("%+v", outcomes)
	}
	w.expect("link", w.link("etc/extensions/alpha.raw"), ".")
}

func TestOneFailureDoesNotStopTheOthers(t *testing.T) {
	w := newWorld(t)
	w.settings("[extensions.alpha]\n[extensions.bravo]\n[extensions.nosuch]\n")
	w.tree.Add("alpha", "1.0.0", "portable", arch)
	w.tree.Add("bravo", "1.0.0", "portable", arch)
	w.tree.Publish()
	w.tree.Handler = func(rw http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, ".raw") && strings.Contains(r.URL.Path, "alpha") {
			rw.WriteHeader(http.StatusInternalServerError)
			return true
		}
		return false
	}
	results := map[string]string{}
	for _, one := range w.update("b1") {
		results[one.Name] = one.Result
	}
	if results["alpha"] != "failed" || results["bravo"] != "merged" || results["nosuch"] != "failed" {
		t.Errorf("%v", results)
	}
}

func TestASlowImageDelaysNoOther(t *testing.T) {
	w := newWorld(t)
	w.settings("parallel = 1\n[extensions.alpha]\n[extensions.bravo]\n")
	w.tree.Add("alpha", "1.0.0", "portable", arch)
	w.tree.Add("bravo", "1.0.0", "portable", arch)
	w.tree.Publish()
	var order []string
	var slow atomic.Bool
	slow.Store(true)
	w.tree.Handler = func(rw http.ResponseWriter, r *http.Request) bool {
		name, isImage := strings.CutSuffix(filepath.Base(r.URL.Path), ".raw")
		if !isImage {
			return false
		}
		order = append(order, name[:5])
		if strings.HasPrefix(name, "alpha") && slow.Swap(false) {
			rw.Header().Set("Content-Length", "50000")
			rw.Write(make([]byte, 10)) // wrong bytes: the turn ends before they are all there
			rw.(http.Flusher).Flush()
			<-r.Context().Done()
			return true
		}
		return false
	}
	a := w.open("b1")
	a.Slice = 200 * time.Millisecond
	tree, err := a.Tree(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	outcomes, err := a.Update(t.Context(), tree)
	if err != nil || Failed(outcomes) {
		t.Fatalf("%+v %v", outcomes, err)
	}
	if got := strings.Join(order[:3], " "); got != "alpha bravo alpha" {
		t.Errorf("got %s", got)
	}
}

// blocks is a delta of one record: the release file of the other image.
func blocks(from, to []byte) []byte {
	start, end := 0, len(to)
	for from[start] == to[start] {
		start++
	}
	for from[end-1] == to[end-1] {
		end--
	}
	out := binary.LittleEndian.AppendUint64([]byte("FEXTBLK1"), uint64(len(to)))
	out = binary.LittleEndian.AppendUint32(out, 1)
	out = binary.LittleEndian.AppendUint64(out, uint64(start))
	out = binary.LittleEndian.AppendUint32(out, uint32(end-start))
	return append(out, to[start:end]...)
}

func TestTheNextReleaseIsMadeFromADelta(t *testing.T) {
	for _, damaged := range []bool{false, true} {
		w := newWorld(t)
		w.settings("[extensions.alpha]\n")
		w.tree.Add("alpha", "1.0.0", now, arch)
		w.tree.Add("alpha", "1.0.0", next, arch)
		images := w.tree.Extensions["alpha"].Versions[0].Images
		delta := blocks(testtree.Squashfs("alpha", "1.0.0", now, arch), testtree.Squashfs("alpha", "1.0.0", next, arch))
		if damaged {
			delta[len(delta)-1] ^= 1
		}
		w.tree.Write("alpha/deltas/x.blocks", delta)
		images[1].Deltas = []index.Delta{{Kind: "blocks", From: images[0].SHA256, File: testtree.FileOf("alpha/deltas/x.blocks", delta)}}
		w.tree.Publish()
		w.update("b1")
		var whole atomic.Int64
		w.tree.Handler = func(_ http.ResponseWriter, r *http.Request) bool {
			if strings.HasSuffix(r.URL.Path, ".raw") {
				whole.Add(1)
			}
			return false
		}
		a := w.open("b1")
		tree, err := a.Tree(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if forecast := a.Check(t.Context(), tree, next); forecast[0].Bytes != int64(len(delta)) || forecast[0].Then != "1.0.0" {
			t.Errorf("%+v", forecast)
		}
		if outcomes := a.Stage(t.Context(), tree, next); outcomes[0].Result != "linked" {
			t.Errorf("%+v", outcomes)
		}
		if want := map[bool]int64{true: 1}[damaged]; whole.Load() != want {
			t.Errorf("damaged %v: the whole image was fetched %d times", damaged, whole.Load())
		}
		if left, _ := filepath.Glob(filepath.Join(w.node.Root, "opt/extensions/alpha/.*")); len(left) != 0 {
			t.Errorf("left: %v", left)
		}
	}
}

func TestPruneKeepsBothSlots(t *testing.T) {
	w := newWorld(t)
	w.settings("[extensions.alpha]\n")
	for _, release := range []string{"4593.2.4", now, next} {
		w.tree.Add("alpha", "1.0.0", release, arch)
	}
	w.tree.Publish()
	w.node.Boot(t, "4593.2.4")
	w.update("b0")
	w.node.Boot(t, now)
	w.update("b1")
	if err := w.open("b1").rememberSlots(""); err != nil {
		t.Fatal(err)
	}
	a := w.open("b1")
	if err := a.Prune(nil); err != nil {
		t.Fatal(err)
	}
	w.expect("while the other slot is unknown", w.link("etc/extensions/alpha-4593.2.4.raw"), file("1.0.0", "4593.2.4"))
	if err := a.rememberSlots(next); err != nil {
		t.Fatal(err)
	}
	if err := a.Prune(nil); err != nil {
		t.Fatal(err)
	}
	w.expect("in no slot", w.link("etc/extensions/alpha-4593.2.4.raw"), ".")
	w.expect("running", w.link("etc/extensions/alpha-"+now+".raw"), file("1.0.0", now))
	images, _ := filepath.Glob(filepath.Join(w.node.Root, "opt/extensions/alpha/*.raw"))
	if len(images) != 1 {
		t.Errorf("%v", images)
	}
}

func TestRemove(t *testing.T) {
	w := newWorld(t)
	w.tree.Add("alpha", "1.0.0", "portable", arch)
	w.tree.Publish()
	a := w.open("b1")
	tree, _ := a.Tree(t.Context())
	if _, err := a.Install(t.Context(), tree, "alpha", ""); err != nil {
		t.Fatal(err)
	}
	if err := w.open("b1").Remove(t.Context(), "alpha"); err != nil {
		t.Fatal(err)
	}
	if names := w.node.Names(); len(names) != 0 {
		t.Errorf("%v", names)
	}
	if _, err := os.Stat(filepath.Join(w.node.Root, "opt/extensions/alpha")); err == nil {
		t.Error("images are left")
	}
	if outcomes := w.update("b1"); len(outcomes) != 0 {
		t.Errorf("it came back: %+v", outcomes)
	}
	if err := w.open("b1").Remove(t.Context(), "alpha"); err == nil {
		t.Error("what is not installed was removed")
	}
}

func TestWithoutARootOfTrustNothingIsFetched(t *testing.T) {
	w := newWorld(t)
	w.tree.Add("alpha", "1.0.0", "portable", arch)
	w.tree.Publish()
	os.Remove(filepath.Join(w.node.Root, config.Defaults().Root))
	var calls atomic.Int64
	w.tree.Handler = func(http.ResponseWriter, *http.Request) bool { calls.Add(1); return false }
	if _, err := w.open("b1").Tree(t.Context()); err == nil || !strings.Contains(err.Error(), "no root of trust") || calls.Load() != 0 {
		t.Errorf("%d requests, %v", calls.Load(), err)
	}
}

func TestRequiredAndConflictingExtensions(t *testing.T) {
	w := newWorld(t)
	w.tree.Add("alpha", "1.0.0", "portable", arch)
	w.tree.Add("bravo", "1.0.0", "portable", arch)
	w.tree.Add("other", "1.0.0", "portable", arch)
	w.tree.Extensions["alpha"].Versions[0].Requires = []string{"bravo"}
	w.tree.Extensions["alpha"].Versions[0].Replaces = []string{"usr/bin/dockerd"}
	w.tree.Extensions["other"].Versions[0].Conflicts = []string{"bravo"}
	w.tree.Publish()
	a := w.open("b1")
	tree, _ := a.Tree(t.Context())
	if _, err := a.Install(t.Context(), tree, "alpha", ""); err != nil {
		t.Fatal(err)
	}
	if names := strings.Join(w.node.Names(), " "); names != "alpha bravo" {
		t.Errorf("%s", names)
	}
	if target, _ := os.Readlink(filepath.Join(w.node.Root, "etc/extensions/docker-flatcar.raw")); target != "/dev/null" {
		t.Errorf("Flatcar's docker is not disabled: %q", target)
	}
	a = w.open("b1")
	tree, _ = a.Tree(t.Context())
	if _, err := a.Install(t.Context(), tree, "other", ""); err == nil || !strings.Contains(err.Error(), "cannot be merged together") {
		t.Errorf("%v", err)
	}
	if _, err := files.ReadLimited(filepath.Join(w.node.Root, config.DropIn("other")), 1000); err == nil {
		t.Error("the refused extension is recorded")
	}
}
