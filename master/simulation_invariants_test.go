package master

import (
	"maps"
	"slices"
	"syscall"
	"time"

	"github.com/onescrape/onescrape/master/internal/reuseport/simkernel"
	"github.com/onescrape/onescrape/worker/sdnotify"
)

// invariants hold after every step. Times are on the clock of awake.
type invariants struct {
	m         *simulated
	rollout   int       // the last one that was seen
	over      bool      // it is over
	began     time.Time // when it began
	mustEnd   int       // the rollout that must be abandoned
	op        operation
	same      time.Time         // since when there is that operation
	whole     time.Time         // when there were as many slots as wanted
	reload    time.Time         // since when a HUP waits; zero: none does
	fineFrom  time.Time         // since when new workers neither crash nor hang
	steered   time.Time         // when steering was on
	started   map[int]time.Time // when the last worker of a slot was started
	givenUp   map[int]time.Time // since when a slot is no more, and its sockets are open
	disturbed time.Time         // when something happened to the sockets that the master can only find by looking
}

// message keeps which rollouts must be abandoned: those whose new workers end with an error while they go on.
func (w *invariants) message(q *process, msg sdnotify.Message) {
	if r := w.m.s.Rollout; msg.Over && r != nil && r.State == running && q.rollout == r.ID && q.erred() {
		w.mustEnd = r.ID
	}
}

// signal: a healthy worker is not killed, and no rollout stops a worker before another one has been ready in its place.
func (w *invariants) signal(p *simProcess, sig syscall.Signal) {
	m := w.m
	if m.s.shutdown.phase != serving {
		return
	}
	q := m.s.processes[p.pid]
	switch {
	case sig == syscall.SIGKILL && p.healthy:
		m.fail("a healthy worker is killed: %d in slot %d, %s, cause %q", p.pid, p.slot, q.State, q.Cause)
	case sig == syscall.SIGTERM && slices.Contains([]string{"reload", "upgrade", recycle}, q.Cause):
		for _, o := range m.s.processes {
			if o != q && o.Slot == q.Slot && !o.ReadyAt.IsZero() {
				return
			}
		}
		m.fail("worker %d of slot %d is stopped for a %s, and no other has been ready in its place", p.pid, p.slot, q.Cause)
	}
}

// upgraded: the next program knows everything that the one before had.
func (w *invariants) upgraded(old *supervisor) {
	m := w.m
	for pid, p := range m.processes {
		if !p.reaped && m.s.processes[pid] == nil && !m.s.remnants.Has(pid) {
			m.fail("process %d is not handed over: %+v", pid, p)
		}
	}
	for pid, q := range m.s.processes {
		was := old.processes[pid]
		if was == nil || was.State != q.State || was.Cause != q.Cause || was.Slot != q.Slot || was.Killed != q.Killed {
			m.fail("process %d was %+v and is %+v", pid, was, q)
		}
	}
	if len(m.s.slots) != len(old.slots) {
		m.fail("there were %d slots and there are %d", len(old.slots), len(m.s.slots))
	}
	if m.s.Rollout == nil || m.s.Rollout.Kind != "upgrade" {
		m.fail("an upgrade is followed by rollout %+v", m.s.Rollout)
	}
	w.disturbed = m.awake()
}

func (w *invariants) check() {
	w.operations()
	w.steering()
	w.queues()
	w.status()
	w.descriptors()
	w.orphans()
}

// operations: each ends in a bounded time, and what was asked for is done.
func (w *invariants) operations() {
	m, s := w.m, w.m.s
	if r := s.Rollout; r != nil {
		if r.ID != w.rollout {
			w.rollout, w.began, w.over = r.ID, m.awake(), false
			m.seen.rollouts++
		}
		if r.State == running && m.awake().Sub(w.began) > time.Duration(r.Total+1)*time.Minute+15*time.Minute {
			m.fail("rollout %d takes %v", r.ID, m.awake().Sub(w.began))
		}
		if r.State == done && w.mustEnd == r.ID {
			m.fail("rollout %d is done, although a worker of it ended with an error", r.ID)
		}
		if r.State == abandoned && !w.over {
			m.seen.abandoned++
		}
		if r.State != running {
			ended := 0
			for _, n := range s.metrics.Totals().Rollouts {
				ended += int(n)
			}
			if ended != r.ID {
				m.fail("rollout %d is over, and the metrics have %d that are", r.ID, ended)
			}
		}
		if w.over && r.State == running {
			m.fail("rollout %d was over and goes on", r.ID)
		}
		w.over = r.State != running
	}
	if s.requests.op != w.op || s.requests.op == nil {
		w.op, w.same = s.requests.op, m.awake()
	}
	if m.awake().Sub(w.same) > 30*time.Minute {
		m.fail("operation %T takes %v", w.op, m.awake().Sub(w.same))
	}
	if len(s.slots) == s.Target {
		w.whole = m.awake()
	} else if m.awake().Sub(w.whole) > 40*time.Minute {
		m.fail("%d slots instead of %d for %v", len(s.slots), s.Target, m.awake().Sub(w.whole))
	}
	switch waits := s.requests.reload || s.Upgrade; {
	case !waits:
		w.reload = time.Time{}
	case w.reload.IsZero():
		w.reload = m.awake()
	case m.awake().Sub(w.reload) > 40*time.Minute:
		m.fail("a reload or an upgrade waits for %v", m.awake().Sub(w.reload))
	}
}

