package master

import (
	"maps"
	"slices"
	"syscall"
	"time"

	"github.com/onescrape/onescrape/master/internal/reuseport/simkernel"
	"github.com/onescrape/onescrape/worker/sdnotify"
)

// weather is how well workers do at the moment, whatever their release is.
type weather struct{ crash, hang float64 }

// simRelease is what a program on disk does: with which probabilities its workers crash at their start, hang, never say READY=1, or
// crash a little after it.
type simRelease struct {
	number                  int
	crash, hang, mute, late float64
}

func (r simRelease) good() bool { return r.crash+r.hang+r.mute+r.late == 0 }

// disk is what is installed.
type disk struct {
	release     simRelease
	master      int // counts the programs of the master
	masterFails bool
	missing     bool // everything, for a moment
}

// simProcess is a worker. A healthy one is ready in time, beats, and ends in time when it is told to.
type simProcess struct {
	m           *simulated
	pid, slot   int
	release     simRelease
	sockets     []*simkernel.Socket
	receiver    *simReceiver
	accepts     bool
	wasReady    bool
	ended       bool
	reaped      bool
	status      syscall.WaitStatus
	healthy     bool
	ignoresTERM bool // a hung one does
	draining    time.Duration
	helper      bool // something that it has started holds its sockets
}

// The states with which a process ends.
const (
	exitOK    = syscall.WaitStatus(0)
	exitError = syscall.WaitStatus(1 << 8)
	killed    = syscall.WaitStatus(9)
)

// has reports whether a process, or what it has started, has a socket.
func (p *simProcess) has(so *simkernel.Socket) bool {
	return (!p.ended || p.helper) && slices.Contains(p.sockets, so)
}

// live decides what becomes of a worker.
func (p *simProcess) live() {
	m := p.m
	crash, hang := m.chance(drawFate, max(m.weather.crash, p.release.crash)), m.chance(drawFate, max(m.weather.hang, p.release.hang))
	mute, late, dies := m.chance(drawFate, p.release.mute), m.chance(drawFate, p.release.late), m.chance(drawFate, .1)
	p.ignoresTERM = m.chance(drawFate, .02)
	inTime := m.chance(drawFate, .01) // READY=1 comes in time and arrives after it
	p.draining = m.between(drawStart, 0, 500*time.Millisecond)
	start := m.between(drawStart, time.Millisecond, 2*time.Second)
	if inTime {
		start = m.s.cfg.ReadyTimeout - m.between(drawStart, time.Millisecond, 10*time.Millisecond)
	}
	switch {
	case crash:
		m.after(m.between(drawStart, 0, 300*time.Millisecond), "crash", func() { p.exit(exitError) })
		return
	case hang:
		return
	}
	p.healthy = !p.ignoresTERM && !mute
	m.after(start, "ready", func() {
		if p.ended {
			return
		}
		p.accepts = true
		m.serve(p)
		if mute {
			return
		}
		p.wasReady = true
		m.seen.ready++
		p.tell("READY", "1")
		p.beat()
		if late {
			m.after(m.between(drawStart, 0, 4*time.Second), "late crash", func() { p.exit(exitError) })
		}
		if dies {
			m.after(m.between(drawStart, 0, 90*time.Second), "die", func() { p.exit(killed) })
		}
	})
}

func (p *simProcess) beat() {
	if p.m.injected.watchdog && !p.ended {
		p.tell("WATCHDOG", "1")
		p.m.after(5*time.Second, "beat", p.beat)
	}
}

// tell is what a worker says.
func (p *simProcess) tell(key, value string) {
	if !p.ended {
		p.receiver.deliver(sdnotify.Message{Fields: map[string]string{key: value}})
	}
}

// drain answers what waits, and ends a little later.
func (p *simProcess) drain() {
	if p.ended {
		return
	}
	p.m.serve(p)
	p.accepts = false
	p.m.after(p.draining, "drained", func() { p.exit(exitOK) })
}

