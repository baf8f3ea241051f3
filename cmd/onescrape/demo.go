package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/alecthomas/kingpin/v2"

	"github.com/onescrape/onescrape/master"
	"github.com/onescrape/onescrape/shmstore"
	"github.com/onescrape/onescrape/worker"
)

func addDemo(app *kingpin.Application) (string, command) {
	cmd := app.Command("demo", "Run a small web application as the workers of a master, to try things out on.")
	var f masterFlags
	f.add(cmd, "0s", "127.0.0.1:8080")
	return cmd.FullCommand(), func() error {
		c, err := f.config("demo")
		if err != nil {
			return err
		}
		if !master.IsWorker() {
			welcome(c)
		}
		return master.Run(c, func(_ context.Context, w *worker.Worker) error {
			return w.Serve(&http.Server{Handler: newDemo(c.Logger).routes(w.Slot()), ReadHeaderTimeout: 10 * time.Second})
		})
	}
}

// told is set in the environment by the demo that has printed its welcome, so that after an upgrade in place, which is
// the same process with the same environment, it is not printed again.
const told = "ONESCRAPE_DEMO_TOLD"

// welcome prints, as soon as the master says that it is ready, where things are and what to try.
func welcome(c master.Config) {
	if os.Getenv(told) != "" {
		return
	}
	os.Setenv(told, "1")
	if c.Store == "" {
		c.Store, _ = shmstore.DefaultPath(c.Service)
	}
	go func() {
		for range time.Tick(50 * time.Millisecond) {
			if s, err := readStatus(c.Store); err == nil && s.PID == os.Getpid() && s.Ready {
				c.Workers = s.Workers // the flag's zero stands for one a CPU
				fmt.Print(welcomeText(c))
				return
			}
		}
	}()
}

func welcomeText(c master.Config) string {
	app := curlURL(c.Listen[0], "")
	var b strings.Builder
	fmt.Fprintf(&b, "\nThe application is at %s, answered by %d workers", app, c.Workers)
	if c.MetricsListen == "off" {
		fmt.Fprintf(&b, ".\nThe metrics are in %s only, because of --web.listen-address=off.\n", c.Store)
		fmt.Fprintf(&b, "\n    %s inspect --store.path %s\n\n", typed(), c.Store)
		return b.String()
	}
	metrics := curlURL(c.MetricsListen, c.TelemetryPath)
	fmt.Fprintf(&b, ";\nthe metrics of all of them are at %s.\n\nTry, in another terminal:\n\n", metrics)
	for _, line := range [...][2]string{
		{"curl " + curlURL(c.Listen[0], "/"), "an answer from one of the workers"},
		{"curl " + curlURL(c.Listen[0], "/work?ms=200"), "a slow one"},
		{"curl " + curlURL(c.Listen[0], "/status/404"), "any status you like"},
		{"curl " + curlURL(c.Listen[0], "/panic"), "the handler panics, the worker lives"},
		{"curl " + curlURL(c.Listen[0], "/crash"), "the worker dies: its numbers stay"},
		{"curl -s " + metrics + " | grep ^demo_", "one true answer"},
		{typed() + " inspect --store.path " + c.Store, "the file of each worker"},
		{fmt.Sprintf("kill -HUP %d", os.Getpid()), "replace the workers, one by one"},
	} {
		fmt.Fprintf(&b, "    %-64s # %s\n", line[0], line[1])
	}
	b.WriteString("\nCtrl-C stops it.\n\n")
	return b.String()
}

// typed is this program as it can be typed anywhere: its name where that is installed, otherwise its path, as that which
// go run has built.
func typed() string {
	const name = "onescrape"
	if _, err := exec.LookPath(name); err == nil {
		return name
	}
	path, err := os.Executable()
	if err != nil {
		return name
	}
	return path
}

// curlURL is the address as somebody on this machine gives it to curl: one that means every interface is on loopback
// too.
func curlURL(addr, path string) string {
	quote := ""
	if _, a, ok := strings.Cut(addr, "="); ok {
		addr = a
	}
	if strings.Contains(path, "?") {
		quote = "'" // for shells that would look for a file of that name
	}
	if socket, ok := strings.CutPrefix(addr, "unix:"); ok {
		return "--unix-socket " + socket + " " + quote + "http://demo" + path + quote
	}
	for _, every := range [...]string{"0.0.0.0:", "[::]:", ":"} {
		if port, ok := strings.CutPrefix(addr, every); ok {
			addr = "127.0.0.1:" + port
			break
		}
	}
	return quote + "http://" + addr + path + quote
}
