// Package cli is the command line of extension-agent.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/flatcar/extensions/packages/agent/internal/agent"
	"github.com/flatcar/extensions/packages/agent/internal/config"
	"github.com/flatcar/extensions/packages/agent/internal/doctor"
	"github.com/flatcar/extensions/packages/agent/internal/engine"
	"github.com/flatcar/extensions/packages/agent/internal/hold"
	"github.com/flatcar/extensions/packages/agent/internal/journal"
	"github.com/flatcar/extensions/packages/agent/internal/node"
	"github.com/flatcar/extensions/packages/agent/internal/version"
)

const help = `usage: extension-agent [--root DIR] COMMAND

Install and update system extension images of a published tree on this node.

  install NAME[@CHANNEL]  install an extension, and keep it up to date; a
                          channel is "latest", a branch (1.36) or a version
  remove NAME             remove an extension with its images
  list                    list the extensions of the tree
  update                  fetch newer images for the running release
  stage RELEASE           fetch the images for a release before it is installed
  check [RELEASE]         print what a boot into a release would change; without
                          a release, into the one that is being installed
  status                  list extensions: merged, linked, next, held and why
  doctor                  report why an image is not merged, and what to do
  rollback NAME           go back to the image that an extension had before
  release                 stop holding the reboot
  ready                   exit with 0 if a reboot is due and not held (kured)
  watch                   hold reboots until images are there (the service)

  --root DIR              work on the system in a folder: fetch and link only
  --json                  after list, update, stage, check, status, doctor:
                          print JSON

Exit codes: 0 done, 1 failed or something is missing, 2 wrong usage.

  extension-agent install kubernetes@1.36
  extension-agent check 4757.2.0 --json

Settings: /etc/extension-agent.toml and /etc/extension-agent.toml.d/*.toml
`

// Exit codes.
const (
	done   = 0
	failed = 1
	usage  = 2
)

// usageError is the error of a wrong command line.
type usageError string

func (e usageError) Error() string { return string(e) }

// app is one call.
type app struct {
	root   string
	json   bool
	out    io.Writer
	log    *slog.Logger
	run    node.Runner
	args   []string
	opened *agent.Agent
}

// errFailed ends a command with exit code 1 after it has printed everything.
var errFailed = errors.New("")

var commands = map[string]struct {
	least, most int
	run         func(*app, context.Context) error
	json        bool
}{
	"install":  {1, 1, (*app).install, false},
	"remove":   {1, 1, (*app).remove, false},
	"list":     {0, 0, (*app).list, true},
	"update":   {0, 0, (*app).update, true},
	"stage":    {1, 1, (*app).stage, true},
	"check":    {0, 1, (*app).check, true},
	"status":   {0, 0, (*app).status, true},
	"doctor":   {0, 0, (*app).doctor, true},
	"rollback": {1, 1, (*app).rollback, false},
	"release":  {0, 0, (*app).release, false},
	"ready":    {0, 0, (*app).ready, false},
	"watch":    {0, 0, (*app).watch, false},
}

// Main runs a command and returns the exit code.
func Main(ctx context.Context, args []string, out, errOut io.Writer, run node.Runner) int {
	a := &app{root: "/", out: out, run: run}
	// journald reads the level from the start of a line; a terminal shows it as it is.
	a.log = slog.New(&handler{out: errOut})
	err := a.main(ctx, args)
	var wrong usageError
	switch {
	case err == nil:
		return done
	case errors.As(err, &wrong):
		fmt.Fprintf(errOut, "extension-agent: %s\nTry extension-agent --help.\n", wrong)
		return usage
	case errors.Is(err, errFailed):
		return failed
	}
	fmt.Fprintf(errOut, "extension-agent: %v\n", err)
	return failed
}

