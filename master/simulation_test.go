package master

import (
	"container/heap"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/master/internal/proc"
	"github.com/onescrape/onescrape/master/internal/release"
	"github.com/onescrape/onescrape/master/internal/reuseport"
	"github.com/onescrape/onescrape/master/internal/system"
	"github.com/onescrape/onescrape/worker/sdnotify"
)

// The supervisor runs against a machine that is simulated: its clock, its processes and its sockets exist in memory only, and
// everything that happens follows from a seed. So a million events take seconds, and each run can be repeated.

// simulated is the machine. It implements system.System. Everything happens in one goroutine.
type simulated struct {
	s      *supervisor
	random *rand.Rand
	now    time.Time
	events eventQueue
	order  int // of events at one time

	processes map[int]*simProcess
	sockets   map[int]*simSocket // by descriptor
	receivers map[string]*simReceiver
	group     *simGroup
	lastPID   int
	lastFD    int
	lastName  int
	mustEnd   int // the rollout that must be abandoned

	steps    int           // how many events there were
	paused   time.Duration // for how long the master did not run
	weather  weather
	fineFrom time.Time // since when no worker crashes or hangs by chance, without the pauses
	injected faults
	seen     counts
	broken   string   // the first invariant that does not hold
	history  []string // the last events, for a failure
}

// weather is how well workers do at the moment.
type weather struct{ crash, hang float64 }

// faults are what goes wrong on purpose.
type faults struct {
	errors   bool // calls fail for want of something
	helpers  bool // what a worker has started keeps its sockets after its end
	pauses   bool // the master does not run for a while
	watchdog bool // the master expects WATCHDOG=1
}

// counts is what has happened, so that a run that tests nothing does not pass.
type counts struct{ starts, ready, rollouts, abandoned, connections, kills, pauses int }

type event struct {
	at    time.Time
	order int
	what  string
	do    func()
}

type eventQueue []event

func (q eventQueue) Len() int { return len(q) }
func (q eventQueue) Less(i, j int) bool {
	return q[i].at.Before(q[j].at) || q[i].at.Equal(q[j].at) && q[i].order < q[j].order
}
func (q eventQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *eventQueue) Push(x any)   { *q = append(*q, x.(event)) }
func (q *eventQueue) Pop() any {
	last := len(*q) - 1
	e := (*q)[last]
	*q = (*q)[:last]
	return e
}

// simProcess is a worker. A healthy one is ready in time, beats, and ends in time when it is told to.
type simProcess struct {
	pid, slot   int
	fd          int // of its socket
	receiver    *simReceiver
	accepts     bool
	ended       bool
	reaped      bool
	status      syscall.WaitStatus
	healthy     bool
	ignoresTERM bool // a hung one does
	drain       time.Duration
	helper      bool // something that it has started holds its socket
}

// simSocket is a listening socket. It exists while somebody has it.
type simSocket struct {
	fd     int
	inode  uint64
	slot   int
	own    bool // the master has it
	queue  int  // connections that wait
	oldest time.Time
}

// simGroup is the one address.
type simGroup struct {
	m       *simulated
	slots   map[int]int // descriptors
	steered []int       // slots
}

// simReceiver is a notify socket. What its worker says reaches the supervisor in order, a little later.
type simReceiver struct {
	m     *simulated
	name  string
	until time.Time // when the last message arrives
}

// say keeps an event for the history of a failure.
func (m *simulated) say(format string, args ...any) {
	if len(m.history) == 100 {
		m.history = m.history[1:]
	}
	m.history = append(m.history, m.now.Format("15:04:05.000000 ")+fmt.Sprintf(format, args...))
}

// fail notes the first invariant that does not hold.
func (m *simulated) fail(format string, args ...any) {
	if m.broken == "" {
		m.broken = fmt.Sprintf(format, args...)
		m.say("BROKEN: %s", m.broken)
	}
}

func (m *simulated) after(d time.Duration, what string, do func()) {
	m.order++
	heap.Push(&m.events, event{m.now.Add(d), m.order, what, do})
}

// awake is the time without the pauses of the master, for which it is not to blame.
func (m *simulated) awake() time.Time { return m.now.Add(-m.paused) }

func (m *simulated) chance(p float64) bool { return m.random.Float64() < p }

func (m *simulated) between(a, b time.Duration) time.Duration {
	return a + time.Duration(m.random.Int64N(int64(b-a)+1))
}

