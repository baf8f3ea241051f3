package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/alecthomas/kingpin/v2"

	"github.com/onescrape/onescrape/shmstore"
)

// storeEnv names the store for all commands.
const storeEnv = "ONESCRAPE_DIR"

// storeFlags are the flags that say which store a command works on.
type storeFlags struct {
	path    string
	service serviceName
}

// add adds the flags. byDefault is where the store is without them.
func (f *storeFlags) add(cmd *kingpin.CmdClause, byDefault string) {
	f.addPath(cmd, "Directory of the store; by default ONESCRAPE_DIR, else "+byDefault+".")
	valueFlag(cmd, "service", "Name of the service, which names the default store.", &f.service).PlaceHolder("NAME")
}

// addControlled adds the flags of a command that finds a store which is there already.
func (f *storeFlags) addControlled(cmd *kingpin.CmdClause) {
	f.add(cmd, "the store of --service, else this user's only store in /dev/shm, or the only one there that has a master")
}

func (f *storeFlags) addPath(cmd *kingpin.CmdClause, help string) {
	cmd.Flag("store.path", help).PlaceHolder("DIR").Envar(storeEnv).StringVar(&f.path)
}

// chosen returns the store that the flags or the environment name, "" when they name none.
func (f *storeFlags) chosen() (string, error) {
	if f.service == "" {
		return f.path, nil
	}
	if f.path != "" && f.path != os.Getenv(storeEnv) {
		return "", errors.New("--service and --store.path contradict each other: give one of them")
	}
	path, _ := shmstore.DefaultPath(string(f.service))
	return path, nil
}

// serviceName is the name of a service.
type serviceName string

var serviceNames = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}$`)

func (n *serviceName) Set(s string) error {
	if !serviceNames.MatchString(s) {
		return fmt.Errorf("%q is no name of a service: give up to 64 letters, digits, dots, dashes and underscores", s)
	}
	*n = serviceName(s)
	return nil
}

func (n *serviceName) String() string { return string(*n) }

// service is a running master as its operator knows it.
type service struct {
	name    string // of the default store, else the store's path
	byName  bool   // --service finds it
	store   string
	pid     int
	command string // "" when it is not known
}

// serviceOf describes the master of a store.
func serviceOf(store string, pid int) service {
	s := service{name: store, store: store, pid: pid, command: commandLine(pid)}
	prefix, _ := shmstore.DefaultPath("")
	if name, ok := strings.CutPrefix(store, prefix); ok && name != "" && !strings.Contains(name, "/") {
		s.name, s.byName = name, true
	}
	return s
}

// String names the service, its command and its pid.
func (s service) String() string {
	if s.command == "" {
		return fmt.Sprintf("%s (pid %d)", s.name, s.pid)
	}
	return fmt.Sprintf("%s (pid %d, %s)", s.name, s.pid, s.command)
}

// flag is what to type to name the service.
func (s service) flag() string {
	if s.byName {
		return "--service " + s.name
	}
	return "--store.path " + s.store
}

// longestCommand is after how many bytes a command line is cut.
const longestCommand = 80

// commandLine returns what a process was started with, "" when the system does not say.
func commandLine(pid int) string {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	if err != nil {
		return ""
	}
	text := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(strings.TrimRight(string(b), "\x00"), "?"))
	if len(text) > longestCommand {
		text = strings.ToValidUTF8(text[:longestCommand], "") + "..."
	}
	return text
}

// interpreters are programs that run other programs, so that their name says nothing of a service.
var interpreters = regexp.MustCompile(`^(node|nodejs|deno|bun|npm|npx|yarn|pnpm|python|pypy|uv|pipenv|poetry|ruby|jruby|` +
	`bundle|perl|php|lua|luajit|java|dotnet|mono|sh|bash|dash|ash|ksh|zsh|fish|busybox|env|sudo|nice|timeout|go)[0-9.]*$`)

// isInterpreter reports whether a program's name says nothing of the service that it runs.
func isInterpreter(name string) bool { return interpreters.MatchString(name) }
