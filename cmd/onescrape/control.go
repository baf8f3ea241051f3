package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/alecthomas/kingpin/v2"

	"github.com/onescrape/onescrape/master"
)

// The commands that steer a running master. They find it by its store, tell it what to do by a signal, as kill and
// systemd would, and follow what comes of it in the status that it keeps there; so they need no port.

func addReload(app *kingpin.Application) (string, command) {
	return addRollout(app, "reload", "Replace the workers one by one, with the binary that is on disk now, and wait for "+
		"it.", syscall.SIGHUP)
}

func addUpgrade(app *kingpin.Application) (string, command) {
	return addRollout(app, "upgrade", "Replace the master too, in place, then the workers, and wait for it.",
		syscall.SIGUSR2)
}

func addRollout(app *kingpin.Application, kind, help string, sig syscall.Signal) (string, command) {
	cmd := app.Command(kind, help)
	var store storeFlags
	store.addControlled(cmd)
	return cmd.FullCommand(), func() error {
		c, err := newControl(&store, kind, kind == "upgrade")
		if err != nil {
			return err
		}
		return c.roll(kind, sig)
	}
}

func addScale(app *kingpin.Application) (string, command) {
	cmd := app.Command("scale", "Change the number of workers and wait until that many are ready.")
	var store storeFlags
	var n scaleTarget
	store.addControlled(cmd)
	cmd.Arg("workers", "How many there shall be.").Required().SetValue(&n)
	return cmd.FullCommand(), func() error {
		c, err := newControl(&store, "scale "+n.String(), true)
		if err != nil {
			return err
		}
		return c.scale(int(n))
	}
}

func addStop(app *kingpin.Application) (string, command) {
	cmd := app.Command("stop", "Stop the master and its workers gracefully and wait until they have gone.")
	var store storeFlags
	store.addControlled(cmd)
	return cmd.FullCommand(), func() error {
		c, err := newControl(&store, "stop", true)
		if err != nil {
			return err
		}
		return c.stop()
	}
}

// control is one command's dealings with one master.
type control struct {
	store    string
	service  service
	status   master.Status // the last that was seen
	terminal bool          // standard output is one: it shows each step of each slot
	seen     []master.Slot
}

// newControl finds the master of the store that the flags name. If they name none and ask is set, it asks on a terminal
// whether the one that it found is meant. verb is the command, as it is typed.
func newControl(store *storeFlags, verb string, ask bool) (*control, error) {
	path, named, err := store.find(verb)
	if err != nil {
		return nil, err
	}
	c := &control{store: path, terminal: isTerminal(os.Stdout)}
	if c.status, err = readStatus(path); err != nil {
		return nil, err
	}
	c.service = serviceOf(path, c.status.PID)
	if ask && !named {
		if err := confirm(verb, c.service); err != nil {
			return nil, err
		}
	}
	c.seen = c.status.Slots
	start := time.Now()
	err = c.follow(func(s master.Status) (bool, error) {
		switch {
		case !s.Started.IsZero() && s.Workers == 0:
			// Most programs die of a HUP.
			return true, fmt.Errorf("process %d has the store %s and supervises no workers: it is steered by its own server's "+
				"means", s.PID, path)
		case s.Started.IsZero() && time.Since(start) > beginsWithin && full(path):
			return true, fmt.Errorf("master %d says nothing of itself, because the file system of %s is full: make space, or send "+
				"the signal to its pid (kill -HUP %[1]d for a reload)", s.PID, path)
		case s.Started.IsZero() && time.Since(start) > patience:
			return true, fmt.Errorf("master %d has started and says nothing of itself; its log says why", s.PID)
		}
		return !s.Started.IsZero(), nil
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (c *control) signal(sig syscall.Signal) error {
	if err := syscall.Kill(c.status.PID, sig); err != nil {
		return fmt.Errorf("signal to %s: %w", c.service, err)
	}
	return nil
}

const (
	pollEvery = 50 * time.Millisecond
	// beginsWithin is how long an idle master takes at most, in all likelihood, to begin what it is going to do.
	beginsWithin = 2 * time.Second
	// patience is how long a master may take to begin with what it was told while it has nothing else to do.
	patience = 15 * time.Second
)

// follow polls the status, shows what changed, and ends when done says so, or with its error. A master that went is
// errNoMaster.
func (c *control) follow(done func(master.Status) (bool, error)) error {
	pid := c.status.PID
	for {
		s, err := readStatus(c.store)
		if err == nil && s.PID != pid {
			err = fmt.Errorf("%w: %d has gone, %d runs on %s now", errNoMaster, pid, s.PID, c.store)
		}
		if err != nil {
			return err
		}
		c.show(s.Slots)
		c.seen, c.status = s.Slots, s
		if ok, err := done(s); ok || err != nil {
			return err
		}
		time.Sleep(pollEvery)
	}
}

// say prints a line, which names the service: the command may have found it by itself.
func (c *control) say(format string, args ...any) {
	fmt.Printf("%s: %s\n", c.service, fmt.Sprintf(format, args...))
}

// show prints what is new about the slots: on a terminal each step, otherwise a line for each worker that got ready.
func (c *control) show(slots []master.Slot) {
	for _, slot := range slots {
		known := slices.ContainsFunc(c.seen, func(o master.Slot) bool {
			return o.Slot == slot.Slot && o.PID == slot.PID && o.State == slot.State
		})
		if !known && (c.terminal || slot.State == "ready") {
			c.say("slot %d: pid %d %s", slot.Slot, slot.PID, slot.State)
		}
	}
}

// roll starts a rollout and waits for its end. One that runs already is not the one that was asked for: the master makes
// one more after it. A reload may be part of an upgrade that was asked for meanwhile.
func (c *control) roll(kind string, sig syscall.Signal) error {
	before, checking := 0, false
	if r := c.status.Rollout; r != nil {
		before = r.ID
		// What a reload asks of a master that is about to replace itself, the upgrade does.
		checking = kind == "reload" && r.Kind == "upgrade" && r.State == "running" && r.Done == 0
	}
	if err := c.signal(sig); err != nil {
		return err
	}
	c.say("%s asked for", kind)
	idle := time.Now()
	err := c.follow(func(s master.Status) (bool, error) {
		r := s.Rollout
		switch {
		case s.Queued != "", r != nil && r.State == "running":
			idle = time.Now()
		case r != nil && r.ID > before && r.State == "done" && (r.Kind == kind || r.Kind == "upgrade"):
			return true, nil
		case checking && r.ID == before && r.State == "done" && time.Since(idle) > beginsWithin:
			return true, nil
		case r != nil && r.ID > before && r.State == "abandoned" && r.Kind == kind:
			return true, fmt.Errorf("%s abandoned after %d of %d workers, the old ones go on: %s", kind, r.Done, r.Total, r.Error)
		case time.Since(idle) > patience:
			return true, fmt.Errorf("master %d did not begin the %s within %v; its log says why", s.PID, kind, patience)
		}
		return false, nil
	})
	if err != nil {
		return err
	}
	c.say("%s done: %d workers replaced", c.status.Rollout.Kind, c.status.Rollout.Done)
	return nil
}

func (c *control) stop() error {
	if err := c.signal(syscall.SIGTERM); err != nil {
		return err
	}
	pid := c.status.PID
	c.say("stopping")
	if err := c.follow(func(master.Status) (bool, error) { return false, nil }); !errors.Is(err, errNoMaster) {
		return err
	}
	c.say("stopped master %d", pid)
	return nil
}