// exit ends a process. What it has started may hold its sockets for a while.
func (p *simProcess) exit(status syscall.WaitStatus) {
	if p.ended {
		return
	}
	m := p.m
	p.ended, p.accepts, p.status = true, false, status
	m.say("end of %d in slot %d: %#x", p.pid, p.slot, uint32(status))
	if m.injected.first && m.chance(drawFate, .1) {
		m.orphans[p.pid+2_000_000] = m.awake()
		if m.chance(drawFate, .5) { // other code of this program knows it
			m.after(m.between(drawWork, 0, 500*time.Millisecond), "reaped by its parent", func() { delete(m.orphans, p.pid+2_000_000) })
		}
	}
	if p.helper = m.injected.helpers && m.chance(drawFate, .05); p.helper {
		m.after(m.between(drawStart, 0, 90*time.Second), "helper ends", p.helperEnds)
	} else {
		p.letGo()
	}
	m.s.reap()
}

func (p *simProcess) helperEnds() {
	if p.helper {
		p.helper = false
		p.letGo()
	}
}

func (p *simProcess) letGo() {
	for _, so := range p.sockets {
		so.Release()
	}
}

// clients are who connects, and who listens at the same addresses.
type clients struct {
	foreign []*simkernel.Socket
	oldest  map[*simkernel.Socket]time.Time // since when somebody waits in a queue, on the clock of awake
}

// serve has a worker take what waits in its sockets.
func (m *simulated) serve(p *simProcess) {
	for _, so := range p.sockets {
		m.take(so)
	}
}

func (m *simulated) take(so *simkernel.Socket) {
	so.Queue = 0
	delete(m.clients.oldest, so)
}

// ports are those at which the master listens.
func (m *simulated) ports() (out []int) {
	for _, a := range m.s.sockets.Addresses() {
		out = append(out, map[string]int{"127.0.0.1:80": 80, "127.0.0.1:81": 81}[a])
	}
	return out
}

// connect is a client's connection: it is in the socket that was chosen at once, in its queue when the handshake is over, and answered when
// a worker accepts.
func (m *simulated) connect() {
	m.seen.connections++
	port := among(m.draws, drawWhich, m.ports()...)
	h := m.kernel.Dial(port, uint32(m.next(drawPort)*(1<<32)))
	if h == nil {
		if len(m.s.slots) > 0 && !m.ending {
			m.fail("a connection to port %d is refused", port)
		}
		return
	}
	wait := m.between(drawLatency, 0, 20*time.Millisecond)
	if m.chance(drawLatency, .05) {
		wait = m.between(drawLatency, 0, time.Second) // a packet was lost
	}
	m.after(wait, "handshake", func() {
		if !h.Complete() {
			return // the socket has ended, and has said so
		}
		if m.clients.oldest[h.Socket].IsZero() {
			m.clients.oldest[h.Socket] = m.awake()
		}
		m.after(m.between(drawLatency, 0, 5*time.Millisecond), "accept", func() {
			for _, p := range m.processes {
				if p.accepts && p.has(h.Socket) {
					m.take(h.Socket)
				}
			}
		})
	})
}

// lost is what the kernel says of connections whose socket has ended.
func (m *simulated) lost(so *simkernel.Socket, n int) {
	delete(m.clients.oldest, so)
	if m.ending || slices.Contains(m.clients.foreign, so) || !slices.Contains(m.ports(), so.Port) {
		return // the service ends, or the address was given up
	}
	m.fail("%d connections in a socket of port %d are reset", n, so.Port)
}

// shared is what the kernel says of a socket that the master closes while others have it.
func (m *simulated) shared(so *simkernel.Socket) {
	if !m.ending && slices.Contains(m.ports(), so.Port) {
		m.fail("a socket of port %d is closed while another process has it: its place in the kernel's group stays", so.Port)
	}
}

// fine reports whether new workers neither crash nor hang.
func (m *simulated) fine() bool {
	return m.weather == weather{} && m.disk.release.good() && !m.disk.missing
}

// picked returns a process that runs; nil when there is none.
func (m *simulated) picked() *simProcess {
	var running []*simProcess
	for _, pid := range slices.Sorted(maps.Keys(m.processes)) {
		if p := m.processes[pid]; !p.ended {
			running = append(running, p)
		}
	}
	if len(running) == 0 {
		return nil
	}
	return running[m.below(drawWhich, len(running))]
}

