package testtree

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/godbus/dbus/v5"
)

// Bus is a private bus with a stand-in for update-engine.
type Bus struct {
	t       testing.TB
	Address string
	lock    sync.Mutex
	status  [2]string
	engine  *dbus.Conn
}

// NewBus starts dbus-daemon, or skips the test where there is none.
func NewBus(t testing.TB) *Bus {
	t.Helper()
	program, err := exec.LookPath("dbus-daemon")
	if err != nil {
		t.Skip("no dbus-daemon on this machine")
	}
	// Abstract: the path of a temporary folder can be too long for a socket.
	address := fmt.Sprintf("unix:abstract=extension-agent-test-%d-%d", os.Getpid(), rand.Uint64())
	command := exec.Command(program, "--session", "--nofork", "--print-address", "--address="+address)
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		command.Process.Kill()
		command.Wait()
	})
	address, err = bufio.NewReader(output).ReadString('\n') // with the id of the bus
	if err != nil {
		t.Fatal(err)
	}
	return &Bus{t: t, Address: strings.TrimSpace(address), status: [2]string{"UPDATE_STATUS_IDLE", "0.0.0"}}
}

// Connect connects to the bus.
func (b *Bus) Connect() (*dbus.Conn, error) { return dbus.Connect(b.Address) }

// GetStatus is the method of update-engine.
func (b *Bus) GetStatus() (int64, float64, string, string, int64, *dbus.Error) {
	b.lock.Lock()
	defer b.lock.Unlock()
	return 1_795_000_000, 0.5, b.status[0], b.status[1], 500_000_000, nil
}

// Start starts update-engine.
func (b *Bus) Start() {
	b.t.Helper()
	engine, err := b.Connect()
	if err != nil {
		b.t.Fatal(err)
	}
	if err := engine.Export(b, "/com/coreos/update1", "com.coreos.update1.Manager"); err != nil {
		b.t.Fatal(err)
	}
	if _, err := engine.RequestName("com.coreos.update1", dbus.NameFlagDoNotQueue); err != nil {
		b.t.Fatal(err)
	}
	b.engine = engine
	b.t.Cleanup(func() { engine.Close() })
}

// Stop stops update-engine.
func (b *Bus) Stop() { b.engine.Close() }

// Set changes the status and announces it.
func (b *Bus) Set(operation, version string) {
	b.t.Helper()
	b.lock.Lock()
	b.status = [2]string{"UPDATE_STATUS_" + operation, version}
	b.lock.Unlock()
	body := []any{int64(1_795_000_000), 0.5, "UPDATE_STATUS_" + operation, version, int64(500_000_000)}
	if err := b.engine.Emit("/com/coreos/update1", "com.coreos.update1.Manager.StatusUpdate", body...); err != nil {
		b.t.Fatal(err)
	}
}
