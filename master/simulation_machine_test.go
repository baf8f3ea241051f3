package master

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onescrape/onescrape/master/internal/bootstrap"
	"github.com/onescrape/onescrape/master/internal/proc"
	"github.com/onescrape/onescrape/master/internal/release"
	"github.com/onescrape/onescrape/master/internal/reuseport"
	"github.com/onescrape/onescrape/master/internal/reuseport/simkernel"
	"github.com/onescrape/onescrape/master/internal/system"
	"github.com/onescrape/onescrape/worker/sdnotify"
)

// simulated is a machine in memory with one master. It implements system.System. Everything happens in one goroutine.
type simulated struct {
	*draws
	s     *supervisor
	store string

	now     time.Time     // on a clock that nobody sets
	stepped time.Duration // by how much the wall clock was set
	paused  time.Duration // for how long the master did not run
	events  eventQueue
	order   int // of events at one time
	waiting bool

	kernel    *simkernel.Kernel
	owner     map[*simkernel.Socket]int // slots of the master's sockets
	processes map[int]*simProcess
	orphans   map[int]time.Time    // zombies that nobody knows, since when on the clock of awake
	receivers map[int]*simReceiver // by descriptor
	states    map[int][]byte       // files of handovers, by descriptor
	lastPID   int
	lastFD    int

	injected faults
	weather  weather
	disk     disk
	clients  clients
	judge    *invariants
	ending   bool // the machine was told to stop the master

	calls   int // in this step of the master
	steps   int // how many events there were
	seen    counts
	broken  string   // the first invariant that does not hold
	history []string // the last events, for a failure
}

// faults are what goes wrong on purpose.
type faults struct {
	errors   bool // calls fail for want of something
	helpers  bool // what a worker has started keeps its sockets after its end
	pauses   bool // the master does not run for a while
	foreign  bool // other processes listen at the addresses
	first    bool // the master is process 1, and orphans become its children
	watchdog bool // the master expects WATCHDOG=1
}

// counts is what has happened, so that a run that tests nothing does not pass.
type counts struct {
	starts, ready, rollouts, abandoned, connections, kills, pauses, upgrades, deployed, foreign int
}

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

// shortage returns one of the errors that a call gives for want of something, if errors are injected.
func (m *simulated) shortage(p float64) error {
	if !m.injected.errors || !m.chance(drawShortage, p) {
		return nil
	}
	return among(m.draws, drawShortage, syscall.EAGAIN, syscall.EMFILE, syscall.ENOMEM, syscall.ENFILE, syscall.ENOSPC)
}

// stuck is the panic by which a step ends that does not end.
type stuck struct{}

// called counts a call in a step of the master.
func (m *simulated) called() {
	if m.calls++; m.calls > 10_000 {
		panic(stuck{})
	}
}

// callFails is what the kernel of sockets asks.
func (m *simulated) callFails(call string) error {
	m.called()
	err := m.shortage(map[string]float64{"open": .03, "attach": .02, "members": .01, "probe": .1}[call])
	if err != nil && call != "open" {
		m.judge.disturbed = m.awake() // the order of the sockets may be unknown for a while
	}
	return err
}

// What follows implements system.System.

func (m *simulated) Now() time.Time  { return m.now.Add(m.stepped) }
func (m *simulated) Random() float64 { return m.next(drawRandom) }

func (m *simulated) Go(f func()) {
	s := m.s
	most := 50 * time.Millisecond
	if m.chance(drawWork, .02) {
		most = 5 * time.Second
	}
	m.after(m.between(drawWork, 0, most), "background", func() {
		if s == m.s { // else its process was replaced by an exec
			f()
			(<-s.loop.Finished())()
		}
	})
}

// After has the time pass at once: only a start waits for it.
func (m *simulated) After(d time.Duration) <-chan time.Time {
	m.called()
	m.now = m.now.Add(d)
	c := make(chan time.Time, 1)
	c <- m.Now()
	return c
}

