// Package leftovers stops what a master that was killed has left behind: processes that still have its sockets.
package leftovers

import (
	"encoding/json"
	"log/slog"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/onescrape/onescrape/master/internal/proc"
)

// Possessions are what a master has and what would stay behind if it were killed. They are kept in the store for the next
// master, which stops the processes that still have one of the sockets.
type Possessions struct {
	Boot      string    `json:"boot_id"`
	Sockets   []uint64  `json:"sockets"` // inodes of the listening sockets, but not of those from systemd
	Processes []proc.ID `json:"processes"`
}

// Read returns what the last master had since this machine was started, from the status that it left; nil when that is unknown.
func Read(status []byte) *Possessions {
	var kept struct {
		Possessions *Possessions `json:"possessions"`
	}
	if json.Unmarshal(status, &kept) != nil || kept.Possessions == nil || kept.Possessions.Boot != proc.BootID || proc.BootID == "" {
		return nil
	}
	return kept.Possessions
}

// LateGrace is how long after the graceful timeout the workers of the last master are still waited for: nobody kills them.
const LateGrace = 5 * time.Second

// Stopper stops leftovers.
type Stopper struct {
	Log             *slog.Logger
	GracefulTimeout time.Duration
	Signal          syscall.Signal              // what workers understand as a graceful stop
	Pause           func(d time.Duration) error // waits; an error ends the start
}

// leftover is a process that the last master has left behind and that has one of its sockets.
type leftover struct {
	proc.Holder
	handle  processHandle
	worker  bool
	stopAt  time.Time // when it was told to stop
	killed  bool
	foreign bool // another user's, and no worker: this master does not stop it
}

// poll is how often a Stopper looks for processes that still have a socket of the last master.
const poll = 100 * time.Millisecond

// Stop stops the processes that have sockets of the last master. That master is gone, because this one has its
// lock, and nobody else would stop them. It stops the last master's workers, of any user, and other processes of this user.
// It returns when none is left, or when the time is over in which they must have ended.
func (s Stopper) Stop(last *Possessions) error {
	if last == nil {
		return nil
	}
	inodes := proc.StillListening(last.Sockets)
	if len(inodes) == 0 {
		return nil
	}
	found := make(map[int]*leftover)
	defer func() {
		for _, l := range found {
			l.handle.close()
		}
	}()
	deadline := time.Now().Add(s.GracefulTimeout + LateGrace)
	for {
		left := false
		for _, h := range proc.Holders(inodes) {
			l := found[h.PID]
			if l == nil || l.Start != h.Start {
				l = s.newLeftover(h, last, inodes)
				found[h.PID] = l
			}
			s.urge(l)
			left = left || !l.foreign
		}
		if !left {
			return nil
		}
		if time.Now().After(deadline) {
			s.Log.Error("processes that the last master has left behind do not end")
			return nil
		}
		if err := s.Pause(poll); err != nil {
			return err
		}
	}
}

// newLeftover decides about a process that has a socket of the last master.
func (s Stopper) newLeftover(h proc.Holder, last *Possessions, inodes proc.Inodes) *leftover {
	l := &leftover{Holder: h}
	l.worker = slices.Contains(last.Processes, h.ID)
	ours := l.worker || proc.OwnUser(h.PID)
	if !ours || h.PID == 1 || h.PID == os.Getppid() {
		l.foreign = true
		s.Log.Warn("a process has a socket of the last master and is no worker and not this user's: it goes on", "pid", h.PID,
			"command", h.Name)
		return l
	}
	l.handle = openProcess(h.PID)
	// The handle is for whatever has the pid now: the same process still?
	if proc.Start(h.PID) != h.Start || len(proc.Held(h.PID, inodes)) == 0 {
		l.foreign = true
	}
	return l
}

// urge tells a leftover to stop, and kills it after the graceful timeout.
func (s Stopper) urge(l *leftover) {
	now := time.Now()
	switch {
	case l.foreign || l.killed:
	case l.stopAt.IsZero():
		l.stopAt = now
		s.Log.Warn("a process that the last master has left behind has its sockets: it is told to stop", "pid", l.PID,
			"command", l.Name, "worker", l.worker)
		sig := syscall.SIGTERM
		if l.worker {
			sig = s.Signal
		}
		l.handle.signal(sig)
	case now.Sub(l.stopAt) >= s.GracefulTimeout:
		l.killed = true
		s.Log.Warn("a process that the last master has left behind did not stop in time and is killed", "pid", l.PID,
			"command", l.Name)
		l.handle.signal(syscall.SIGKILL)
	}
}