func (a *app) main(ctx context.Context, args []string) error {
	name, err := a.parse(args)
	if err != nil {
		return err
	}
	if name == "help" {
		_, err := io.WriteString(a.out, help)
		return err
	}
	command, ok := commands[name]
	switch {
	case name == "":
		return usageError("a command is missing")
	case !ok:
		return usageError(fmt.Sprintf("%q is not a command", name))
	case len(a.args) < command.least || len(a.args) > command.most:
		return usageError(fmt.Sprintf("wrong number of arguments for %s", name))
	case a.json && !command.json:
		return usageError(fmt.Sprintf("%s prints no JSON", name))
	}
	return command.run(a, ctx)
}

// parse reads flags before and after the command.
func (a *app) parse(args []string) (name string, err error) {
	flags := flag.NewFlagSet("", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&a.root, "root", "/", "")
	flags.BoolVar(&a.json, "json", false, "")
	var words []string
	for len(args) > 0 {
		if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
			return "help", nil
		} else if err != nil {
			return "", usageError(err.Error())
		}
		args = flags.Args()
		if len(args) > 0 {
			words, args = append(words, args[0]), args[1:]
		}
	}
	if a.root, err = filepath.Abs(a.root); err != nil {
		return "", err
	}
	if len(words) == 0 {
		return "", nil
	}
	a.args = words[1:]
	return words[0], nil
}

// open reads the node and its settings.
func (a *app) open(ctx context.Context) (*agent.Agent, error) {
	if a.opened != nil {
		return a.opened, nil
	}
	n, err := node.Open(ctx, a.root, a.run)
	if err != nil {
		return nil, err
	}
	a.opened, err = agent.Open(n, a.log)
	return a.opened, err
}

// change opens the agent for a command that changes the node: one at a time.
func (a *app) change(ctx context.Context) (*agent.Agent, func(), error) {
	n, err := node.Open(ctx, a.root, a.run)
	if err != nil {
		return nil, nil, err
	}
	unlock, err := n.Lock(ctx, func() { a.log.Info("waiting for another extension-agent to finish") })
	if err != nil {
		return nil, nil, err
	}
	opened, err := agent.Open(n, a.log)
	if err != nil {
		unlock()
		return nil, nil, err
	}
	return opened, unlock, nil
}

// print writes a value as JSON, or rows as a table.
func (a *app) print(value any, rows [][]string) error {
	if a.json {
		encoder := json.NewEncoder(a.out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(value)
	}
	table := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(table, strings.TrimRight(strings.Join(row, "\t"), "\t"))
	}
	return table.Flush()
}

func extensionName(text string) (string, error) {
	if !config.IsName(text) {
		return "", usageError(fmt.Sprintf("%q is not a valid extension name", text))
	}
	return text, nil
}

func releaseNumber(text string) (string, error) {
	if !version.IsRelease(text) {
		return "", usageError(fmt.Sprintf("%q is not a Flatcar release such as 4593.2.5", text))
	}
	return text, nil
}

