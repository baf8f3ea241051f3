package main

import (
	"path/filepath"

	"github.com/alecthomas/kingpin/v2"

	"github.com/onescrape/onescrape/master"
)

func addRun(app *kingpin.Application) (string, command) {
	cmd := app.Command("run", "Supervise workers of any kind: COMMAND takes its listening sockets from LISTEN_FDS, as "+
		"systemd gives them.")
	var f masterFlags
	f.add(cmd, "2s")
	var others foreignFlags
	others.add(cmd)
	nonblocking := cmd.Flag("socket-nonblocking", "Hand over non-blocking sockets. By default they are blocking, as systemd's "+
		"are.").Bool()
	argv := cmd.Arg("command", "The worker's command and its arguments, best after a --.").Required().Strings()
	return cmd.FullCommand(), func() error {
		c, err := f.config(filepath.Base((*argv)[0]))
		if err != nil {
			return err
		}
		if c.Foreign, err = others.open(c.Logger); err != nil {
			return err
		}
		c.Command, c.SocketNonblocking = *argv, *nonblocking
		return master.Run(c, nil)
	}
}
