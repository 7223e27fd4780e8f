package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/flatcar/extensions/packages/agent/internal/config"
	"github.com/flatcar/extensions/packages/agent/internal/fetch"
	"github.com/flatcar/extensions/packages/agent/internal/index"
	"github.com/flatcar/extensions/packages/agent/internal/node"
	"github.com/flatcar/extensions/packages/agent/test/testtree"
)

var arch = map[string]string{"amd64": "x86-64", "arm64": "arm64"}[runtime.GOARCH]

// TestMain runs the program itself where a test starts this file again.
func TestMain(m *testing.M) {
	if os.Getenv("EXTENSION_AGENT_TEST_MAIN") != "" {
		os.Exit(Main(context.Background(), os.Args[1:], os.Stdout, os.Stderr, node.Run))
	}
	os.Exit(m.Run())
}

func call(t *testing.T, args ...string) (code int, out, errOut string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = Main(t.Context(), args, &stdout, &stderr, node.Run)
	return code, stdout.String(), stderr.String()
}

// setUp makes a tree and the root of a node in a folder.
func setUp(t *testing.T) (*testtree.Tree, string) {
	t.Helper()
	tree := testtree.New(t)
	systemd := testtree.NewNode(t, "4593.2.5")
	systemd.Write(t, config.Defaults().Root, string(tree.Root()))
	systemd.Write(t, config.File, "tree = '"+tree.URL+"'\n")
	return tree, systemd.Root
}

func TestWrongUsage(t *testing.T) {
	for _, args := range [][]string{
		{}, {"instal"}, {"install"}, {"install", "a", "b"}, {"install", "../x"}, {"install", "yq@newest"}, {"stage", "4593"}, {"--rot", "/", "status"},
		{"check", "../x"}, {"remove", "Yq"}, {"ready", "--json"}, {"status", "x"},
	} {
		code, out, errOut := call(t, args...)
		if code != 2 || out != "" || !strings.Contains(errOut, "--help") {
			t.Errorf("%v: %d %q %q", args, code, out, errOut)
		}
	}
}

func TestHelp(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"-h"}, {"install", "--help"}, {"help"}} {
		code, out, _ := call(t, args...)
		if code != 0 || out != help {
			t.Errorf("%v: %d", args, code)
		}
	}
	for line := range strings.Lines(help) {
		if len(line) > 81 {
			t.Errorf("longer than 80 columns: %s", line)
		}
	}
	for name := range commands {
		if !strings.Contains(help, "\n  "+name) {
			t.Errorf("the help does not list %s", name)
		}
	}
}

func TestCommandsOnAFolder(t *testing.T) {
	tree, root := setUp(t)
	tree.Add("alpha", "1.0.0", "4593.2.5", arch)
	tree.Add("alpha", "1.0.0", "4757.1.0", arch)
	tree.Publish()
	for _, step := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"status"}, 0, "running: flatcar 4593.2.5"},
		{[]string{"list"}, 0, "alpha"},
		{[]string{"install", "alpha@1.0"}, 0, "linked"},
		{[]string{"update", "--json"}, 0, `"result": "unchanged"`},
		{[]string{"check", "4757.1.0"}, 0, "1.0.0"},
		{[]string{"check", "9999.1.0", "--json"}, 1, `no image for Flatcar 9999.1.0`},
		{[]string{"stage", "4757.1.0"}, 0, "linked"},
		{[]string{"stage", "9999.1.0"}, 1, "no image for Flatcar 9999.1.0"},
		{[]string{"status", "--json"}, 0, `"linked": "1.0.0"`},
		{[]string{"doctor"}, 1, "fetched without encryption"},
		{[]string{"ready"}, 1, "no reboot is required"},
		{[]string{"rollback", "alpha"}, 1, ""},
		{[]string{"remove", "alpha"}, 0, ""},
		{[]string{"remove", "alpha"}, 1, ""},
	} {
		code, out, errOut := call(t, append([]string{"--root", root}, step.args...)...)
		if code != step.code || !strings.Contains(out, step.want) {
			t.Errorf("%v: %d\n%s%s", step.args, code, out, errOut)
		}
	}
}

