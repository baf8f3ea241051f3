package reuseport

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/assert"
)

// Every field of a group is in its State, or listed here with the reason.
func TestEveryFieldIsInTheState(t *testing.T) {
	listed := map[string]string{
		"Group.bound":    "the sockets have it",
		"Group.text":     "the sockets have it",
		"Group.kernel":   "the next program asks the same kernel",
		"Group.Since":    "State.Since",
		"Group.shared":   "State.Shared",
		"Group.why":      "State.Why",
		"Group.sockets":  "State.Sockets and Strangers",
		"Group.changed":  "a table is compared before it is handed over, and after",
		"Group.unsure":   "State.Strangers is nil",
		"Group.probeAt":  "the next program probes at once",
		"Group.attached": "the next program attaches its own",

		"Address.Name":     "State.Name",
		"Address.Network":  "State.Network",
		"Address.Addr":     "State.Addr",
		"Address.Blocking": "the next configuration says it",
		"Address.mode":     "the next configuration says it",
		"Address.group":    "the next configuration says it",
	}
	for _, of := range []any{Group{}, Address{}} {
		typ := reflect.TypeOf(of)
		for i := range typ.NumField() {
			if field := typ.Field(i); !field.Anonymous {
				name := typ.Name() + "." + field.Name
				assert.NotEmpty(t, listed[name], "%s is neither in State nor listed", name)
				delete(listed, name)
			}
		}
	}
	assert.Empty(t, listed, "listed but no fields")
}