// shortage returns one of the errors that a call gives for want of something, if errors are injected.
func (m *simulated) shortage(p float64) error {
	if !m.injected.errors || !m.chance(p) {
		return nil
	}
	return []syscall.Errno{syscall.EAGAIN, syscall.EMFILE, syscall.ENOMEM, syscall.ENFILE}[m.random.IntN(4)]
}

// What follows implements system.System.

func (m *simulated) Now() time.Time  { return m.now }
func (m *simulated) Random() float64 { return m.random.Float64() }

func (m *simulated) Go(f func()) {
	m.after(m.between(0, 50*time.Millisecond), "background", func() {
		f()
		(<-m.s.loop.Finished())()
	})
}

func (m *simulated) Start(c system.Command) (int, error) {
	if err := m.shortage(.02); err != nil {
		return 0, err
	}
	env := make(map[string]string)
	for _, e := range c.Env {
		key, value, _ := strings.Cut(e, "=")
		env[key] = value
	}
	slot, err := strconv.Atoi(env["ONESCRAPE_SLOT"])
	if err != nil {
		m.fail("a worker without a slot: %v", c.Env)
	}
	m.lastPID++
	p := &simProcess{pid: m.lastPID, slot: slot, fd: int(c.Files[3]), drain: m.between(0, 500*time.Millisecond),
		ignoresTERM: m.chance(.02)}
	if so := m.sockets[p.fd]; so == nil || so.slot != slot {
		m.fail("the worker of slot %d got descriptor %d, which is %+v", slot, p.fd, so)
	}
	if p.receiver = m.receivers[env["NOTIFY_SOCKET"]]; p.receiver == nil {
		m.fail("a worker without a notify socket: %v", c.Env)
	}
	m.processes[p.pid] = p
	m.seen.starts++
	m.say("start %d in slot %d", p.pid, slot)
	m.live(p)
	return p.pid, nil
}

// live decides what becomes of a worker.
func (m *simulated) live(p *simProcess) {
	switch {
	case m.chance(m.weather.crash):
		m.after(m.between(0, 300*time.Millisecond), "crash", func() { m.exit(p, 1<<8) })
		return
	case m.chance(m.weather.hang):
		return
	}
	p.healthy = !p.ignoresTERM
	dies := m.chance(.1)
	start := m.between(time.Millisecond, 2*time.Second)
	if m.chance(.01) { // READY=1 comes in time and arrives after it
		start = m.s.cfg.ReadyTimeout - m.between(time.Millisecond, 10*time.Millisecond)
	}
	m.after(start, "ready", func() {
		if p.ended {
			return
		}
		p.accepts = true
		m.seen.ready++
		m.tell(p, "READY", "1")
		m.accept(p)
		m.beat(p)
		if dies {
			m.after(m.between(0, 90*time.Second), "die", func() { m.exit(p, 9) })
		}
	})
}

func (m *simulated) beat(p *simProcess) {
	if m.injected.watchdog && !p.ended {
		m.tell(p, "WATCHDOG", "1")
		m.after(5*time.Second, "beat", func() { m.beat(p) })
	}
}

// tell is what a worker says.
func (m *simulated) tell(p *simProcess, key, value string) {
	if !p.ended {
		p.receiver.deliver(sdnotify.Message{Fields: map[string]string{key: value}})
	}
}

// deliver passes a message on, after all that were sent before.
func (r *simReceiver) deliver(msg sdnotify.Message) {
	at := r.m.now.Add(r.m.between(0, 20*time.Millisecond))
	if at.Before(r.until) {
		at = r.until
	}
	r.until = at
	r.m.after(at.Sub(r.m.now), "message", func() {
		if q := r.process(); q != nil {
			r.m.noteFailure(q, msg)
			r.m.s.handle(message{q, msg})
		}
	})
}

// noteFailure keeps which rollouts must be abandoned: those whose new workers end with an error while they go on.
func (m *simulated) noteFailure(q *process, msg sdnotify.Message) {
	if r := m.s.Rollout; msg.Over && r != nil && r.State == running && q.rollout == r.ID && q.erred() {
		m.mustEnd = r.ID
	}
}

// accept takes what waits in a worker's socket.
func (m *simulated) accept(p *simProcess) {
	if so := m.sockets[p.fd]; so != nil {
		so.queue = 0
	}
}