func TestDoctorNamesTheCause(t *testing.T) {
	tree, root := setUp(t)
	tree.Add("alpha", "1.0.0", "4593.2.5", arch)
	tree.Publish()
	if code, out, errOut := call(t, "--root", root, "install", "alpha"); code != 0 {
		t.Fatal(out, errOut)
	}
	image := filepath.Join(root, "opt/extensions/alpha/alpha.4593.2.5_1.0.0_"+arch+".raw")
	whole, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	other := map[string]string{"x86-64": "arm64", "arm64": "x86-64"}[arch]
	for want, change := range map[string]func(){
		"the image is damaged":          func() { os.WriteFile(image, whole[:100], 0o600) },
		"which does not exist":          func() { os.Remove(image) },
		"the image is for " + other:     func() { os.WriteFile(image, testtree.Squashfs("alpha", "1.0.0", "4593.2.5", other), 0o600) },
		"the image is for flatcar 4":    func() { os.WriteFile(image, testtree.Squashfs("alpha", "1.0.0", "4593.2.4", arch), 0o600) },
		"the link leads nowhere":        func() { os.Symlink("/nowhere", filepath.Join(root, "etc/extensions/x.raw")) },
		"not an image of y, or damaged": func() { os.WriteFile(filepath.Join(root, "etc/extensions/y.raw"), nil, 0o600) },
		"its images are for 4593.2.5": func() {
			os.WriteFile(filepath.Join(root, "usr/lib/os-release"), []byte("ID=flatcar\nVERSION_ID=4757.1.0\n"), 0o600)
		},
		"no root of trust": func() { os.Remove(filepath.Join(root, config.Defaults().Root)) },
	} {
		if _, out, _ := call(t, "--root", root, "doctor"); strings.Contains(out, want) {
			t.Fatalf("%q is reported before it is so:\n%s", want, out)
		}
		undo := snapshot(t, root)
		change()
		if code, out, _ := call(t, "--root", root, "doctor"); code != 1 || !strings.Contains(out, want) {
			t.Errorf("%q: %d\n%s", want, code, out)
		}
		undo()
	}
}

// snapshot copies a folder and returns a function that restores it.
func snapshot(t *testing.T, root string) func() {
	t.Helper()
	copied := filepath.Join(t.TempDir(), "copy")
	run := func(args ...string) {
		t.Helper()
		if output, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, output)
		}
	}
	run("cp", "-a", root, copied)
	return func() {
		run("rm", "-r", root)
		run("cp", "-a", copied, root)
	}
}

// The program is killed at random moments of installs, updates and stages. After each kill: no link that was there is gone, and what a link
// leads to is a complete image that the tree lists. In the end, one run completes everything.
func TestRandomKills(t *testing.T) {
	kills := 200
	if testing.Short() {
		kills = 10
	}
	tree, root := setUp(t)
	random := rand.IntN // of the package: the handlers use it at the same time
	published := map[string]index.File{}
	publish := func(version string) {
		for _, name := range []string{"alpha", "bravo"} {
			for _, target := range []string{"4593.2.5", "4757.1.0"} {
				tree.Add(name, version, target, arch)
				images := tree.Extensions[name].Versions[0].Images
				image := images[len(images)-1]
				published[filepath.Join("/", "opt/extensions", name, filepath.Base(image.Path))] = image.File
			}
		}
		tree.Publish()
	}
	tree.Handler = func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, ".raw") {
			time.Sleep(time.Duration(random(20)) * time.Millisecond)
		}
		return false
	}
	file, err := os.OpenFile(filepath.Join(root, config.File), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(file, "[extensions.alpha]\n[extensions.bravo]")
	file.Close()
	start := func(args ...string) *exec.Cmd {
		command := exec.Command(os.Args[0], append([]string{"--root", root}, args...)...)
		command.Env = append(os.Environ(), "EXTENSION_AGENT_TEST_MAIN=1")
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		return command
	}
	links := map[string]string{}
	invariants := func() {
		t.Helper()
		now := map[string]string{}
		found, _ := filepath.Glob(filepath.Join(root, "etc/extensions/*.raw"))
		for _, link := range found {
			target, _ := os.Readlink(link)
			now[link] = target
			if file, ok := published[target]; !ok || !fetch.Matches(filepath.Join(root, target), file) {
				t.Fatalf("%s leads to %s, which is not complete", link, target)
			}
		}
		for link := range links {
			if now[link] == "" {
				t.Fatalf("%s is gone", link)
			}
		}
		links = now
	}
	publish("1.0.0")
	took := 0
	for round := range kills {
		if round%5 == 4 {
			publish(fmt.Sprintf("1.0.%d", round))
		}
		command := start([][]string{{"update"}, {"stage", "4757.1.0"}}[round%2]...)
		ended := make(chan struct{})
		go func() {
			command.Wait()
			close(ended)
		}()
		select {
		case <-ended:
		case <-time.After(time.Duration(random(150)) * time.Millisecond):
			command.Process.Kill()
			<-ended
			took++
		}
		invariants()
	}
	if took < kills/4 {
		t.Errorf("only %d of %d runs were killed", took, kills)
	}
	for _, args := range [][]string{{"update"}, {"stage", "4757.1.0"}} {
		if err := start(args...).Wait(); err != nil {
			t.Errorf("%v: %v", args, err)
		}
	}
	invariants()
	if len(links) != 4 {
		t.Errorf("%v", links)
	}
	newest := tree.Extensions["alpha"].Versions[0].Version
	for link, target := range links {
		if !strings.Contains(target, "_"+newest+"_") {
			t.Errorf("%s leads to %s, and %s is the newest", link, target, newest)
		}
	}
	var status struct {
		Extensions []struct{ Linked string }
	}
	_, out, _ := call(t, "--root", root, "status", "--json")
	if err := json.Unmarshal([]byte(out), &status); err != nil || len(status.Extensions) != 2 || status.Extensions[0].Linked != newest {
		t.Errorf("%v %s", err, out)
	}
}
