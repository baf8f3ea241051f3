package main

import (
	"fmt"
	"runtime/debug"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/version"
)

func addVersion(app *kingpin.Application) (string, command) {
	cmd := app.Command("version", "Print the version and what it was built with.")
	return cmd.FullCommand(), func() error {
		fmt.Println(versionText())
		return nil
	}
}

// versionText is what every Prometheus program prints for its version. A release sets it with -ldflags; a build without
// them, such as go install's, has the module's.
func versionText() string {
	if info, ok := debug.ReadBuildInfo(); ok && version.Version == "" {
		version.Version = info.Main.Version
	}
	return version.Print("onescrape")
}
