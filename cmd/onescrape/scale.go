package main

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/onescrape/onescrape/master"
)

// scale changes the target one by one, because two signals of a kind can arrive as one, and waits until that many
// workers are ready and nobody else is left. Of two that run at once the one that was started later wins.
func (c *control) scale(n int) error {
	order, err := newScaleOrder(c.store, n)
	if err != nil {
		return err
	}
	defer order.file.Close()
	from := c.status.Workers
	for c.status.Workers != n {
		if err := order.hold(func() error { return c.scaleByOne(n) }); err != nil {
			return err
		}
	}
	if err := c.follow(func(s master.Status) (bool, error) {
		if err := order.hold(func() error { return nil }); err != nil {
			return true, err
		}
		return scaled(s, n)
	}); err != nil {
		return err
	}
	c.say("scaled from %d to %d workers", from, n)
	return nil
}

// scaleByOne brings the target one worker closer to n, if it is not there yet.
func (c *control) scaleByOne(n int) error {
	var err error
	if c.status, err = readStatus(c.store); err != nil {
		return err
	}
	sig, before := syscall.SIGTTIN, c.status.Workers
	switch {
	case n == before:
		return nil
	case n < before:
		sig = syscall.SIGTTOU
	}
	if err := c.signal(sig); err != nil {
		return err
	}
	start := time.Now()
	return c.follow(func(s master.Status) (bool, error) {
		if s.Workers == before && time.Since(start) > patience {
			return true, fmt.Errorf("master %d stays at %d workers; its log says why", s.PID, before)
		}
		return s.Workers != before, nil
	})
}

// scaled reports whether n workers are ready and nobody else is left, or why that will not be.
func scaled(s master.Status, n int) (bool, error) {
	switch {
	case s.Workers != n:
		return true, fmt.Errorf("the number of workers was changed to %d meanwhile, by a signal or because there cannot be more; "+
			"the log of master %d says which", s.Workers, s.PID)
	case s.Shortage != "":
		return true, fmt.Errorf("there are %d of %d workers, and the next one is tried again: %s", len(s.Slots), n, s.Shortage)
	case len(s.Slots) == 0:
		return true, fmt.Errorf("there are to be %d workers now, too many for the store to say how they are: %s has it", n,
			"/api/v1/status")
	}
	ready := 0
	for _, slot := range s.Slots {
		switch slot.State {
		case "ready":
			ready++
		case "failed", "backoff":
			if slot.LastExit == "" {
				continue // a slot that is new, and about to start
			}
			return true, fmt.Errorf("slot %d: %s", slot.Slot, slot.LastExit)
		}
	}
	return ready == n && len(s.Slots) == n, nil
}

// scaleOrder is what one scale command wants, in a file of the store that the next such command overwrites. The file is locked
// while somebody reads or writes it or changes the number of workers, so that no two do.
type scaleOrder struct {
	file *os.File
	text []byte // the number and a word by chance
}

const scaleFile = "scale"

func newScaleOrder(store string, n int) (*scaleOrder, error) {
	// Whoever may write to the store may write to it: the master's user, and root on its behalf.
	f, err := os.OpenFile(filepath.Join(store, scaleFile), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("scale: %w", err)
	}
	o := &scaleOrder{file: f, text: fmt.Appendf(nil, "%d %s\n", n, rand.Text())}
	err = o.locked(func() error {
		if info, err := os.Stat(store); err == nil && os.Geteuid() == 0 {
			st := info.Sys().(*syscall.Stat_t)
			f.Chown(int(st.Uid), int(st.Gid))
		}
		if err := f.Truncate(0); err != nil {
			return err
		}
		_, err := f.WriteAt(o.text, 0)
		return err
	})
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("scale: %w", err)
	}
	return o, nil
}

// hold runs f while no other scale command does anything, or returns an error when a later one has taken over.
func (o *scaleOrder) hold(f func() error) error {
	return o.locked(func() error {
		last := make([]byte, 64)
		n, _ := o.file.ReadAt(last, 0)
		if last = last[:n]; !bytes.Equal(last, o.text) {
			number, _, _ := bytes.Cut(last, []byte(" "))
			return fmt.Errorf("superseded by scale %s", number)
		}
		return f()
	})
}

func (o *scaleOrder) locked(f func() error) error {
	for {
		switch err := syscall.Flock(int(o.file.Fd()), syscall.LOCK_EX); err {
		case nil:
			defer syscall.Flock(int(o.file.Fd()), syscall.LOCK_UN)
			return f()
		case syscall.EINTR:
		default:
			return fmt.Errorf("lock %s: %w", o.file.Name(), err)
		}
	}
}
