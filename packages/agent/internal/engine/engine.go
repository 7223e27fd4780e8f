// Package engine follows update-engine, which installs Flatcar releases (com.coreos.update1 on the system bus).
package engine

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/flatcar/extensions/packages/agent/internal/version"
)

const (
	busName = "com.coreos.update1"
	object  = "/com/coreos/update1"
	iface   = "com.coreos.update1.Manager"
)

// Operations of update-engine (update_status.h), without the prefix UPDATE_STATUS_.
const (
	Idle            = "IDLE"
	UpdateAvailable = "UPDATE_AVAILABLE"
	Downloading     = "DOWNLOADING"
	Verifying       = "VERIFYING"
	Finalizing      = "FINALIZING"
	NeedReboot      = "UPDATED_NEED_REBOOT"
)

// Status is an answer of update-engine; the zero value means that it does not answer.
type Status struct {
	Operation string
	// Version is the release that is offered; empty if update-engine does not know it.
	Version string
}

// Offers reports whether a release is being installed, or waits for its first boot.
func (s Status) Offers() bool {
	switch s.Operation {
	case UpdateAvailable, Downloading, Verifying, Finalizing, NeedReboot:
		return true
	}
	return false
}

// parse reads (last check, progress, operation, version, size), the answer of GetStatus and the signal StatusUpdate (dbus_service.cc).
func parse(body []any) (Status, error) {
	if len(body) < 4 {
		return Status{}, fmt.Errorf("update-engine answered with %d values", len(body))
	}
	operation, isText := body[2].(string)
	offered, isAlsoText := body[3].(string)
	if !isText || !isAlsoText {
		return Status{}, fmt.Errorf("update-engine answered with other types")
	}
	// Development builds add +BUILD. After a restart, update-engine knows that it updated, but not to which version (update_attempter.cc).
	offered, _, _ = strings.Cut(offered, "+")
	if !version.IsRelease(offered) || offered == "0.0.0" {
		offered = ""
	}
	return Status{Operation: strings.TrimPrefix(operation, "UPDATE_STATUS_"), Version: offered}, nil
}

// Query asks update-engine once, and does not start it.
func Query(ctx context.Context, bus *dbus.Conn) (Status, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	call := bus.Object(busName, object).CallWithContext(ctx, iface+".GetStatus", dbus.FlagNoAutoStart)
	if call.Err != nil {
		return Status{}, call.Err
	}
	return parse(call.Body)
}

// Watch reports each status to a channel until the context ends: what update-engine announces, and its answer every poll interval, because
// a signal can be lost while it restarts. It connects again when the bus goes away.
func Watch(ctx context.Context, connect func() (*dbus.Conn, error), poll time.Duration) <-chan Status {
	statuses := make(chan Status)
	report := func(status Status) {
		select {
		case statuses <- status:
		case <-ctx.Done():
		}
	}
	go func() {
		for ctx.Err() == nil {
			if bus, err := connect(); err == nil {
				follow(ctx, bus, poll, report)
				bus.Close()
			} else {
				report(Status{})
			}
			select {
			case <-ctx.Done():
			case <-time.After(poll):
			}
		}
	}()
	return statuses
}

// follow reports until the context or the connection ends.
func follow(ctx context.Context, bus *dbus.Conn, poll time.Duration, report func(Status)) {
	signals := make(chan *dbus.Signal, 16)
	bus.Signal(signals)
	match := []dbus.MatchOption{dbus.WithMatchSender(busName), dbus.WithMatchInterface(iface), dbus.WithMatchMember("StatusUpdate")}
	if bus.AddMatchSignalContext(ctx, match...) != nil {
		return
	}
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	ask := func() {
		status, err := Query(ctx, bus)
		if err != nil {
			status = Status{}
		}
		report(status)
	}
	ask()
	for {
		select {
		case <-ctx.Done():
			return
		case signal, open := <-signals:
			if !open {
				return
			}
			if signal.Name == iface+".StatusUpdate" {
				if status, err := parse(signal.Body); err == nil {
					report(status)
				}
			}
		case <-ticker.C:
			if !bus.Connected() {
				return
			}
			ask()
		}
	}
}
