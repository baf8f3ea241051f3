package master

import (
	"cmp"
	"encoding/json"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/onescrape/onescrape/master/internal/proc"
	"github.com/onescrape/onescrape/master/internal/reuseport"
)

// possessions are what the master has and what would stay behind if it were killed. They are kept in the store for the next
// master, which stops the processes that still have one of the sockets.
type possessions struct {
	Boot      string    `json:"boot_id"`
	Sockets   []uint64  `json:"sockets"` // inodes of the listening sockets, but not of those from systemd
	Processes []proc.ID `json:"processes"`
}

func (s *supervisor) possessions() *possessions {
	out := &possessions{Boot: proc.BootID, Sockets: []uint64{}, Processes: []proc.ID{}}
	for _, groups := range [...][]*reuseport.Group{s.groups, s.removedAddresses} {
		for _, g := range groups {
			if g.Network != "inherited" {
				out.Sockets = append(out.Sockets, g.Inodes()...)
			}
		}
	}
	for _, p := range s.processes {
		out.Processes = append(out.Processes, proc.ID{PID: p.pid, Start: p.start})
	}
	slices.SortFunc(out.Processes, func(a, b proc.ID) int { return cmp.Compare(a.PID, b.PID) })
	return out
}

// readPossessions returns what the last master had since this machine was started; nil when that is unknown.
func readPossessions(status []byte) *possessions {
	var kept struct {
		Possessions *possessions `json:"possessions"`
	}
	if json.Unmarshal(status, &kept) != nil || kept.Possessions == nil || kept.Possessions.Boot != proc.BootID || proc.BootID == "" {
		return nil
	}
	return kept.Possessions
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

// leftoverPoll is how often the master looks for processes that still have a socket of the last master.
const leftoverPoll = 100 * time.Millisecond

// stopPredecessors stops the processes that have sockets of the last master. That master is gone, because this one has its
// lock, and nobody else would stop them. It stops the last master's workers, of any user, and other processes of this user.
// It returns when none is left, or when the time is over in which they must have ended.
func (s *supervisor) stopPredecessors() error {
	if s.predecessor == nil {
		return nil
	}
	inodes := proc.StillListening(s.predecessor.Sockets)
	if len(inodes) == 0 {
		return nil
	}
	found := make(map[int]*leftover)
	defer func() {
		for _, l := range found {
			l.handle.close()
		}
	}()
	deadline := time.Now().Add(s.cfg.GracefulTimeout + lateGrace)
	for {
		left := false
		for _, h := range proc.Holders(inodes) {
			l := found[h.PID]
			if l == nil || l.Start != h.Start {
				l = s.newLeftover(h, inodes)
				found[h.PID] = l
			}
			s.urge(l)
			left = left || !l.foreign
		}
		if !left {
			return nil
		}
		if time.Now().After(deadline) {
			s.log.Error("processes that the last master has left behind do not end")
			return nil
		}
		if err := s.pauseStart(leftoverPoll); err != nil {
			return err
		}
	}
}

// newLeftover decides about a process that has a socket of the last master.
func (s *supervisor) newLeftover(h proc.Holder, inodes proc.Inodes) *leftover {
	l := &leftover{Holder: h}
	l.worker = slices.Contains(s.predecessor.Processes, h.ID)
	ours := l.worker || proc.OwnUser(h.PID)
	if !ours || h.PID == 1 || h.PID == os.Getppid() {
		l.foreign = true
		s.log.Warn("a process has a socket of the last master and is no worker and not this user's: it goes on", "pid", h.PID,
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
func (s *supervisor) urge(l *leftover) {
	now := time.Now()
	switch {
	case l.foreign || l.killed:
	case l.stopAt.IsZero():
		l.stopAt = now
		s.log.Warn("a process that the last master has left behind has its sockets: it is told to stop", "pid", l.PID,
			"command", l.Name, "worker", l.worker)
		sig := syscall.SIGTERM
		if l.worker {
			sig = s.cfg.stopSignal()
		}
		l.handle.signal(sig)
	case now.Sub(l.stopAt) >= s.cfg.GracefulTimeout:
		l.killed = true
		s.log.Warn("a process that the last master has left behind did not stop in time and is killed", "pid", l.PID,
			"command", l.Name)
		l.handle.signal(syscall.SIGKILL)
	}
}

// pauseStart waits during a start; it is an error when the master is told to stop meanwhile.
func (s *supervisor) pauseStart(d time.Duration) error {
	select {
	case sig := <-s.signals:
		if sig == syscall.SIGTERM || sig == syscall.SIGINT || sig == syscall.SIGQUIT {
			s.signals <- sig // for whoever goes on nevertheless
			return errStopped
		}
	case <-time.After(d):
	}
	return nil
}
