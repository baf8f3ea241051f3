package master

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What an upgrade does not hand over of the supervisor, of slots and of processes, beside what their embedded states have, and
// why. A new field must be in the embedded state, or here.
var notHandedOver = map[string]string{
	"supervisor.cfg":       "the new program has its own",
	"supervisor.log":       "the new program has its own",
	"supervisor.environ":   "the new program reads it",
	"supervisor.loop":      "the first step makes a new agenda",
	"supervisor.events":    "they are drained before the exec",
	"supervisor.lifeline":  "handover.Lifeline",
	"supervisor.store":     "storeHandover",
	"supervisor.sockets":   "handover.Groups and Parked",
	"supervisor.endpoint":  "endpointHandover",
	"supervisor.metrics":   "the record in the store",
	"supervisor.announcer": "the record in the store",
	"supervisor.remnants":  "handover.Remnants",
	"supervisor.sys":       "the new program has its own",
	"supervisor.slots":     "handover.Slots",
	"supervisor.processes": "handover.Slots and Gone",
	"supervisor.releases":  "releaseHandover",
	"supervisor.requests":  "the rollout that follows does what a HUP would, and a slot that could not be opened is tried again",
	"supervisor.startup":   "handover.Speaks and Ever; complaints are made anew",
	"supervisor.shutdown":  "a master that stops does not upgrade",

	"slot.number":   "its place in handover.Slots",
	"slot.cur":      "slotHandover.Cur",
	"slot.next":     "an upgrade begins when no replacement goes on",
	"slot.old":      "slotHandover.Old",
	"slot.retiring": "an upgrade begins when no slot is given up",
	"slot.waits":    "slotHandover.Remaining",
	"slot.short":    "the next start learns it",

	"process.notify":           "processHandover.Notify and Name",
	"process.readyFrom":        "processHandover.Remaining",
	"process.release":          "processHandover.Release",
	"process.rollout":          "the rollout of the upgrade is another one",
	"process.start":            "is read again",
	"process.leads":            "is read again",
	"process.look":             "the next deadline asks again",
	"process.recycleRequested": "the upgrade replaces the process anyway",
	"process.forkChecked":      "only what is not ready is looked at, and the upgrade replaces that",
	"process.end":              "what has ended is reaped before the exec",
}

// Every field of the supervisor's state is handed over, or listed above with the reason.
func TestEveryFieldIsHandedOverOrListed(t *testing.T) {
	seen := make(map[string]bool)
	for _, of := range []any{supervisor{}, slot{}, process{}} {
		typ := reflect.TypeOf(of)
		embedded := 0
		for i := range typ.NumField() {
			field := typ.Field(i)
			name := typ.Name() + "." + field.Name
			if field.Anonymous {
				embedded++
				continue
			}
			seen[name] = true
			assert.NotEmpty(t, notHandedOver[name], "%s is neither in the embedded state nor listed as not handed over", name)
		}
		assert.Equal(t, 1, embedded, "%s embeds its state", typ.Name())
	}
	for name := range notHandedOver {
		assert.True(t, seen[name], "%s is listed but is no field", name)
	}
}

// Each field of an embedded state comes out of the JSON of a handover as it went in.
func TestStatesAreTheirJSON(t *testing.T) {
	fill := func(v reflect.Value) {
		for i := range v.NumField() {
			switch f := v.Field(i); f.Interface().(type) {
			case int:
				f.SetInt(int64(i + 1))
			case string:
				f.SetString(v.Type().Field(i).Name)
			case bool:
				f.SetBool(true)
			case time.Time:
				f.Set(reflect.ValueOf(time.Unix(int64(i+1), 0).UTC()))
			case *Rollout:
				f.Set(reflect.ValueOf(&Rollout{ID: 7}))
			default:
				require.Failf(t, "a kind of field that this test does not know", "%s", v.Type().Field(i).Name)
			}
		}
	}
	in := handover{Slots: []slotHandover{{Cur: &processHandover{}}}}
	fill(reflect.ValueOf(&in.masterState).Elem())
	fill(reflect.ValueOf(&in.Slots[0].slotState).Elem())
	fill(reflect.ValueOf(&in.Slots[0].Cur.processState).Elem())
	var out handover
	require.NoError(t, json.Unmarshal(marshal(in), &out))
	assert.Equal(t, in.masterState, out.masterState)
	assert.Equal(t, in.Slots[0].slotState, out.Slots[0].slotState)
	assert.Equal(t, in.Slots[0].Cur.processState, out.Slots[0].Cur.processState)
}