func (a *app) install(ctx context.Context) error {
	name, channel, hasChannel := strings.Cut(a.args[0], "@")
	if _, err := extensionName(name); err != nil {
		return err
	}
	if hasChannel && !version.IsChannel(channel) {
		return usageError(fmt.Sprintf(`%q is not a channel: use "latest", a branch such as 1.36, or a version`, channel))
	}
	one, unlock, err := a.change(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	tree, err := one.Tree(ctx)
	if err != nil {
		return err
	}
	outcomes, err := one.Install(ctx, tree, name, channel)
	if err != nil {
		return err
	}
	return a.outcomes(outcomes)
}

func (a *app) outcomes(outcomes []agent.Outcome) error {
	rows := [][]string{}
	for _, one := range outcomes {
		rows = append(rows, []string{one.Name, one.Version, one.Target, one.Result, one.Reason})
	}
	if err := a.print(outcomes, rows); err != nil {
		return err
	}
	if agent.Failed(outcomes) {
		return errFailed
	}
	return nil
}

func (a *app) remove(ctx context.Context) error {
	name, err := extensionName(a.args[0])
	if err != nil {
		return err
	}
	one, unlock, err := a.change(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return one.Remove(ctx, name)
}

func (a *app) list(ctx context.Context) error {
	one, err := a.open(ctx)
	if err != nil {
		return err
	}
	tree, err := one.Tree(ctx)
	if err != nil {
		return err
	}
	type listed struct {
		Name      string `json:"name"`
		Newest    string `json:"newest"`
		Installed bool   `json:"installed"`
		Summary   string `json:"summary"`
	}
	all, rows := []listed{}, [][]string{{"NAME", "NEWEST", "INSTALLED", "SUMMARY"}}
	for _, entry := range tree.Index.Extensions {
		_, installed := one.Config.Extensions[entry.Name]
		all = append(all, listed{entry.Name, entry.Newest, installed, entry.Summary})
		rows = append(rows, []string{entry.Name, entry.Newest, map[bool]string{true: "yes", false: "no"}[installed], entry.Summary})
	}
	return a.print(all, rows)
}

func (a *app) update(ctx context.Context) error {
	one, unlock, err := a.change(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	tree, err := one.Tree(ctx)
	if err != nil {
		return errors.Join(err, one.Recover(ctx))
	}
	outcomes, err := one.Update(ctx, tree)
	if err != nil {
		return err
	}
	if err := one.WriteMetrics(tree, agent.Next(one.Node), 0); err != nil {
		a.log.Warn("cannot write metrics", "error", err)
	}
	return a.outcomes(outcomes)
}

func (a *app) stage(ctx context.Context) error {
	release, err := releaseNumber(a.args[0])
	if err != nil {
		return err
	}
	one, unlock, err := a.change(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	tree, err := one.Tree(ctx)
	if err != nil {
		return err
	}
	// Not removed as that of a release in no slot, for two weeks.
	if err := one.Journal.Update(func(s *journal.State) { s.Staged[release] = one.Now() }); err != nil {
		return err
	}
	return a.outcomes(one.Stage(ctx, tree, release))
}

func (a *app) check(ctx context.Context) error {
	one, err := a.open(ctx)
	if err != nil {
		return err
	}
	release := agent.Next(one.Node)
	if len(a.args) > 0 {
		if release, err = releaseNumber(a.args[0]); err != nil {
			return err
		}
	}
	if release == "" {
		release = one.Node.Release
	}
	tree, err := one.Tree(ctx)
	if err != nil {
		return err
	}
	forecasts := one.Check(ctx, tree, release)
	rows := [][]string{{"EXTENSION", "NOW", "THEN", "FETCH", "HOLD", "REASON"}}
	missing := false
	for _, row := range forecasts {
		missing = missing || row.Then == ""
		rows = append(rows, []string{row.Name, dash(row.Now), dash(row.Then), bytesText(row.Bytes), row.Hold, row.Reason})
	}
	if err := a.print(forecasts, rows); err != nil {
		return err
	}
	if missing {
		return errFailed
	}
	return nil
}

func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func bytesText(bytes int64) string {
	if bytes < 1<<20 {
		return fmt.Sprintf("%.1f KiB", float64(bytes)/(1<<10))
	}
	return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20))
}

func (a *app) status(ctx context.Context) error {
	one, err := a.open(ctx)
	if err != nil {
		return err
	}
	next := agent.Next(one.Node)
	extensions, err := one.Rows(next)
	if err != nil {
		return err
	}
	held, err := hold.Read(one.Node)
	if err != nil {
		return err
	}
	value := struct {
		Running    string      `json:"running"`
		Next       string      `json:"next,omitempty"`
		Held       *hold.Held  `json:"held,omitempty"`
		Extensions []agent.Row `json:"extensions"`
	}{one.Node.VersionID, next, held, extensions}
	if value.Extensions == nil {
		value.Extensions = []agent.Row{}
	}
	if !a.json {
		fmt.Fprintf(a.out, "running: %s %s\nnext: %s\n", one.Node.ID, one.Node.VersionID, dash(next))
		if held != nil {
			fmt.Fprintf(a.out, "held: the reboot into %s waits for %s\n", held.Release, strings.Join(held.Missing, ", "))
		}
	}
	rows := [][]string{{"EXTENSION", "MERGED", "LINKED", "NEXT", "FOR", "WAITS FOR", "CHANNEL"}}
	for _, row := range extensions {
		rows = append(rows, []string{row.Name, dash(row.Merged), dash(row.Linked), dash(row.Next), dash(row.Target), dash(row.Trial), dash(row.Channel)})
	}
	return a.print(value, rows)
}

func (a *app) doctor(ctx context.Context) error {
	one, err := a.open(ctx)
	if err != nil {
		return err
	}
	findings := doctor.Examine(ctx, one.Node, one.Config, one.Journal.State)
	if findings == nil {
		findings = []doctor.Finding{}
	}
	if a.json {
		err = a.print(findings, nil)
	} else {
		for _, finding := range findings {
			fmt.Fprintf(a.out, "%s: %s\n  %s\n", finding.Subject, finding.Problem, finding.Next)
		}
		if len(findings) == 0 {
			fmt.Fprintln(a.out, "no problem found")
		}
	}
	if err == nil && len(findings) > 0 {
		err = errFailed
	}
	return err
}

func (a *app) rollback(ctx context.Context) error {
	name, err := extensionName(a.args[0])
	if err != nil {
		return err
	}
	one, unlock, err := a.change(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	image, err := one.Rollback(ctx, name)
	if err == nil {
		fmt.Fprintf(a.out, "%s: %s\n", name, image)
	}
	return err
}

func (a *app) holder(n *node.Node) *hold.Holder {
	return &hold.Holder{Node: n, Bus: func() (*dbus.Conn, error) { return dbus.ConnectSystemBus() }}
}

func (a *app) release(ctx context.Context) error {
	n, err := node.Open(ctx, a.root, a.run)
	if err != nil {
		return err
	}
	// ExecStopPost= after a crash: the hold stays until the next start has looked (systemd.exec(5)).
	if result := os.Getenv("SERVICE_RESULT"); result != "" && result != "success" {
		return nil
	}
	if state, _ := n.Run(ctx, "systemctl", "is-system-running"); strings.TrimSpace(state) == "stopping" {
		return nil // the hold ends with the boot
	}
	return a.holder(n).Release(ctx)
}

func (a *app) ready(ctx context.Context) error {
	n, err := node.Open(ctx, a.root, a.run)
	if err != nil {
		return err
	}
	ready, reason := hold.Ready(n)
	fmt.Fprintln(a.out, reason)
	if !ready {
		return errFailed
	}
	return nil
}

func (a *app) watch(ctx context.Context) error {
	one, err := a.open(ctx)
	if err != nil {
		return err
	}
	if one.Node.Offline() {
		return usageError("watch works on the running system only")
	}
	holder := a.holder(one.Node)
	watcher := &agent.Watcher{
		Agent: one, Holder: holder, Statuses: engine.Watch(ctx, func() (*dbus.Conn, error) { return dbus.ConnectSystemBus() }, 10*time.Second),
		Retry: time.Minute, Warn: time.Hour, Uptime: node.Uptime,
	}
	return watcher.Run(ctx)
}

// handler writes log records as lines that journald understands: <6> is information, <4> a warning, <3> an error (sd-daemon(3)).
type handler struct {
	out   io.Writer
	attrs []slog.Attr
}

func (h *handler) Enabled(context.Context, slog.Level) bool { return true }
func (h *handler) WithGroup(string) slog.Handler            { return h }
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{h.out, slices.Concat(h.attrs, attrs)}
}

func (h *handler) Handle(_ context.Context, record slog.Record) error {
	var line strings.Builder
	if os.Getenv("JOURNAL_STREAM") != "" {
		line.WriteString(map[slog.Level]string{slog.LevelWarn: "<4>", slog.LevelError: "<3>"}[record.Level])
	}
	line.WriteString(record.Message)
	add := func(attr slog.Attr) bool {
		fmt.Fprintf(&line, " %s=%v", attr.Key, attr.Value)
		return true
	}
	for _, attr := range h.attrs {
		add(attr)
	}
	record.Attrs(add)
	_, err := io.WriteString(h.out, line.String()+"\n")
	return err
}