// exit ends a process. What it has started may hold its socket for a while.
func (m *simulated) exit(p *simProcess, status syscall.WaitStatus) {
	if p.ended {
		return
	}
	p.ended, p.accepts, p.status = true, false, status
	m.say("end of %d in slot %d: %#x", p.pid, p.slot, uint32(status))
	if p.helper = m.injected.helpers && m.chance(.05); p.helper {
		m.after(m.between(0, 90*time.Second), "helper ends", func() {
			p.helper = false
			m.collect()
		})
	}
	m.collect()
	m.s.reap()
}

// has reports whether a process, or what it has started, has a socket.
func (p *simProcess) has(fd int) bool { return p.fd == fd && (!p.ended || p.helper) }

// collect removes sockets that nobody has. What waits in one is reset.
func (m *simulated) collect() {
	for fd, so := range m.sockets {
		if so.own {
			continue
		}
		if !m.held(fd) {
			if so.queue > 0 {
				m.fail("%d connections in the socket of slot %d are reset", so.queue, so.slot)
			}
			delete(m.sockets, fd)
		}
	}
}

func (m *simulated) held(fd int) bool {
	for _, p := range m.processes {
		if p.has(fd) {
			return true
		}
	}
	return false
}

func (m *simulated) Signal(pid int, sig syscall.Signal) {
	p := m.processes[pid]
	if p == nil || p.reaped {
		m.fail("signal %v to process %d, which is reaped", sig, pid)
		return
	}
	switch {
	case p.ended:
	case sig == syscall.SIGKILL:
		m.seen.kills++
		if q := m.s.processes[pid]; p.healthy && m.s.shutdown.phase == serving {
			m.fail("a healthy worker is killed: %d in slot %d, %s, cause %q", pid, p.slot, q.State, q.Cause)
		}
		m.after(0, "killed", func() { m.exit(p, 9) })
	case (sig == syscall.SIGTERM || sig == syscall.SIGINT) && !p.ignoresTERM:
		m.after(m.between(0, 50*time.Millisecond), "drain", func() {
			if !p.ended {
				m.accept(p)
				p.accepts = false
				m.after(p.drain, "drained", func() { m.exit(p, 0) })
			}
		})
	}
}

func (m *simulated) SignalGroup(pgid int, sig syscall.Signal) {
	if p := m.processes[pgid]; p != nil && p.helper {
		m.after(m.between(0, time.Second), "helper ends by a signal", func() {
			p.helper = false
			m.collect()
		})
	}
}

func (m *simulated) Ended(pid int, leads bool) (syscall.WaitStatus, bool) {
	p := m.processes[pid]
	if p == nil {
		return 0, true
	}
	return p.status, p.ended
}

func (m *simulated) Reap(pid int) {
	if p := m.processes[pid]; p == nil || !p.ended || p.reaped {
		m.fail("process %d is reaped: %+v", pid, p)
	} else {
		p.reaped = true
		if !p.helper {
			delete(m.processes, pid)
		}
	}
}

func (m *simulated) LeadsGroup(int) bool      { return true }
func (m *simulated) StartTime(pid int) uint64 { return uint64(pid) }
func (m *simulated) Children(int) []int       { return nil }
func (m *simulated) Zombies(int) []int        { return nil }

func (m *simulated) GroupHolders(pgid int, sockets proc.Inodes) []int {
	p := m.processes[pgid]
	if p == nil || !p.helper {
		return nil
	}
	if so := m.sockets[p.fd]; so != nil && sockets[so.inode] {
		return []int{pgid + 1_000_000}
	}
	return nil
}

func (m *simulated) SocketHolders(sockets proc.Inodes) map[uint64][]proc.Holder {
	out := make(map[uint64][]proc.Holder)
	for fd, so := range m.sockets {
		if sockets[so.inode] && m.held(fd) {
			out[so.inode] = append(out[so.inode], proc.Holder{Name: "sim"})
		}
	}
	return out
}

func (m *simulated) OpenGroup(reuseport.Address) (system.Group, error)  { return m.group, nil }
func (m *simulated) InheritGroup(string, int) (system.Group, error)     { panic("not simulated") }
func (m *simulated) AdoptGroup(reuseport.State) (system.Group, error)   { panic("not simulated") }
func (m *simulated) AdoptReceiver(int, string) (system.Receiver, error) { panic("not simulated") }
func (m *simulated) ResolveDir(dir string) (string, error)              { return dir, nil }
func (m *simulated) Exists(string) bool                                 { return true }
func (m *simulated) Identify(path string) (release.File, string, error) {
	return release.File{Inode: 1}, path, nil
}
func (m *simulated) FindProgram([]string, string) (release.Program, error) {
	return release.Program{Path: "/app", Args: []string{"app"}}, nil
}

