package shmstore

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/shmstore/internal/osfile"
)

func init() { children["increment"] = incrementForEver }

// incrementForEver registers series, increments them, and says so after each increment: the number of the series, four
// bytes. Beside that it makes and deletes gauges, so that records are reused.
func incrementForEver(dir string) error {
	d, err := OpenDir(dir, DirOptions{})
	if err != nil {
		return err
	}
	w, err := d.Create(WriterOptions{Slot: 1})
	if err != nil {
		return err
	}
	counters, err := w.AddFamily(Family{Name: "c", Type: CounterType, Labels: []string{"n"}})
	if err != nil {
		return err
	}
	gauges, err := w.AddFamily(Family{Name: "g", Type: GaugeType, Mode: Sum, Labels: []string{"n"}})
	if err != nil {
		return err
	}
	w.SetReady()
	var series, ring []*Series
	for n := 0; ; n++ {
		if n%16 == 0 {
			s, err := w.AddSeries(counters, []string{fmt.Sprint(len(series))})
			if err != nil {
				return err
			}
			series = append(series, s)
		}
		i := rand.IntN(len(series))
		atomic.AddUint64(&series[i].Cells[CounterInteger], 1)
		if err := binary.Write(os.Stdout, binary.LittleEndian, uint32(i)); err != nil {
			return nil
		}
		g, err := w.AddSeries(gauges, []string{fmt.Sprint(n)})
		if err != nil {
			return err
		}
		atomic.StoreUint64(&g.Cells[0], GaugeWord(float64(n)))
		if ring = append(ring, g); len(ring) > 10 {
			w.Delete(ring[0])
			w.Released(ring[0])
			ring = ring[1:]
		}
	}
}

func requireDead(t *testing.T, r *Reader) {
	t.Helper()
	eventually(t, func() bool {
		alive, err := r.Alive()
		return err == nil && !alive
	}, "a killed process is seen dead")
}

func TestEveryAnsweredIncrementOutlivesSIGKILL(t *testing.T) {
	long(t)
	d := newStore(t)
	random := rand.New(rand.NewPCG(1, 2))
	seen := map[string]bool{}
	for range 50 {
		cmd, out := startChild(t, "increment", d.Path())
		answered := map[uint32]uint64{}
		reader := bufio.NewReader(out)
		kill := random.IntN(3000)
		for n := 0; ; n++ {
			if n == kill {
				require.NoError(t, cmd.Process.Kill())
			}
			var i uint32
			err := binary.Read(reader, binary.LittleEndian, &i)
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				break
			}
			require.NoError(t, err)
			answered[i]++
		}
		cmd.Wait()

		name := ""
		names, err := d.Names()
		require.NoError(t, err)
		for _, n := range names {
			if !seen[n] {
				require.Empty(t, name)
				seen[n], name = true, n
			}
		}
		if name == "" {
			require.Empty(t, answered, "killed before it had a file")
			continue
		}
		r, err := d.Open(name)
		require.NoError(t, err)
		requireDead(t, r)
		require.Equal(t, cmd.Process.Pid, r.Info().PID)
		require.NoError(t, r.Refresh())
		counted := map[uint32]uint64{}
		total, sum, gauges := uint64(0), uint64(0), 0
		for i, cells := range cellsOf(t, r) {
			s := r.Series()[i]
			switch {
			case s.Free:
			case s.Family == 0:
				var n uint32
				_, err := fmt.Sscan(s.Values[0], &n)
				require.NoError(t, err)
				require.NotContains(t, counted, n)
				counted[n] = cells[CounterInteger]
				total += cells[CounterInteger]
			case !s.Hidden:
				gauges++
				if v, set := GaugeValue(cells[0]); set {
					require.Equal(t, s.Values[0], fmt.Sprint(v))
				}
			}
		}
		for i, n := range answered {
			require.GreaterOrEqual(t, counted[i], n)
			sum += n
		}
		assert.LessOrEqual(t, total, sum+1, "one increment may not have been answered")
		assert.LessOrEqual(t, gauges, 11)
		require.NoError(t, r.Close())
	}
	require.NotEmpty(t, seen)
}

func TestProcessIsAliveExactlyUntilItEnds(t *testing.T) {
	d := newStore(t)
	cmd, out := startChild(t, "increment", d.Path())
	_, err := io.ReadFull(out, make([]byte, 4))
	require.NoError(t, err)
	names, err := d.Names()
	require.NoError(t, err)
	require.Len(t, names, 1)
	r := openReader(t, d, names[0])
	alive, err := r.Alive()
	require.NoError(t, err)
	assert.True(t, alive)
	state, err := r.State()
	require.NoError(t, err)
	assert.True(t, state.Ready)
	assert.Equal(t, 1, r.Info().Slot)

	// Those that ask do not disturb each other.
	var others [4]*Reader
	for i := range others {
		others[i] = openReader(t, d, names[0])
	}
	for range 1000 {
		for _, o := range others {
			alive, err := o.Alive()
			require.NoError(t, err)
			require.True(t, alive)
		}
	}
	require.NoError(t, cmd.Process.Kill())
	cmd.Wait()
	requireDead(t, r)
	for range 1000 {
		for _, o := range others {
			alive, err := o.Alive()
			require.NoError(t, err)
			require.False(t, alive)
		}
	}
}

func TestMonotonicIsOneClockForAllProcesses(t *testing.T) {
	d := newStore(t)
	before := osfile.Monotonic()
	_, out := startChild(t, "increment", d.Path())
	_, err := io.ReadFull(out, make([]byte, 4))
	require.NoError(t, err)
	names, err := d.Names()
	require.NoError(t, err)
	started := openReader(t, d, names[0]).Info().StartedMono
	const slack = uint64(time.Millisecond)
	assert.Greater(t, started+slack, before)
	assert.Less(t, started, osfile.Monotonic()+slack)
}
