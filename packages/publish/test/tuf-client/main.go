// Reads a tree's index by go-tuf, as the agent on nodes does: ROOT STATE URL. Prints the index.
package main

import (
	"fmt"
	"os"

	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"
)

func read(rootFile, state, url string) ([]byte, error) {
	root, err := os.ReadFile(rootFile)
	if err != nil {
		return nil, err
	}
	settings, err := config.New(url+"/metadata", root)
	if err != nil {
		return nil, err
	}
	settings.LocalMetadataDir = state
	settings.LocalTargetsDir = state
	settings.RemoteTargetsURL = url
	client, err := updater.New(settings)
	if err != nil {
		return nil, err
	}
	if err := client.Refresh(); err != nil {
		return nil, err
	}
	target, err := client.GetTargetInfo("index.json")
	if err != nil {
		return nil, err
	}
	_, bytes, err := client.DownloadTarget(target, "", "")
	return bytes, err
}

func main() {
	bytes, err := read(os.Args[1], os.Args[2], os.Args[3])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Stdout.Write(bytes)
}
