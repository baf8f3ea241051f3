package master

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTheOldestIsRecycledFirst(t *testing.T) {
	now := time.Now()
	slotOf := func(n int, age time.Duration, renew bool, state string) *slot {
		return &slot{number: n, cur: &process{processState: processState{Slot: n, State: state}, readyFrom: now.Add(-age), recycleRequested: renew}}
	}
	for _, tt := range []struct {
		name  string
		slots []*slot
		want  int // -1: none
	}{
		{"nobody", nil, -1},
		{"nobody asks", []*slot{slotOf(0, time.Hour, false, ready)}, -1},
		{"one that was just replaced asks again", []*slot{slotOf(0, time.Second, true, ready), slotOf(1, time.Hour, true, ready)}, 1},
		{"the oldest does not ask", []*slot{slotOf(0, time.Second, true, ready), slotOf(1, time.Hour, false, ready)}, 0},
		{"the oldest is not ready", []*slot{slotOf(0, time.Hour, true, starting), slotOf(1, time.Second, true, ready)}, 1},
		{"a slot without a process", []*slot{{number: 0}, slotOf(1, time.Second, true, ready)}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &supervisor{slots: tt.slots, masterState: masterState{Target: len(tt.slots)}}
			op := s.nextOperation(time.Now())
			if tt.want < 0 {
				assert.Nil(t, op)
				return
			}
			require.IsType(t, &recycling{}, op)
			assert.Equal(t, tt.want, op.(*recycling).slot.number)
		})
	}
}