func (m *simulated) NewReceiver() (system.Receiver, error) {
	if err := m.shortage(.01); err != nil {
		return nil, err
	}
	m.lastName++
	r := &simReceiver{m: m, name: "sim/" + strconv.Itoa(m.lastName)}
	m.receivers[r.name] = r
	return r, nil
}

// What follows implements system.Receiver.

func (r *simReceiver) Name() string                     { return r.name }
func (r *simReceiver) Start()                           {}
func (r *simReceiver) Run(int, func(sdnotify.Message))  {}
func (r *simReceiver) Control(func(fd int) error) error { return nil }
func (r *simReceiver) Close()                           { delete(r.m.receivers, r.name) }
func (r *simReceiver) process() *process {
	for _, q := range r.m.s.processes {
		if q.notify.Name() == r.name {
			return q
		}
	}
	return nil
}

func (r *simReceiver) Look() uint32 {
	r.m.order++
	number := uint32(r.m.order)
	r.deliver(sdnotify.Message{Answered: number})
	return number
}

func (r *simReceiver) Finish() { r.deliver(sdnotify.Message{Over: true}) }

// What follows implements system.Group.

func (g *simGroup) Where() string     { return "sim:80" }
func (g *simGroup) Spec() string      { return "sim:80" }
func (g *simGroup) FDName() string    { return "unknown" }
func (g *simGroup) IsTCP() bool       { return true }
func (g *simGroup) IsInherited() bool { return false }
func (g *simGroup) Sharing() string   { return "" }

func (g *simGroup) Add(slot int) error {
	if err := g.m.shortage(.03); err != nil {
		return fmt.Errorf("open a socket: %w", err)
	}
	if g.Has(slot) {
		g.m.fail("slot %d gets a second socket", slot)
	}
	g.m.lastFD++
	fd := g.m.lastFD
	g.m.sockets[fd] = &simSocket{fd: fd, inode: uint64(fd) + 5000, slot: slot, own: true}
	g.slots[slot] = fd
	return nil
}

func (g *simGroup) Has(slot int) bool {
	_, ok := g.slots[slot]
	return ok
}

func (g *simGroup) FD(slot int) int {
	if fd, ok := g.slots[slot]; ok {
		return fd
	}
	return -1
}

func (g *simGroup) Inode(slot int) (uint64, bool) {
	if fd, ok := g.slots[slot]; ok {
		return g.m.sockets[fd].inode, true
	}
	return 0, false
}

func (g *simGroup) Inodes() (out []uint64) {
	for _, fd := range g.slots {
		out = append(out, g.m.sockets[fd].inode)
	}
	slices.Sort(out)
	return out
}

func (g *simGroup) Intact(slot int) bool { return true }

func (g *simGroup) Remove(slot int) {
	fd, ok := g.slots[slot]
	if !ok {
		return
	}
	delete(g.slots, slot)
	g.m.sockets[fd].own = false
	if g.m.held(fd) {
		g.m.fail("the socket of slot %d is closed while another process has it: its place in the kernel's group stays", slot)
	}
	g.m.collect()
}

func (g *simGroup) RemoveSteered(slot int, accepts func(int) bool) {
	g.Steer(func(s int) bool { return s != slot && accepts(s) })
	g.Remove(slot)
}

func (g *simGroup) Steer(accepts func(int) bool) error {
	if err := g.m.shortage(.02); err != nil {
		return err
	}
	var ready []int
	for slot := range g.slots {
		if accepts(slot) {
			ready = append(ready, slot)
		}
	}
	if len(ready) > 0 {
		slices.Sort(ready)
		g.steered = ready
	}
	return nil
}

func (g *simGroup) Compare() (bool, error) { return false, nil }
func (g *simGroup) Strangers() []uint64    { return nil }

func (g *simGroup) Queued(slot int) bool {
	fd, ok := g.slots[slot]
	return ok && g.m.sockets[fd].queue > 0
}

