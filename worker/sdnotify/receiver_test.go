package sdnotify

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A service says that it is ready; its supervisor receives it.
func Example() {
	receiver, err := NewReceiver()
	if err != nil {
		panic(err)
	}
	defer receiver.Close()
	messages := make(chan Message)
	go receiver.Run(os.Getpid(), func(m Message) { messages <- m })

	service := NewNotifier(receiver.Name()) // the value of NOTIFY_SOCKET
	if err := service.Send("READY=1", "STATUS="+OneLine("two\nlines")); err != nil {
		panic(err)
	}
	m := <-messages
	fmt.Println(m.Fields["READY"], m.Fields["STATUS"])
	// Output: 1 two lines
}

// collect runs a receiver for a pid; the function that it returns ends that and returns all messages.
func collect(r *Receiver, pid int) (finish func() []Message) {
	var got []Message
	over := make(chan struct{})
	go func() {
		defer close(over)
		r.Run(pid, func(m Message) { got = append(got, m) })
	}()
	return func() []Message {
		r.Finish()
		<-over
		return got
	}
}

// What has arrived before Finish and before Look is passed on before their messages.
func TestNothingThatArrivedIsLost(t *testing.T) {
	r, err := NewReceiver()
	require.NoError(t, err)
	defer r.Close()
	n := NewNotifier(r.Name())
	for _, first := range []bool{true, false} {
		if first {
			require.NoError(t, n.Send("A=1"))
		}
		finish := collect(r, os.Getpid())
		require.NoError(t, n.Send("B=2", "B=3"))
		number := r.Look()
		require.NoError(t, n.Send("no field", "C=4"))
		got := finish()
		var fields []map[string]string
		answered := false
		for _, m := range got {
			if m.Fields != nil {
				fields = append(fields, m.Fields)
			}
			if m.Answered == number {
				answered = true
				assert.Contains(t, fields, map[string]string{"B": "3"}, "it came before the look")
			}
		}
		want := []map[string]string{{"A": "1"}, {"B": "3"}, {"C": "4"}}
		if !first {
			want = want[1:]
		}
		assert.Equal(t, want, fields)
		assert.True(t, answered || got[len(got)-1].Over)
		assert.True(t, got[len(got)-1].Over)
		r.Start()
	}
}

// Another process's words do not count, except that its READY=1 is worth one message.
func TestOnlyTheServiceCounts(t *testing.T) {
	r, err := NewReceiver()
	require.NoError(t, err)
	defer r.Close()
	n := NewNotifier(r.Name())
	for range 3 {
		require.NoError(t, n.Send("READY=1"))
	}
	got := collect(r, os.Getpid()+1)()
	assert.Equal(t, []Message{{ForeignReady: os.Getpid()}, {Over: true}}, got)
}

// A receiver goes on from a descriptor that its predecessor left.
func TestAdoptReceiver(t *testing.T) {
	r, err := NewReceiver()
	require.NoError(t, err)
	require.NoError(t, NewNotifier(r.Name()).Send("A=1"))
	var copied int
	require.NoError(t, r.Control(func(fd int) (err error) {
		copied, err = unix.Dup(fd)
		return err
	}))
	r.Close()
	next, err := AdoptReceiver(copied, r.Name())
	require.NoError(t, err)
	defer next.Close()
	got := collect(next, os.Getpid())()
	assert.Equal(t, map[string]string{"A": "1"}, got[0].Fields)
	_, err = AdoptReceiver(-1, "none")
	assert.Error(t, err)
}

// A supervisor that does not read is not waited for, and one that is gone counts as told.
func TestTrySend(t *testing.T) {
	r, err := NewReceiver()
	require.NoError(t, err)
	n := NewNotifier(r.Name())
	sent := 0
	for ; sent < 1e6 && n.TrySend("STATUS="+strings.Repeat("x", 1000)); sent++ {
	}
	assert.Less(t, sent, int(1e6), "its queue is full")
	r.Close()
	assert.True(t, n.TrySend("READY=1"))
	assert.Error(t, n.Send("READY=1"))
	assert.True(t, (*Notifier)(nil).TrySend("READY=1"))
	assert.NoError(t, (*Notifier)(nil).Send("READY=1"))
	assert.Nil(t, NewNotifier(""))
}

func TestSockets(t *testing.T) {
	t.Setenv("LISTEN_FDS", "2")
	t.Setenv("LISTEN_PID", "7")
	t.Setenv("LISTEN_FDNAMES", "web:admin")
	s := TakeSockets()
	assert.Equal(t, Sockets{FDs: "2", PID: "7", Names: "web:admin"}, s)
	assert.Equal(t, Sockets{}, TakeSockets(), "the variables are gone")
	assert.True(t, s.AreFor(7))
	assert.False(t, s.AreFor(8))
	assert.Equal(t, []string{"web", "admin", ""}, []string{s.Name(0), s.Name(1), s.Name(2)})
	n, err := s.Count()
	require.NoError(t, err)
	assert.Equal(t, 2, n)
	for _, wrong := range []string{"many", "-1"} {
		_, err := Sockets{FDs: wrong}.Count()
		assert.ErrorContains(t, err, "LISTEN_FDS")
	}
}
