package master

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/master/internal/proc"
)

func init() {
	roles["plain"] = plainServer
	roles["squatter"] = squatter
}

// plainServer is a worker that knows socket activation and nothing of the lifeline. PLAIN_IGNORES_TERM and PLAIN_NOBODY
// change its ways.
func plainServer() error {
	if os.Getenv("PLAIN_IGNORES_TERM") != "" {
		signal.Ignore(syscall.SIGTERM)
	}
	if os.Getenv("PLAIN_NOBODY") != "" {
		if err := syscall.Setuid(nobody); err != nil {
			return err
		}
	}
	l, err := net.FileListener(os.NewFile(3, "socket"))
	if err != nil {
		return err
	}
	say(os.Getenv("NOTIFY_SOCKET"), "READY=1")
	return http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, os.Getpid()) }))
}

// squatter listens at an address of its own and says where.
func squatter() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	return http.Serve(l, nil)
}

// killedMaster starts a master, kills it and returns its last status.
func killedMaster(t *testing.T, o options, env ...string) (*testMaster, Status) {
	t.Helper()
	m := startMaster(t, o, env...)
	s := m.status()
	t.Cleanup(func() {
		for _, sl := range s.Slots {
			syscall.Kill(sl.PID, syscall.SIGKILL)
		}
	})
	m.signal(syscall.SIGKILL)
	require.Eventually(t, func() bool { return proc.Start(m.cmd.Process.Pid) == 0 }, patient, time.Millisecond,
		"reaped, so that its lock has gone too")
	return m, s
}

// Workers that do not notice that their master was killed are stopped by the next one, and so is whoever else of this
// user holds the sockets.
func TestNewMasterAfterSIGKILL(t *testing.T) {
	long(t)
	exe, err := os.Executable()
	require.NoError(t, err)
	self := []string{exe, "role:plain"}
	helper, helpers := withHelper(t, "setsid sleep 1000")
	helper[2] = strings.Replace(helper[2], "as-command", "role:plain", 1)
	helper[3] = exe
	for name, test := range map[string]struct {
		command []string
		env     []string
		says    string
	}{
		"stops":           {self, nil, "it is told to stop"},
		"ignores TERM":    {self, []string{"PLAIN_IGNORES_TERM=1"}, "did not stop in time and is killed"},
		"is another user": {self, []string{"PLAIN_NOBODY=1"}, "it is told to stop"},
		"left a helper":   {helper, nil, "command=sleep"},
	} {
		t.Run(name, func(t *testing.T) {
			if test.env != nil && test.env[0] == "PLAIN_NOBODY=1" {
				mustBeRoot(t)
			}
			o := options{"Command": test.command, "GracefulTimeout": time.Second, "ReadySettle": time.Millisecond,
				"Listen": []string{"127.0.0.1:0", "unix:" + t.TempDir() + "/s"}}
			m, s := killedMaster(t, o, test.env...)
			for _, sl := range s.Slots {
				assert.True(t, proc.Alive(sl.PID))
			}
			o["Store"], o["Listen"] = m.store, s.Addresses
			next := startMaster(t, o, test.env...)
			next.logged(test.says)
			for _, sl := range s.Slots {
				assert.False(t, proc.Alive(sl.PID))
				next.logged("pid=" + strconv.Itoa(sl.PID) + " ")
			}
			next.answersAll(20)
			if name == "left a helper" {
				assert.False(t, proc.Alive(helpers()[0]))
			}
		})
	}
}

// They are stopped also where the new master has other addresses.
func TestNewMasterAtAnotherAddress(t *testing.T) {
	exe, err := os.Executable()
	require.NoError(t, err)
	o := options{"Command": []string{exe, "role:plain"}, "GracefulTimeout": time.Second}
	m, s := killedMaster(t, o)
	o["Store"] = m.store
	next := startMaster(t, o)
	for _, sl := range s.Slots {
		assert.False(t, proc.Alive(sl.PID))
	}
	next.answersAll(10)
}

// What holds an address without being the last master's is not stopped, whatever its environment says: the new master
// refuses, and so does one that finds a socket of the last one with another user.
func TestNewMasterStopsNobodyElse(t *testing.T) {
	m, s := killedMaster(t, nil)
	cmd := exec.Command(m.program, "role:squatter")
	cmd.Env = append(os.Environ(), "ONESCRAPE_DIR="+m.store)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	defer cmd.Wait()
	defer cmd.Process.Kill()
	addr, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	addr = strings.TrimSpace(addr)
	next := launchMaster(t, options{"Store": m.store, "Listen": []string{addr}})
	assert.Equal(t, 1, next.finished())
	next.logged("in use by pid " + strconv.Itoa(cmd.Process.Pid))
	assert.True(t, proc.Alive(cmd.Process.Pid))
	for _, sl := range s.Slots {
		require.Eventually(t, func() bool { return !proc.Alive(sl.PID) }, patient, time.Millisecond)
	}
}

func TestOtherUsersHolderIsLeftAlone(t *testing.T) {
	mustBeRoot(t)
	if _, err := exec.LookPath("setpriv"); err != nil {
		t.Skip(err)
	}
	command, helpers := withHelper(t, "setsid setpriv --reuid "+strconv.Itoa(nobody)+" --clear-groups sleep 1000")
	m, s := killedMaster(t, options{"Command": command, "Workers": 1, "ReadySettle": time.Millisecond})
	helper := helpers()[0]
	require.Eventually(t, func() bool { return !proc.OwnUser(helper) }, patient, time.Millisecond)
	next := launchMaster(t, options{"Command": command, "Workers": 1, "Store": m.store, "Listen": s.Addresses})
	assert.Equal(t, 1, next.finished())
	next.logged("in use by pid " + strconv.Itoa(helper))
	assert.True(t, proc.Alive(helper))
}