func (g *simGroup) Handshakes() []reuseport.Handshake         { return nil }
func (g *simGroup) Reconfigure(reuseport.Address) error       { return nil }
func (g *simGroup) State(func(int) int) (out reuseport.State) { return out }
func (g *simGroup) Close() {
	for slot := range g.slots {
		delete(g.slots, slot)
	}
}

// connect is a client's connection: it goes to a slot that the program names, or to any when there is none yet.
func (m *simulated) connect() {
	m.seen.connections++
	open := slices.Sorted(maps.Keys(m.group.slots))
	targets := slices.DeleteFunc(slices.Clone(m.group.steered), func(slot int) bool { return !m.group.Has(slot) })
	if len(targets) == 0 {
		targets = open // without a program, or where it names no socket, the kernel chooses
	}
	if len(targets) == 0 {
		return
	}
	fd := m.group.slots[targets[m.random.IntN(len(targets))]]
	so := m.sockets[fd]
	for _, p := range m.processes {
		if p.has(fd) && p.accepts {
			return
		}
	}
	if so.queue == 0 {
		so.oldest = m.awake()
	}
	so.queue++
}

// fine reports whether workers neither crash at their start nor hang.
func (m *simulated) fine() bool { return m.weather == weather{} }

// command is what operators, clients and accidents do.
func (m *simulated) command() {
	s := m.s
	running := func() (out []*simProcess) {
		for _, p := range m.processes {
			if !p.ended {
				out = append(out, p)
			}
		}
		slices.SortFunc(out, func(a, b *simProcess) int { return a.pid - b.pid })
		return out
	}()
	pick := func() *simProcess {
		if len(running) == 0 {
			return nil
		}
		return running[m.random.IntN(len(running))]
	}
	switch n := m.random.IntN(100); {
	case n < 12:
		m.say("HUP")
		s.signaled(syscall.SIGHUP)
	case n < 22 && s.Target < 12:
		m.say("TTIN")
		s.signaled(syscall.SIGTTIN)
	case n < 32:
		m.say("TTOU")
		s.signaled(syscall.SIGTTOU)
	case n < 36:
		m.say("USR1")
		s.signaled(syscall.SIGUSR1)
	case n < 46:
		if p := pick(); p != nil {
			m.say("KILL from outside to %d", p.pid)
			m.exit(p, 9)
		}
	case n < 54:
		if p := pick(); p != nil && p.accepts {
			m.say("TERM from outside to %d", p.pid)
			m.tell(p, "STOPPING", "1")
			m.after(0, "drain", func() {
				if !p.ended {
					m.accept(p)
					p.accepts = false
					m.after(p.drain, "drained", func() { m.exit(p, 0) })
				}
			})
		}
	case n < 60:
		if p := pick(); p != nil && p.accepts {
			m.tell(p, "X_ONESCRAPE_RECYCLE", "1")
		}
	case n < 61:
		if p := pick(); p != nil && p.accepts {
			m.say("%d hangs", p.pid)
			p.accepts, p.healthy, p.ignoresTERM = false, false, true
		}
	case n < 64:
		m.weather.crash = []float64{0, 0, .1, .5, 1}[m.random.IntN(5)]
		m.say("a share of %v of the workers crashes", m.weather.crash)
	case n < 66:
		m.weather.hang = []float64{0, 0, 0, .05, .3}[m.random.IntN(5)]
		m.say("a share of %v of the workers hangs", m.weather.hang)
	default:
		m.connect()
	}
	if !m.fine() {
		m.fineFrom = m.awake()
	}
	m.after(m.between(0, 4*time.Second), "command", m.command)
}

