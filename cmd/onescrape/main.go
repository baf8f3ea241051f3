// Command onescrape runs prefork servers whose workers share one port and one exact scrape: a supervisor for any server
// that takes its sockets as systemd gives them, a demonstration, and the tools to look into a store and to steer a
// running master.
package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/alecthomas/kingpin/v2"
)

// A command is one verb of the command line; it runs after all flags are known to be good.
type command func() error

func main() {
	app := kingpin.New("onescrape", "One scrape for a whole prefork server.").UsageWriter(os.Stdout).ErrorWriter(lastWords{})
	app.HelpFlag.Short('h')
	app.Version(versionText())
	// What follows the name of a worker's command belongs to it, with or without a -- before. Other commands take their
	// flags behind arguments too.
	app.Interspersed(len(os.Args) < 2 || os.Args[1] != "run")

	commands := map[string]command{}
	for _, add := range []func(*kingpin.Application) (string, command){
		addDemo, addRun, addServe, addInspect, addStatus, addReload, addUpgrade, addScale, addStop, addVersion,
	} {
		name, run := add(app)
		commands[name] = run
	}

	name, err := app.Parse(joinNegative(os.Args[1:]))
	if err != nil {
		app.Fatalf("%s, try --help", err)
	}
	if err := commands[name](); err != nil {
		var usage usageError
		if errors.As(err, &usage) {
			app.Errorf("%s", oneLine(usage))
			os.Exit(2)
		}
		app.Fatalf("%s", oneLine(err))
	}
}

// joinNegative writes "--flag -1" as "--flag=-1" up to a "--", because the parser takes -1 for a flag and would then
// say that an argument is missing, of a command line on which everybody sees one.
func joinNegative(args []string) []string {
	joined := make([]string, 0, len(args))
	for i, arg := range args {
		if arg == "--" {
			return append(joined, args[i:]...)
		}
		last := len(joined) - 1
		if last >= 0 && strings.HasPrefix(joined[last], "--") && !strings.Contains(joined[last], "=") && negative(arg) {
			joined[last] += "=" + arg
			continue
		}
		joined = append(joined, arg)
	}
	return joined
}

func negative(s string) bool { return len(s) > 1 && s[0] == '-' && s[1] >= '0' && s[1] <= '9' }

// oneLine is an error's text for a log that is read line by line.
func oneLine(err error) string { return strings.ReplaceAll(fmt.Sprint(err), "\n", "; ") }
