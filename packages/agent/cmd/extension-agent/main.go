// Command extension-agent installs and updates system extension images on a node.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/flatcar/extensions/packages/agent/internal/cli"
	"github.com/flatcar/extensions/packages/agent/internal/node"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.Main(ctx, os.Args[1:], os.Stdout, os.Stderr, node.Run)
	stop()
	os.Exit(code)
}