// lookTime is how long the master may take to see what others did to its sockets, and to mend it: it looks every second, a probe that
// failed is tried again after 30 s.
const lookTime = 35 * time.Second

// answered reports whether a slot accepts whose worker has a socket at the port.
func (m *simulated) answered(port int) bool {
	return slices.ContainsFunc(m.s.slots, func(sl *slot) bool {
		p := (*simProcess)(nil)
		if sl.accepts() {
			p = m.processes[sl.cur.PID]
		}
		return p != nil && slices.ContainsFunc(p.sockets, func(so *simkernel.Socket) bool { return so.Port == port })
	})
}

// steering: where a slot accepts, no connection goes to a socket in which nobody takes it or is about to.
func (w *invariants) steering() {
	m, s := w.m, w.m.s
	if s.sockets.Steering() == "on" {
		w.steered = m.awake()
	} else if m.awake().Sub(w.steered) > 5*time.Second { // it is tried again every second
		m.fail("steering is %s for %v", s.sockets.Steering(), m.awake().Sub(w.steered))
	}
	if s.sockets.Steering() != "on" || m.awake().Sub(w.disturbed) < lookTime {
		return
	}
	for _, port := range m.ports() {
		if !m.answered(port) {
			continue // whoever connects waits for the first worker that accepts
		}
		for _, so := range m.kernel.Targets(port) {
			taken := false
			for _, p := range m.processes {
				q := s.processes[p.pid]
				if !slices.Contains(p.sockets, so) || q == nil {
					continue
				}
				// Of one that has ended, or whose last words are on their way, the master cannot know yet.
				taken = taken || p.accepts || p.ended || q.State == draining || q.State == ready
			}
			for _, q := range s.processes {
				owner, own := m.owner[so]
				taken = taken || q.end.reaped && own && owner == q.Slot
			}
			if !taken {
				m.fail("connections to port %d go to socket %d, index %d, where nobody accepts", port, so.Inode, so.Index())
			}
		}
	}
}

// queues: connections that wait in the socket of a slot without a process get one soon, whatever the slot's backoff is. Where the
// machine has no room for a process, or there is no program, nobody can promise that.
func (w *invariants) queues() {
	m, s := w.m, w.m.s
	if m.injected.errors {
		return
	}
	given := make(map[int]bool) // slots that there are
	for _, sl := range s.slots {
		given[sl.number] = true
		waits := m.Now().Sub(sl.waits)
		if sl.empty() && !sl.retiring && !sl.waits.IsZero() && waits > 2*time.Second && m.waitsIn(sl.number) > 2*time.Second {
			m.fail("connections wait in slot %d for %v without a process", sl.number, waits)
		}
	}
	// A slot is given up when nothing waits in its socket, unless its workers neither answer nor end, and another one was tried.
	closing := s.sockets.Closing()
	maps.DeleteFunc(w.givenUp, func(number int, _ time.Time) bool { return !slices.Contains(closing, number) })
	for _, number := range closing {
		if _, ok := w.givenUp[number]; !ok {
			w.givenUp[number] = m.awake()
		}
		waits := m.waitsIn(number)
		since := m.awake().Add(-waits)
		if waits == 0 || given[number] || since.After(w.givenUp[number]) {
			continue
		}
		if m.fine() && since.After(w.fineFrom.Add(time.Minute)) || w.started[number].Before(since) {
			m.fail("slot %d was given up with connections in its socket", number)
		}
	}
}

// waitsIn returns for how long somebody has waited in the sockets of a slot; 0: nobody waits. At an address that was given up nobody is
// answered any more.
func (m *simulated) waitsIn(number int) (longest time.Duration) {
	if len(m.clients.oldest) == 0 {
		return 0
	}
	for so, since := range m.clients.oldest {
		if owner, own := m.owner[so]; own && owner == number && slices.Contains(m.ports(), so.Port) {
			longest = max(longest, m.awake().Sub(since))
		}
	}
	return longest
}

// status tells the truth.
func (w *invariants) status() {
	m, s := w.m, w.m.s
	st := s.announcer.published.Load()
	if len(st.Slots) != len(s.slots) || st.Workers != s.Target {
		m.fail("the status has %d slots and %d workers; there are %d and %d", len(st.Slots), st.Workers, len(s.slots), s.Target)
	}
	for i, sl := range st.Slots {
		if sl.State == ready && m.processes[sl.PID] == nil {
			m.fail("slot %d is ready by process %d, which there is not", i, sl.PID)
		}
	}
}

// orphans: where the master is process 1, it reaps what nobody else does.
func (w *invariants) orphans() {
	for pid, since := range w.m.orphans {
		if waits := w.m.awake().Sub(since); waits > 5*time.Second {
			w.m.fail("orphan %d has been a zombie for %v", pid, waits)
		}
	}
}

// descriptors: the master has those of its slots' sockets, and one for each process that it has not done with.
func (w *invariants) descriptors() {
	m, s := w.m, w.m.s
	if have, want := m.kernel.Descriptors(), len(s.sockets.Inodes()); have != want {
		m.fail("the master has %d sockets, of which it knows %d", have, want)
	}
	slots := len(s.slots) + len(s.sockets.Closing())
	if have, most := m.kernel.Descriptors(), slots*len(m.ports()); have > most && !s.sockets.Removed() {
		m.fail("the master has %d sockets for %d slots", have, slots)
	}
	if have, want := len(m.receivers), len(s.processes); have != want {
		m.fail("the master has %d notify sockets for %d processes", have, want)
	}
}