// simulate runs a supervisor for a number of events.
func simulate(t *testing.T, seed uint64, steps int, injected faults) *simulated {
	t.Helper()
	m := &simulated{random: rand.New(rand.NewPCG(seed, 1)), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), injected: injected,
		processes: make(map[int]*simProcess), sockets: make(map[int]*simSocket), receivers: make(map[string]*simReceiver), lastPID: 100, lastFD: 10}
	m.group = &simGroup{m: m, slots: make(map[int]int)}
	cfg := Config{Command: []string{"app"}, Workers: 4, MetricsListen: "off", Listen: []string{"127.0.0.1:80"}, Store: newStore(t),
		MaxAge: 5 * time.Minute, ReadySettle: []time.Duration{-1, 2 * time.Second}[seed%2], Logger: slog.New(slog.DiscardHandler)}
	if injected.watchdog {
		cfg.Watchdog = 20 * time.Second
	}
	cfg, err := cfg.complete(false)
	require.NoError(t, err)
	s := newSupervisor(cfg, m)
	m.s = s
	last, err := s.store.Begin(cfg.Store)
	require.NoError(t, err)
	s.goOnFrom(last, 0)
	require.NoError(t, s.store.OpenMerged(s.metrics))
	defer s.close()
	s.sockets.Take([]system.Group{m.group})
	s.requests.growth.at = m.now
	m.after(time.Second, "command", m.command)
	watch := &invariants{m: m, same: m.awake(), whole: m.awake()}
	for m.steps = 0; m.steps < steps && m.broken == ""; m.steps++ {
		if over, err := m.step(); over {
			m.fail("the master ended: %v", err)
			break
		}
		watch.check()
		m.advance(true)
	}
	m.end(t)
	return m
}

// step is one step of the control goroutine.
func (m *simulated) step() (over bool, err error) {
	m.s.loop.Begin()
	return m.s.step(m.now)
}

// advance lets the next thing happen: an event, or the next step's time. The master may be paused before.
func (m *simulated) advance(mayPause bool) {
	next := m.events[0].at
	wake := m.s.loop.WakeAt()
	byClock := !wake.IsZero() && wake.Before(next)
	if byClock {
		next = wake
	}
	if next.After(m.now) {
		m.now = next
	}
	if mayPause && m.injected.pauses && m.chance(.002) {
		m.pause()
		return
	}
	if !byClock {
		e := heap.Pop(&m.events).(event)
		e.do()
	}
}

// pause has the master not run for up to ten minutes. Everything else goes on; what it says waits.
func (m *simulated) pause() {
	m.seen.pauses++
	planned := m.now
	d := m.between(time.Second, 10*time.Minute)
	m.say("the master is paused for %v", d)
	m.now = m.now.Add(d)
	m.paused += d
	// What would have happened meanwhile comes now: it waits in sockets and in signals.
	m.s.overslept(planned, m.now)
	for i := range m.events {
		if m.events[i].at.Before(m.now) {
			m.events[i].at = m.now
		}
	}
	heap.Init(&m.events)
}

// end stops the master gracefully, which must take a bounded time and leave nothing behind.
func (m *simulated) end(t *testing.T) {
	t.Helper()
	if m.broken != "" {
		return
	}
	began := m.now
	m.events = slices.DeleteFunc(m.events, func(e event) bool { return e.what == "command" })
	heap.Init(&m.events)
	m.say("TERM")
	m.s.signaled(syscall.SIGTERM)
	m.after(time.Hour, "the end", func() {})
	for m.broken == "" {
		if over, err := m.step(); over {
			if err != nil {
				m.fail("the master ended with %v", err)
			}
			break
		}
		if m.now.Sub(began) > 10*time.Minute {
			m.fail("a stop takes more than ten minutes: %d processes are left", len(m.s.processes))
		}
		m.advance(false)
	}
	for pid, p := range m.processes {
		if !p.ended {
			m.fail("the master left process %d behind", pid)
		}
	}
}

// invariants hold after every step.
type invariants struct {
	m         *simulated
	rollout   int       // the last one that was seen
	abandoned bool      // it was abandoned
	began     time.Time // when it began
	op        operation
	same      time.Time // since when there is that operation
	whole     time.Time // when there were as many slots as wanted
}

