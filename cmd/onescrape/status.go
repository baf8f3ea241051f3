package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/alecthomas/kingpin/v2"

	"github.com/onescrape/onescrape/master"
)

func addStatus(app *kingpin.Application) (string, command) {
	cmd := app.Command("status", "Show a store's master, its workers and its last rollout.")
	var store storeFlags
	store.addControlled(cmd)
	asJSON := cmd.Flag("json", "Print JSON, as /api/v1/status has it.").Bool()
	return cmd.FullCommand(), func() error {
		path, _, err := store.find("status")
		if err != nil {
			return err
		}
		s, err := readStatus(path)
		if err != nil {
			return err
		}
		if *asJSON {
			e := json.NewEncoder(os.Stdout)
			e.SetIndent("", "  ")
			return e.Encode(s)
		}
		return writeStatus(os.Stdout, s)
	}
}

func writeStatus(out io.Writer, s master.Status) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	ready := "ready"
	if !s.Ready {
		ready = "not ready"
	}
	fmt.Fprintf(w, "service\t%s\n", serviceOf(s.Store, s.PID))
	fmt.Fprintf(w, "master\t%d, %s, up %v, version %s\n", s.PID, ready, age(s.Started), s.Version)
	fmt.Fprintf(w, "store\t%s\n", s.Store)
	if s.StoreTrouble != "" {
		fmt.Fprintf(w, "\t%s\n", s.StoreTrouble)
	}
	fmt.Fprintf(w, "steering\t%s\n", s.Steering)
	for _, st := range s.Strangers {
		fmt.Fprintf(w, "stranger\t%s, %s\n", st.Address, holderText(st.Holders))
	}
	if r := s.Rollout; r != nil {
		fmt.Fprintf(w, "%s\t%s, %d of %d workers", r.Kind, r.State, r.Done, r.Total)
		if r.Error != "" {
			fmt.Fprintf(w, ": %s", r.Error)
		}
		fmt.Fprintln(w)
	}
	if s.Queued != "" {
		fmt.Fprintf(w, "waiting\t%s\n", s.Queued)
	}
	fmt.Fprintf(w, "workers\t%d wanted\n", s.Workers)
	for _, r := range s.Releases {
		fmt.Fprintf(w, "release %d\t%s, changed %s", r.Release, r.Program, r.Changed.UTC().Format(time.RFC3339))
		if r.Dir != "" {
			fmt.Fprintf(w, ", in %s", r.Dir)
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w, "\nSLOT\tPID\tSTATE\tUP\tRELEASE\tRESTARTS\tLAST EXIT\tSAYS")
	for _, slot := range s.Slots {
		pid, up := "-", "-"
		if slot.PID != 0 {
			pid, up = strconv.Itoa(slot.PID), age(slot.Started).String()
		}
		release := "-"
		if slot.Release != 0 {
			release = strconv.Itoa(slot.Release)
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", slot.Slot, pid, stateText(slot), up, release, slot.Restarts,
			cmp.Or(slot.LastExit, "-"), slot.Text)
	}
	return w.Flush()
}

// stateText is a slot's state, and that its workers crash again and again.
func stateText(slot master.Slot) string {
	if slot.CrashLoop {
		return slot.State + ", crash loop"
	}
	return slot.State
}

// age is the time since t in whole seconds.
func age(t time.Time) time.Duration { return time.Since(t).Round(time.Second) }

// holderText names the processes that have a stranger's socket.
func holderText(hs []master.Holder) string {
	if len(hs) == 0 {
		return "held by a process that this user may not see"
	}
	var names []string
	for _, h := range hs {
		names = append(names, fmt.Sprintf("pid %d (%s)", h.PID, h.Name))
	}
	return "held by " + strings.Join(names, ", ")
}
