package master

import (
	"container/heap"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/master/internal/reuseport/simkernel"
)

// The supervisor runs against a machine that is simulated: its clock, its processes and its sockets exist in memory only, and
// everything that happens follows from a seed. So a million events take seconds, and each run can be repeated.

// newSimulated returns a machine whose store is in the directory.
func newSimulated(d *draws, store string) *simulated {
	m := &simulated{draws: d, store: store, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), kernel: simkernel.New(),
		processes: make(map[int]*simProcess), orphans: make(map[int]time.Time), receivers: make(map[int]*simReceiver), states: make(map[int][]byte),
		owner: make(map[*simkernel.Socket]int), lastPID: 100, lastFD: simkernel.FirstFD}
	m.kernel.Clock, m.kernel.Fail, m.kernel.Lost = m.Now, m.callFails, m.lost
	m.kernel.Shared = m.shared
	m.kernel.Pass = func(d time.Duration) { m.now = m.now.Add(d) }
	m.clients.oldest = make(map[*simkernel.Socket]time.Time)
	m.disk.release.number = 1
	m.injected = faults{errors: m.chance(drawSetting, .5), helpers: m.chance(drawSetting, .3), pauses: m.chance(drawSetting, .3),
		foreign: m.chance(drawSetting, .3), watchdog: m.chance(drawSetting, .5), first: m.chance(drawFirst, .3)}
	now := m.awake()
	m.judge = &invariants{m: m, same: now, whole: now, began: now, steered: now, started: make(map[int]time.Time), givenUp: make(map[int]time.Time)}
	return m
}

// run lets the machine go on for a number of events, and then stops the master.
func (m *simulated) run(steps int) {
	if err := m.boot(); err != nil {
		m.fail("the master does not start: %v", err)
		return
	}
	defer func() { m.ending = true; m.s.close() }()
	m.after(time.Second, "command", m.command)
	for m.steps = 0; m.steps < steps && m.broken == ""; m.steps++ {
		if over, err := m.step(); over {
			if m.seen.ready == 0 && err != nil && strings.Contains(err.Error(), "no worker became ready") {
				return // each slot has failed often enough
			}
			m.fail("the master ended: %v", err)
			break
		}
		m.judge.check()
		m.advance(true)
	}
	if m.broken == "" {
		m.stop()
	}
}

// stop stops the master gracefully, which must take a bounded time and leave nothing behind.
func (m *simulated) stop() {
	m.ending = true
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
	for _, pid := range slices.Sorted(maps.Keys(m.processes)) {
		if !m.processes[pid].ended {
			m.fail("the master left process %d behind", pid)
		}
	}
}

// simulate runs a machine in a store of its own.
func simulate(t *testing.T, d *draws, steps int) *simulated {
	t.Helper()
	store := newStore(t)
	defer os.RemoveAll(store)
	m := newSimulated(d, store)
	m.run(steps)
	return m
}

// What was found once stays mended.
func TestShrunkHistories(t *testing.T) {
	paths, err := filepath.Glob("testdata/simulation/*.history")
	require.NoError(t, err)
	for _, path := range paths {
		steps, history, err := readHistory(path)
		require.NoError(t, err)
		m := simulate(t, replay(history), steps)
		assert.Empty(t, m.broken, "%s\n%s", path, strings.Join(m.history, "\n"))
	}
}

