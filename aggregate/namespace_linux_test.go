package aggregate

import (
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/onescrape/onescrape/shmstore"
)

// What was set last counts, whatever the time namespaces are of those that have set it.
func TestMostRecentOfTwoTimeNamespaces(t *testing.T) {
	for name, offset := range map[string]string{"ahead": "1000000", "behind": "-1"} {
		t.Run(name, func(t *testing.T) {
			other := []string{"unshare", "--time", "--monotonic", offset, "--fork", "--kill-child"}
			if out, err := exec.Command(other[0], append(other[1:], "true")...).CombinedOutput(); err != nil {
				t.Skipf("no time namespace can be made here: %v: %s", err, out)
			}
			dir := newDir(t)
			s := openStore(t, dir, Options{})
			there, here := startChildBy(t, dir, 0, other...), startLocal(t, dir, 1)
			set := func(v float64) action {
				return action{Do: "set", Family: gaugeFamily("g", shmstore.MostRecent), V: v}
			}
			there.do(set(1), ready)
			here.do(set(2), ready)
			assert.Equal(t, "g 2\n", text(t, s))
			there.do(set(3))
			assert.Equal(t, "g 3\n", text(t, s))
		})
	}
}