// commands are what operators, clients and accidents do, and how often. The first is what a draw of 0 does.
var commands = []struct {
	share int
	name  string
	do    func(m *simulated)
}{
	{2, "nothing", func(*simulated) {}},
	{30, "connect", (*simulated).connect},
	{10, "HUP", func(m *simulated) { m.s.signaled(syscall.SIGHUP) }},
	{8, "TTIN", func(m *simulated) {
		if m.s.Target < 12 {
			m.s.signaled(syscall.SIGTTIN)
		}
	}},
	{9, "TTOU", func(m *simulated) { m.s.signaled(syscall.SIGTTOU) }},
	{3, "USR1", func(m *simulated) { m.s.signaled(syscall.SIGUSR1) }},
	{4, "USR2", func(m *simulated) { m.s.signaled(syscall.SIGUSR2) }},
	{6, "deploy", (*simulated).deploy},
	{1, "deploy halfway", func(m *simulated) {
		m.disk.missing = true
		m.after(m.between(drawDeploy, 0, 3*time.Second), "deployed", func() {
			m.disk.missing = false
			m.deploy()
		})
	}},
	{8, "kill", func(m *simulated) {
		if p := m.picked(); p != nil {
			p.exit(killed)
		}
	}},
	{8, "TERM from outside", func(m *simulated) {
		if p := m.picked(); p != nil && p.accepts {
			p.tell("STOPPING", "1")
			m.after(0, "drain", p.drain)
		}
	}},
	{5, "recycle", func(m *simulated) {
		if p := m.picked(); p != nil && p.accepts {
			p.tell("X_ONESCRAPE_RECYCLE", "1")
		}
	}},
	{1, "hang", func(m *simulated) {
		if p := m.picked(); p != nil && p.accepts {
			p.accepts, p.healthy, p.ignoresTERM = false, false, true
		}
	}},
	{1, "foreign READY", func(m *simulated) {
		if p := m.picked(); p != nil {
			p.receiver.deliver(sdnotify.Message{ForeignReady: 1})
		}
	}},
	{3, "crashes", func(m *simulated) { m.weather.crash = among(m.draws, drawDeploy, 0, 0, .1, .5, 1) }},
	{2, "hangs", func(m *simulated) { m.weather.hang = among(m.draws, drawDeploy, 0, 0, 0, .05, .3) }},
	{4, "foreign", (*simulated).foreigner},
}

// deploy installs another program.
func (m *simulated) deploy() {
	m.seen.deployed++
	r := simRelease{number: m.disk.release.number + 1}
	bad := among(m.draws, drawDeploy, 1, .5)
	switch m.below(drawDeploy, 12) {
	case 8:
		r.crash = bad
	case 9:
		r.hang = bad
	case 10:
		r.mute = bad
	case 11:
		r.late = bad
	}
	m.disk.release = r
	m.disk.master++
	m.disk.masterFails = m.chance(drawDeploy, .2)
	m.say("release %+v, master %d, which fails: %v", r, m.disk.master, m.disk.masterFails)
}

// foreigner has another process listen at one of the addresses, or no longer.
func (m *simulated) foreigner() {
	if !m.injected.foreign {
		return
	}
	m.judge.disturbed = m.awake()
	if n := len(m.clients.foreign); n > 0 && m.chance(drawWhich, .5) {
		i := m.below(drawWhich, n)
		so := m.clients.foreign[i]
		so.Release()
		m.clients.foreign = slices.Delete(m.clients.foreign, i, i+1)
		return
	}
	m.seen.foreign++
	m.clients.foreign = append(m.clients.foreign, m.kernel.Join(among(m.draws, drawWhich, m.ports()...)))
}

// command is what happens next from outside.
func (m *simulated) command() {
	total := 0
	for _, c := range commands {
		total += c.share
	}
	n := m.below(drawCommand, total)
	for _, c := range commands {
		if n -= c.share; n < 0 {
			if c.name != "nothing" {
				m.say("%s", c.name)
			}
			c.do(m)
			break
		}
	}
	if !m.fine() {
		m.judge.fineFrom = m.awake()
	}
	m.after(m.between(drawWait, 0, 4*time.Second), "command", m.command)
}