// Wait lets the messages come on which the supervisor waits.
func (m *simulated) Wait(f func()) {
	m.waiting = true
	defer func() { m.waiting = false }()
	var others []event
	for len(m.s.events.messages) == 0 {
		e := heap.Pop(&m.events).(event)
		if e.what != "message" {
			others = append(others, e)
			continue
		}
		if e.at.After(m.now) {
			m.now = e.at
		}
		e.do()
	}
	for _, e := range others {
		heap.Push(&m.events, e)
	}
	f()
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
	p := &simProcess{m: m, pid: m.lastPID, slot: slot, release: m.disk.release}
	for _, fd := range c.Files[3 : len(c.Files)-1] {
		so := m.kernel.Socket(int(fd))
		if so == nil {
			m.fail("the worker of slot %d got descriptor %d, which is no socket", slot, fd)
			continue
		}
		so.Hold()
		m.owner[so] = slot
		p.sockets = append(p.sockets, so)
		for _, q := range m.processes {
			if q.slot != slot && q.has(so) {
				m.fail("the worker of slot %d got a socket of slot %d", slot, q.slot)
			}
		}
	}
	for _, r := range m.receivers {
		if r.name == env["NOTIFY_SOCKET"] {
			p.receiver = r
		}
	}
	if p.receiver == nil {
		m.fail("a worker without a notify socket: %v", c.Env)
		return 0, syscall.EINVAL
	}
	m.processes[p.pid] = p
	m.seen.starts++
	m.judge.started[slot] = m.awake()
	m.say("start %d in slot %d, release %d", p.pid, slot, p.release.number)
	p.live()
	return p.pid, nil
}

func (m *simulated) Signal(pid int, sig syscall.Signal) {
	m.called()
	p := m.processes[pid]
	if p == nil || p.reaped {
		m.fail("signal %v to process %d, which is reaped", sig, pid)
		return
	}
	m.judge.signal(p, sig)
	switch {
	case p.ended:
	case sig == syscall.SIGKILL:
		m.seen.kills++
		m.after(0, "killed", func() { p.exit(9) })
	case (sig == syscall.SIGTERM || sig == syscall.SIGINT) && !p.ignoresTERM:
		m.after(m.between(drawLatency, 0, 50*time.Millisecond), "drain", p.drain)
	}
}

