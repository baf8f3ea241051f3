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
	chdir := cmd.Flag("chdir", "Directory in which workers start, and a relative path of COMMAND is looked for. Links in it are "+
		"resolved once a rollout, so it can be the link that a deployment switches.").PlaceHolder("DIR").String()
	argv := cmd.Arg("command", "The worker's command and its arguments, best after a --.").Required().Strings()
	return cmd.FullCommand(), func() error {
		name := filepath.Base((*argv)[0])
		c, err := f.config(name)
		if err != nil {
			return err
		}
		if c.Store == "" && isInterpreter(name) {
			c.Logger.Warn("the service is named after an interpreter, so no other that it runs can start beside it",
				"service", name, "help", "give --service NAME; its counters then begin at zero once")
		}
		if c.Foreign, err = others.open(c.Logger); err != nil {
			return err
		}
		c.Command, c.Chdir, c.SocketNonblocking = *argv, *chdir, *nonblocking
		return master.Run(c, nil)
	}
}