func (w *invariants) check() {
	m, s := w.m, w.m.s
	if r := s.Rollout; r != nil {
		if r.ID != w.rollout {
			w.rollout, w.began = r.ID, m.awake()
			m.seen.rollouts++
		}
		if r.State == running && m.awake().Sub(w.began) > time.Duration(r.Total+1)*time.Minute+15*time.Minute {
			m.fail("rollout %d takes %v", r.ID, m.awake().Sub(w.began))
		}
		if r.State == done && m.mustEnd == r.ID {
			m.fail("rollout %d is done, although a worker of it ended with an error", r.ID)
		}
		if r.State == abandoned && !w.abandoned {
			m.seen.abandoned++
		}
		w.abandoned = r.State == abandoned
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
	w.steering()
	w.queues()
	w.status()
}

// steering: where a slot accepts, no connection is steered to one in which nobody takes it or is about to.
func (w *invariants) steering() {
	m, s := w.m, w.m.s
	if !slices.ContainsFunc(s.slots, (*slot).accepts) || s.sockets.Steering() != "on" {
		return
	}
	for _, slot := range m.group.steered {
		fd, ok := m.group.slots[slot]
		if !ok {
			m.fail("steered to slot %d, which has no socket", slot)
			return
		}
		taken := false
		for _, p := range m.processes {
			q := s.processes[p.pid]
			taken = taken || p.fd == fd && (p.accepts || q != nil && (p.ended || q.State == draining))
		}
		for _, q := range s.processes { // whose last words are on their way
			taken = taken || q.Slot == slot && (q.end.reaped || q.State == ready)
		}
		if !taken {
			m.fail("steered to slot %d, where nobody accepts", slot)
		}
	}
}

// queues: connections that wait in the socket of a slot without a process get one soon, whatever the slot's backoff is. Where the
// machine has no room for a process, nobody can promise that.
func (w *invariants) queues() {
	m, s := w.m, w.m.s
	if m.injected.errors {
		return
	}
	given := make(map[int]bool) // slots that there are
	for _, sl := range s.slots {
		given[sl.number] = true
		fd, ok := m.group.slots[sl.number]
		if so := m.sockets[fd]; ok && so.queue > 0 && sl.empty() && !sl.retiring && !sl.waits.IsZero() &&
			m.now.Sub(sl.waits) > 2*time.Second &&
			m.awake().Sub(so.oldest) > 2*time.Second {
			m.fail("%d connections wait in slot %d for %v without a process", so.queue, sl.number, m.now.Sub(sl.waits))
		}
	}
	// A slot is given up when nothing waits in its socket, unless its workers neither answer nor end.
	for slot, fd := range m.group.slots {
		if so := m.sockets[fd]; so.queue > 0 && !given[slot] && m.fine() && so.oldest.After(m.fineFrom.Add(time.Minute)) {
			m.fail("slot %d was given up with %d connections in its socket", slot, so.queue)
		}
	}
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

// Random commands, faults and traffic break no invariant, and happen.
func TestSimulation(t *testing.T) {
	seeds, steps := 8, 2000
	if !testing.Short() {
		seeds, steps = 200, 5000
	}
	first := 0
	if text := os.Getenv("ONESCRAPE_SIMULATION"); text != "" { // SEEDS STEPS FIRST
		n, err := fmt.Sscan(text, &seeds, &steps, &first)
		require.True(t, err == nil || n == 2, "ONESCRAPE_SIMULATION is how many seeds, how many events of each, and the first seed")
	}
	var all counts
	began, simulatedTime := time.Now(), time.Duration(0)
	for seed := first; seed < first+seeds; seed++ {
		injected := faults{errors: seed%4 >= 2, helpers: seed%3 == 1, pauses: seed%5 >= 3, watchdog: seed%2 == 1}
		m := simulate(t, uint64(seed), steps, injected)
		if m.broken != "" {
			t.Fatalf("seed %d with %+v, after %d events: %s\n%s\nAgain: ONESCRAPE_SIMULATION='1 %d %d' go test -v -run 'TestSimulation$' ./master", seed,
				injected, m.steps, m.broken, strings.Join(m.history, "\n"), steps, seed)
		}
		simulatedTime += m.now.Sub(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
		all.starts += m.seen.starts
		all.ready += m.seen.ready
		all.rollouts += m.seen.rollouts
		all.abandoned += m.seen.abandoned
		all.connections += m.seen.connections
		all.kills += m.seen.kills
		all.pauses += m.seen.pauses
	}
	t.Logf("%d events of %v in %v: %+v", seeds*steps, simulatedTime.Round(time.Hour), time.Since(began).Round(time.Millisecond), all)
	if seeds < 8 {
		return // too few for everything to happen
	}
	require.Positive(t, all.ready)
	require.Positive(t, all.rollouts)
	require.Positive(t, all.abandoned)
	require.Positive(t, all.kills)
	require.Positive(t, all.connections)
	require.Positive(t, all.pauses)
}

// A seed can be replayed: the same things happen at the same times.
func TestSimulationIsReplayed(t *testing.T) {
	run := func() []string {
		return simulate(t, 7, 1500, faults{errors: true, helpers: true, pauses: true, watchdog: true}).history
	}
	require.Equal(t, run(), run())
}
