package origin

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/onescrape/onescrape/shmstore"
)

func TestRank(t *testing.T) {
	wall := time.Unix(1000, 0)
	process := func(name string, thisBoot bool, started time.Time, mono uint64, state shmstore.State) Origin {
		m := Origin{Info: shmstore.Info{Name: name, ThisBoot: thisBoot, Started: started, StartedMono: mono}}
		m.Observe(state, false)
		return m
	}
	ready := func(at uint64) shmstore.State { return shmstore.State{Ready: true, ReadyAt: at} }
	ascending := []Origin{
		process("a", false, wall, 5e9, shmstore.State{}),
		process("b", false, wall.Add(1), 1e9, shmstore.State{}), // of yet another boot
		process("c", true, wall, 10, shmstore.State{}),
		process("d", true, wall.Add(-1), 20, shmstore.State{}),
		process("e", true, wall, 20, shmstore.State{}), // at the same time: by name
		process("f", false, wall, 5e9, ready(7e9)),     // at 1002 s
		process("g", false, wall.Add(time.Second), 9e9, ready(10.5e9)),
		process("h", true, wall, 30, ready(40)),
		process("i", true, wall, 25, ready(50)),
	}
	for i := range ascending {
		for j := range ascending {
			c := ascending[i].Compare(&ascending[j])
			switch {
			case i < j:
				assert.Negative(t, c, "%s %s", ascending[i].Info.Name, ascending[j].Info.Name)
			case i == j:
				assert.Zero(t, c)
			default:
				assert.Positive(t, c, "%s %s", ascending[i].Info.Name, ascending[j].Info.Name)
			}
		}
	}
	m := ascending[0]
	assert.True(t, m.Observe(ready(6e9), true), "it said READY")
	assert.False(t, m.Observe(ready(6e9), true))
}