// Random commands, faults and traffic break no invariant, and happen. ONESCRAPE_SIMULATION='SEEDS STEPS [FIRST]' has it run so many
// seeds for so many events each. A seed that fails is shrunk to a history of few draws, which is written to a file, unless
// ONESCRAPE_SIMULATION_SHRINK=off.
func TestSimulation(t *testing.T) {
	seeds, steps, first := 8, 2000, 0
	if !testing.Short() {
		seeds, steps = 200, 5000
	}
	if text := os.Getenv("ONESCRAPE_SIMULATION"); text != "" {
		n, err := fmt.Sscan(text, &seeds, &steps, &first)
		require.True(t, err == nil || n == 2, "ONESCRAPE_SIMULATION is how many seeds, how many events of each, and the first seed")
	}
	var all counts
	began, simulatedTime := time.Now(), time.Duration(0)
	for seed := first; seed < first+seeds; seed++ {
		m := simulate(t, &draws{seed: uint64(seed)}, steps)
		if m.broken != "" {
			t.Fatalf("seed %d with %+v, after %d events: %s\n%s\n%s\nAgain: ONESCRAPE_SIMULATION='1 %d %d' go test -v -run 'TestSimulation$' ./master",
				seed, m.injected, (seed-first)*steps+m.steps, m.broken, strings.Join(m.history, "\n"), shrunk(t, seed, m), steps, seed)
		}
		if seed%100 == 99 && os.Getenv("ONESCRAPE_SIMULATION") != "" {
			t.Logf("%d seeds in %v", seed-first+1, time.Since(began).Round(time.Second))
		}
		simulatedTime += m.now.Sub(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
		all.add(m.seen)
	}
	t.Logf("%d events of %v in %v: %+v", seeds*steps, simulatedTime.Round(time.Hour), time.Since(began).Round(time.Millisecond), all)
	if seeds < 8 {
		return // too few for everything to happen
	}
	for _, n := range []int{all.starts, all.ready, all.rollouts, all.abandoned, all.connections, all.kills, all.pauses, all.upgrades,
		all.deployed, all.foreign} {
		require.Positive(t, n, "%+v", all)
	}
}

func (c *counts) add(o counts) {
	c.starts += o.starts
	c.ready += o.ready
	c.rollouts += o.rollouts
	c.abandoned += o.abandoned
	c.connections += o.connections
	c.kills += o.kills
	c.pauses += o.pauses
	c.upgrades += o.upgrades
	c.deployed += o.deployed
	c.foreign += o.foreign
}

// shrunk shrinks a failing seed, writes what is left of its draws to a file, and returns how to repeat that.
func shrunk(t *testing.T, seed int, failed *simulated) string {
	t.Helper()
	if os.Getenv("ONESCRAPE_SIMULATION_SHRINK") == "off" {
		return ""
	}
	whole := &draws{seed: uint64(seed), keep: true}
	t.Logf("seed %d: %s; its history is shrunk", seed, failed.broken)
	simulate(t, whole, failed.steps+1)
	same := strings.SplitN(failed.broken, " ", 2)[0]
	var last *simulated
	history := shrink(whole.taken, 1500, func(h []draw) bool {
		m := simulate(t, replay(h), failed.steps+1)
		if strings.HasPrefix(m.broken, same) {
			last = m
			return true
		}
		return false
	}, func(left, runs int) { t.Logf("shrinking: %d draws are left, %d runs to go", left, runs) })
	if last == nil {
		return "Its draws could not be made fewer."
	}
	path := filepath.Join(os.TempDir(), fmt.Sprintf("simulation-%d.history", seed))
	if err := writeHistory(path, 2*last.steps+100, last.broken, history); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("Shrunk to %d draws, in %s: %s\n%s\nTo keep it as a test, move the file to master/testdata/simulation.", len(history), path,
		last.broken, strings.Join(last.history, "\n"))
}

// A seed can be replayed: the same things happen at the same times. So can a history of all its draws.
func TestSimulationIsReplayed(t *testing.T) {
	for seed := range uint64(4) {
		first := &draws{seed: seed, keep: true}
		want := simulate(t, first, 1500)
		require.Empty(t, want.broken)
		require.Equal(t, want.history, simulate(t, &draws{seed: seed}, 1500).history)
		require.Equal(t, want.history, simulate(t, replay(first.taken), 1500).history)
	}
}

// A history comes back from its file, and leaving out what does not matter ends with what does.
func TestHistories(t *testing.T) {
	history := []draw{{drawSetting, 3, .25}, {drawWait, 1, .5}, {drawWait, 70, 1e-9}, {drawPort, 2, .999}}
	path := filepath.Join(t.TempDir(), "h")
	require.NoError(t, writeHistory(path, 17, "two\nlines", history))
	steps, got, err := readHistory(path)
	require.NoError(t, err)
	assert.Equal(t, 17, steps)
	assert.Equal(t, history, got)
	for _, broken := range []string{"wait x 1", "nonsense 1 1", "wait 1"} {
		require.NoError(t, os.WriteFile(path, []byte(broken), 0o600))
		_, _, err := readHistory(path)
		require.Error(t, err, broken)
	}
	var long []draw
	for i := range 1000 {
		long = append(long, draw{kind(i % int(kinds)), i, .5})
	}
	fails := func(h []draw) bool { return slices.Contains(h, long[7]) && slices.Contains(h, long[900]) }
	assert.Equal(t, []draw{long[7], long[900]}, shrink(long, 1000, fails, func(int, int) {}))
}

// While nobody accepts, new connections go to the slots that stay, when another one is given up; else the last program stays.
func TestTargetsWhenNobodyAccepts(t *testing.T) {
	m := booted(t)
	for _, sl := range m.s.slots {
		sl.cur.StoppingItself = true
	}
	assert.Equal(t, []bool{false, false, false}, m.s.targets(0))
	m.s.slots[2].retiring = true
	assert.Equal(t, []bool{true, true, false}, m.s.targets(0))
	m.s.slots[2].retiring = false
	m.s.sockets.CloseLater(7)
	assert.Equal(t, []bool{true, true, true}, m.s.targets(0))
}

// booted returns a machine with three workers, all ready, where nothing happens by itself.
func booted(t *testing.T) *simulated {
	t.Helper()
	m := newSimulated(replay([]draw{{drawSetting, 5, .4}}), newStore(t))
	require.NoError(t, m.boot())
	t.Cleanup(func() { m.ending = true; m.s.close() })
	m.after(24*time.Hour, "the end", func() {})
	m.until(t, nil, func() bool { return m.s.startup.progress == allReady })
	return m
}

// until lets the machine go on until something is over, and does something after every event before.
func (m *simulated) until(t *testing.T, do func(), over func() bool) (events int) {
	t.Helper()
	for events = range 20_000 {
		_, err := m.step()
		require.NoError(t, err)
		require.Empty(t, m.broken)
		if over() {
			return events
		}
		if do != nil {
			do()
		}
		m.advance(false)
	}
	require.Fail(t, "it does not come to that", strings.Join(m.history, "\n"))
	return events
}

// A slot that cannot be closed for hours, because somebody waits in its socket, costs next to nothing.
func TestClosingSlotIsLookedAtSeldom(t *testing.T) {
	m := booted(t)
	m.kernel.MembersAt(80)[2].Hold()
	m.s.signaled(syscall.SIGTTOU)
	m.until(t, nil, func() bool { return len(m.s.sockets.Closing()) == 1 })
	m.kernel.MembersAt(80)[2].Queue = 1
	end := m.now.Add(2 * time.Minute)
	events := m.until(t, nil, func() bool { return m.now.After(end) })
	assert.Less(t, events, 1000)
	assert.Equal(t, []int{2}, m.s.sockets.Closing())
}

// A connection whose handshake is under way is not reset when a slot is given up while nobody accepts: the program that is attached
// then named that slot.
func TestScaleDownWhileNobodyAccepts(t *testing.T) {
	m := booted(t)
	m.weather.crash = 1
	for _, pid := range slices.Sorted(maps.Keys(m.processes)) {
		m.processes[pid].exit(killed)
	}
	m.until(t, nil, func() bool { return !slices.ContainsFunc(m.s.slots, (*slot).accepts) })
	m.s.signaled(syscall.SIGTTOU)
	random := uint32(0)
	halfOpen := func() {
		random++
		h := m.kernel.Dial(80, random)
		require.NotNil(t, h)
		m.after(200*time.Millisecond, "handshake", func() { h.Complete() })
	}
	m.until(t, halfOpen, func() bool { return len(m.s.slots) == 2 && len(m.s.sockets.Closing()) == 0 })
	assert.Len(t, m.kernel.MembersAt(80), 2)
}