func (m *simulated) SignalGroup(pgid int, sig syscall.Signal) {
	p := m.processes[pgid]
	if p == nil || p.reaped {
		m.fail("signal %v to group %d, whose leader is reaped", sig, pgid)
		return
	}
	if p.helper {
		m.after(m.between(drawLatency, 0, time.Second), "helper ends by a signal", p.helperEnds)
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
	if since, ok := m.orphans[pid]; ok {
		if m.awake().Sub(since) < time.Second {
			m.fail("a child of other code of this program is reaped after %v", m.awake().Sub(since))
		}
		delete(m.orphans, pid)
	} else if p := m.processes[pid]; p == nil || !p.ended || p.reaped {
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

func (m *simulated) PID() int {
	if m.injected.first {
		return 1
	}
	return 42
}

func (m *simulated) Self() (string, error) { return "/proc/self/exe", nil }
func (m *simulated) MemoryLimit() int64    { return 1 << 30 }

func (m *simulated) Zombies(int) (out []int) {
	for _, pid := range slices.Sorted(maps.Keys(m.processes)) {
		if p := m.processes[pid]; p.ended && !p.reaped {
			out = append(out, pid)
		}
	}
	return append(out, slices.Sorted(maps.Keys(m.orphans))...)
}

func (m *simulated) GroupHolders(pgid int, sockets proc.Inodes) []int {
	p := m.processes[pgid]
	if p == nil || !p.helper {
		return nil
	}
	for _, so := range p.sockets {
		if sockets[so.Inode] {
			return []int{pgid + 1_000_000}
		}
	}
	return nil
}

func (m *simulated) SocketHolders(sockets proc.Inodes) map[uint64][]proc.Holder {
	out := make(map[uint64][]proc.Holder)
	for _, p := range m.processes {
		for _, so := range p.sockets {
			if sockets[so.Inode] && p.has(so) {
				out[so.Inode] = append(out[so.Inode], proc.Holder{Name: "sim"})
			}
		}
	}
	for _, so := range m.clients.foreign {
		if sockets[so.Inode] {
			out[so.Inode] = append(out[so.Inode], proc.Holder{Name: "foreign"})
		}
	}
	return out
}

func (m *simulated) AddressHolders(a reuseport.Address) (out []proc.Holder) {
	for _, so := range m.clients.foreign {
		if fmt.Sprint("127.0.0.1:", so.Port) == a.Addr {
			out = append(out, proc.Holder{Name: "foreign"})
		}
	}
	return out
}

func (m *simulated) Kernel() reuseport.Kernel              { return m.kernel }
func (m *simulated) ResolveDir(dir string) (string, error) { return dir, nil }
func (m *simulated) Exists(string) bool                    { return true }

func (m *simulated) NewReceiver() (system.Receiver, error) {
	if err := m.shortage(.01); err != nil {
		return nil, err
	}
	r := &simReceiver{m: m, fd: m.descriptor()}
	r.name = "sim/" + strconv.Itoa(r.fd)
	m.receivers[r.fd] = r
	return r, nil
}

func (m *simulated) AdoptReceiver(fd int, name string) (system.Receiver, error) {
	r := m.receivers[fd]
	if r == nil || r.name != name {
		return nil, fmt.Errorf("descriptor %d is not the notify socket %s", fd, name)
	}
	r.stays = false
	return r, nil
}

// descriptor returns a number that no socket of the kernel and no real file has.
func (m *simulated) descriptor() int {
	m.lastFD--
	return m.lastFD
}

// real reports whether a descriptor is one of the process of the test: of the store's lock, or of the lifeline.
func (m *simulated) real(fd int) bool { return fd < m.lastFD }

func (m *simulated) FindProgram(command []string, _ string) (release.Program, error) {
	m.called()
	if m.disk.missing {
		return release.Program{}, fmt.Errorf("the program is not there: %w", os.ErrNotExist)
	}
	if len(command) == 0 {
		return release.Program{Path: release.Own().Path, Args: []string{"master"}}, nil
	}
	return release.Program{Path: "/app", Args: command}, nil
}

func (m *simulated) Identify(path string) (release.File, string, error) {
	switch {
	case m.disk.missing:
		return release.File{}, "", os.ErrNotExist
	case path == "/app":
		return release.File{Inode: uint64(m.disk.release.number)}, path, nil
	}
	return release.File{Inode: 1_000_000 + uint64(m.disk.master)}, path, nil
}

func (m *simulated) Check(_ context.Context, _ []string, _, _ string) error {
	if m.disk.masterFails {
		return errors.New("the new program failed the check")
	}
	return nil
}

func (m *simulated) HoldSignals(chan<- os.Signal) (release func()) { return func() {} }
func (m *simulated) HoldForks() (release func())                   { return func() {} }

func (m *simulated) Inherit(fd int, stays bool) error {
	if r := m.receivers[fd]; r != nil {
		r.stays = stays
	} else if !m.real(fd) && !m.kernel.Stay(fd, stays) {
		m.fail("descriptor %d, which is not open, stays open over an exec: %v", fd, stays)
	}
	return m.shortage(.005)
}

// Duplicate gives a notify socket the same number in the next program, which is what matters of it.
func (m *simulated) Duplicate(fd int) (int, error) {
	if err := m.shortage(.005); err != nil {
		return -1, err
	}
	if r := m.receivers[fd]; r != nil {
		r.stays = true
		return fd, nil
	}
	return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
}

func (m *simulated) Close(fd int) {
	switch r := m.receivers[fd]; {
	case r != nil:
		r.stays = false
	case m.states[fd] != nil:
		delete(m.states, fd)
	case m.real(fd):
		unix.Close(fd)
	}
}

func (m *simulated) StateFile(text []byte) (int, error) {
	if err := m.shortage(.005); err != nil {
		return -1, err
	}
	fd := m.descriptor()
	m.states[fd] = text
	return fd, nil
}

// executed is the panic by which a program ends that executes another one.
type executed struct{ state []byte }

func (m *simulated) Execute(_ string, _, env []string) error {
	if m.chance(drawUpgrade, .05) {
		return among(m.draws, drawUpgrade, syscall.ETXTBSY, syscall.ENOEXEC, syscall.ENOMEM)
	}
	_, value, _ := strings.Cut(env[len(env)-1], "=")
	if !strings.HasPrefix(env[len(env)-1], bootstrap.HandoverEnv+"=") {
		m.fail("the last variable of an exec is %q", env[len(env)-1])
	}
	panic(executed{m.states[number(value)]})
}

// simReceiver is a notify socket. What its worker says reaches the supervisor in order, a little later.
type simReceiver struct {
	m     *simulated
	fd    int
	name  string
	stays bool      // open over an exec
	reads bool      // the supervisor reads it
	until time.Time // when the last message arrives
	kept  []sdnotify.Message
}

// deliver passes a message on, after all that were sent before.
func (r *simReceiver) deliver(msg sdnotify.Message) {
	at := r.m.now.Add(r.m.between(drawLatency, 0, 20*time.Millisecond))
	if at.Before(r.until) {
		at = r.until
	}
	r.until = at
	r.m.after(at.Sub(r.m.now), "message", func() {
		q := r.process()
		switch {
		case q == nil:
		case !r.reads:
			if !msg.Over {
				r.kept = append(r.kept, msg)
			}
		case r.m.waiting:
			r.reads = !msg.Over
			r.m.s.events.messages <- message{q, msg}
		default:
			r.reads = !msg.Over
			r.m.judge.message(q, msg)
			r.m.s.handle(message{q, msg})
		}
	})
}

func (r *simReceiver) process() *process {
	for _, q := range r.m.s.processes {
		if q.notify == system.Receiver(r) {
			return q
		}
	}
	return nil
}

// What follows implements system.Receiver.

func (r *simReceiver) Name() string                    { return r.name }
func (r *simReceiver) Run(int, func(sdnotify.Message)) {}
func (r *simReceiver) Close()                          { delete(r.m.receivers, r.fd) }

func (r *simReceiver) Start() {
	r.reads = true
	kept := r.kept
	r.kept = nil
	for _, msg := range kept {
		r.deliver(msg)
	}
}

func (r *simReceiver) Control(f func(fd int) error) error { return f(r.fd) }

func (r *simReceiver) Look() uint32 {
	r.m.order++
	number := uint32(r.m.order)
	r.deliver(sdnotify.Message{Answered: number})
	return number
}

func (r *simReceiver) Finish() { r.deliver(sdnotify.Message{Over: true}) }

// config returns the configuration that the next program reads.
func (m *simulated) config() (Config, error) {
	cfg := Config{Command: []string{"app"}, Workers: 1 + m.below(drawSetting, 6), MetricsListen: "off", Store: m.store,
		MaxAge: 5 * time.Minute, ReadySettle: among(m.draws, drawSetting, -1, 2*time.Second), Logger: slog.New(slog.DiscardHandler)}
	cfg.Listen = []string{"127.0.0.1:80"}
	if m.chance(drawSetting, .3) {
		cfg.Listen = append(cfg.Listen, "127.0.0.1:81")
	}
	if m.injected.watchdog {
		cfg.Watchdog = 20 * time.Second
	}
	return cfg.complete(false)
}

// boot starts the first master.
func (m *simulated) boot() error {
	cfg, err := m.config()
	if err != nil {
		return err
	}
	errorsLater := m.injected.errors
	m.injected.errors = false
	m.s = newSupervisor(cfg, m)
	if err := m.s.begin(); err != nil {
		return err
	}
	m.injected.errors = errorsLater
	m.s.take()
	return nil
}

// reborn goes on with the next program after an exec.
func (m *simulated) reborn(state []byte) {
	m.seen.upgrades++
	old := m.s
	old.store.StopFold()
	old.store.CloseMerged()
	old.store.Close() // but not the duplicate of its lock
	m.kernel.Exec()
	for fd, r := range m.receivers {
		if !r.stays {
			delete(m.receivers, fd)
		}
		r.reads = false
	}
	clear(m.states)
	m.now = m.now.Add(m.between(drawUpgrade, 0, 200*time.Millisecond))
	if m.chance(drawUpgrade, .3) {
		m.stepped += m.between(drawUpgrade, 0, 48*time.Hour) - 24*time.Hour
		m.say("the wall clock is set: by %v in all", m.stepped)
	}
	h, err := parseHandover(state)
	if err != nil {
		m.fail("the handover: %v", err)
		return
	}
	cfg, err := m.config()
	if err != nil {
		m.fail("the configuration: %v", err)
		return
	}
	m.say("exec: %d workers, %v", cfg.Workers, cfg.Listen)
	m.s = newSupervisor(cfg, m)
	if err := m.s.adopt(h); err != nil {
		m.fail("adopt: %v", err)
		return
	}
	m.judge.upgraded(old)
	m.s.take()
}

// step is one step of the control goroutine.
func (m *simulated) step() (over bool, err error) {
	defer func() {
		switch e := recover().(type) {
		case nil:
		case executed:
			over, err = false, nil
			m.reborn(e.state)
		case stuck:
			m.fail("a step of the master does not end")
		default:
			panic(e)
		}
	}()
	m.calls = 0
	m.s.loop.Begin()
	return m.s.step(m.Now())
}

// advance lets the next thing happen: an event, or the next step's time. The master may be paused before.
func (m *simulated) advance(mayPause bool) {
	// A step may take time, as after an upgrade. What happened meanwhile comes before the next step.
	for m.events[0].at.Before(m.now) {
		heap.Pop(&m.events).(event).do()
	}
	next := m.events[0].at
	wake := m.s.loop.WakeAt()
	byClock := !wake.IsZero() && wake.Add(-m.stepped).Before(next)
	if byClock {
		next = wake.Add(-m.stepped)
	}
	if next.After(m.now) {
		m.now = next
	}
	if mayPause && m.injected.pauses && m.chance(drawPause, .002) {
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
	planned := m.Now()
	d := m.between(drawPause, time.Second, 10*time.Minute)
	m.say("the master is paused for %v", d)
	m.now = m.now.Add(d)
	m.paused += d
	// What would have happened meanwhile comes now: it waits in sockets and in signals.
	m.s.overslept(planned, m.Now())
	for i := range m.events {
		if m.events[i].at.Before(m.now) {
			m.events[i].at = m.now
		}
	}
	heap.Init(&m.events)
}
