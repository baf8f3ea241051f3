package master

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func init() { roles["late"] = lateWorker }

// pause stops the master for so long by SIGSTOP.
func (m *testMaster) pause(d time.Duration, meanwhile func()) {
	m.t.Helper()
	m.signal(syscall.SIGSTOP)
	resumed := time.Now().Add(d)
	require.Eventually(m.t, func() bool { return stoppedWhole(m.cmd.Process.Pid) }, patient, time.Millisecond)
	meanwhile()
	time.Sleep(time.Until(resumed)) // the pause itself
	m.signal(syscall.SIGCONT)
}

// unharmed holds that the workers of before still serve, after the master has had time to judge them.
func (m *testMaster) unharmed(before Status) {
	m.t.Helper()
	m.signal(syscall.SIGTTIN)
	m.until("it goes on", func(s Status) bool {
		return len(s.Slots) > len(before.Slots) && s.Slots[len(before.Slots)].State == ready
	})
	m.signal(syscall.SIGTTOU)
	after := m.until("the worker that was added has gone", func(s Status) bool { return len(s.Slots) == len(before.Slots) })
	for i, sl := range before.Slots {
		assert.Equal(m.t, sl.PID, after.Slots[i].PID, "slot %d: %s", i, after.Slots[i].LastExit)
	}
	assert.NotContains(m.t, m.log.String(), "no sign of life")
}

// A master that is stopped for longer than the watchdog allows kills none of its workers for it.
func TestPausedMasterKillsNobody(t *testing.T) {
	long(t)
	m := startMaster(t, options{"Workers": 8, "Watchdog": time.Second, "Linger": 10 * time.Millisecond})
	before := m.status()
	for range 2 {
		m.pause(3*time.Second, func() {})
		m.unharmed(before)
	}
	m.logged("all deadlines are put off")
	// The watchdog still works.
	hung := m.status().Slots[0].PID
	require.NoError(t, syscall.Kill(hung, syscall.SIGSTOP))
	m.until("a hung worker is replaced", func(s Status) bool { return s.Slots[0].PID != hung && s.Slots[0].State == ready })
	assert.Contains(t, m.log.String(), "no sign of life")
}

// A container that is frozen, workers and all, kills none of them when it goes on.
func TestFrozenCgroup(t *testing.T) {
	long(t)
	mustBeRoot(t)
	root := t.TempDir()
	if err := unix.Mount("none", root, "cgroup2", 0, ""); err != nil {
		t.Skip("cgroup v2 cannot be mounted: ", err)
	}
	t.Cleanup(func() { unix.Unmount(root, unix.MNT_DETACH) })
	group := filepath.Join(root, fmt.Sprintf("onescrape-test-%d", os.Getpid()))
	if err := os.Mkdir(group, 0o755); err != nil {
		t.Skip("no cgroup can be made: ", err)
	}
	write := func(group, file, text string) {
		t.Helper()
		require.NoError(t, os.WriteFile(filepath.Join(group, file), []byte(text), 0))
	}
	m := startMaster(t, options{"Workers": 8, "Watchdog": time.Second, "Linger": 10 * time.Millisecond})
	before := m.status()
	pids := []int{m.cmd.Process.Pid}
	for _, sl := range before.Slots {
		pids = append(pids, sl.PID)
	}
	for _, pid := range pids {
		write(group, "cgroup.procs", strconv.Itoa(pid))
	}
	t.Cleanup(func() {
		write(group, "cgroup.freeze", "0")
		text, _ := os.ReadFile(filepath.Join(group, "cgroup.procs"))
		for _, pid := range strings.Fields(string(text)) {
			os.WriteFile(filepath.Join(root, "cgroup.procs"), []byte(pid), 0)
		}
		assert.NoError(t, os.Remove(group))
	})
	for range 3 {
		write(group, "cgroup.freeze", "1")
		thaw := time.Now().Add(3 * time.Second)
		require.Eventually(t, func() bool {
			text, err := os.ReadFile(filepath.Join(group, "cgroup.events"))
			return err == nil && strings.Contains(string(text), "frozen 1")
		}, patient, time.Millisecond)
		time.Sleep(time.Until(thaw)) // the pause itself
		write(group, "cgroup.freeze", "0")
		m.unharmed(before)
	}
}

// lateWorker is ready when a file is there, and says so in another one.
func lateWorker() error {
	c := make(chan os.Signal, 4)
	signal.Notify(c, syscall.SIGTERM)
	for dir, said := os.Args[2], false; ; {
		if _, err := os.Stat(filepath.Join(dir, "go")); err == nil && !said {
			said = true
			if err := say(os.Getenv("NOTIFY_SOCKET"), "READY=1"); err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(os.Getpid())), nil, 0o600); err != nil {
				return err
			}
		}
		select {
		case <-c:
			return nil
		case <-time.After(time.Millisecond):
		}
	}
}

// A successor that is ready in time is, also where its READY lies there when the master goes on after its deadline.
func TestReadyDuringAPause(t *testing.T) {
	long(t)
	exe, err := os.Executable()
	require.NoError(t, err)
	dir := t.TempDir()
	permit := filepath.Join(dir, "go")
	require.NoError(t, os.WriteFile(permit, nil, 0o600))
	const timeout = 2 * time.Second
	m := startMaster(t, options{"Workers": 1, "Command": []string{exe, "role:late", dir}, "ReadySettle": time.Millisecond,
		"ReadyTimeout": timeout})
	for i := range 4 {
		require.NoError(t, os.Remove(permit))
		m.signal(syscall.SIGHUP)
		require.Eventually(t, func() bool { return strings.Count(m.log.String(), `msg="worker started"`) == i+2 }, patient,
			time.Millisecond, "a pause before the successor is started would be one in which nothing happens")
		m.pause(timeout+500*time.Millisecond, func() {
			require.NoError(t, os.WriteFile(permit, nil, 0o600))
			require.Eventually(t, func() bool {
				said, err := filepath.Glob(filepath.Join(dir, "[0-9]*"))
				return err == nil && len(said) == i+2
			}, patient, time.Millisecond)
		})
		r := m.until("the rollout is over", func(s Status) bool {
			return s.Rollout != nil && s.Rollout.ID == i+1 && s.Rollout.State != running
		}).Rollout
		require.Equal(t, done, r.State, r.Error)
	}
}

// Every time that a part of the supervisor keeps is a moment, which pauses put off and upgrades hand over, or one of those
// that nothing is decided by.
func TestEveryTimeIsAMoment(t *testing.T) {
	shown := map[string]string{
		"masterState.Started": "shown", "processState.Started": "shown", "slotState.Started": "shown", "Status.Started": "shown",
		"Slot.Started": "shown", "Release.Changed": "shown", "end.at": "compared with what was before it only",
		"rolling.began": "measured", "upgrading.began": "measured", "orphans.seen": "has shift", "Loop.wakeAt": "has Shift",
		"group.stopAt": "has Shift", "group.killed": "has Shift", "group.lookAt": "of a look", "strangers.lookAt": "of a look",
		"closingSlot.lookAt": "of a look", "closingSlot.pollAt": "of a look", "Exclusion.began": "since it the machine goes on", "Group.probeAt": "of a look", "watch.lookAt": "of a look",
		"leftover.stopAt": "of a start, where nothing is supervised yet", "prober.until": "bounds one call",
		"File.Changed": "of a file", "handover.Began": "measured", "handover.Executed": "what all others are compared with",
	}
	moment := make(map[string]bool)
	for _, of := range []timed{&shutdown{}, &growthState{}, &announcer{}, &process{}, &slot{}, &retirement{}} {
		names := fieldNames(reflect.ValueOf(of).Elem())
		of.moments(func(_ string, at *time.Time) { moment[names[uintptr(reflect.ValueOf(at).UnsafePointer())]] = true })
	}
	paths, err := filepath.Glob("*.go")
	require.NoError(t, err)
	internal, err := filepath.Glob("internal/*/*.go")
	require.NoError(t, err)
	paths = append(paths, internal...)
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		require.NoError(t, err)
		for _, decl := range file.Decls {
			ast.Inspect(decl, func(n ast.Node) bool {
				typ, ok := n.(*ast.TypeSpec)
				if !ok {
					return true
				}
				st, ok := typ.Type.(*ast.StructType)
				if !ok {
					return true
				}
				for _, field := range st.Fields.List {
					for _, name := range field.Names {
						key := typ.Name.Name + "." + name.Name
						if isTime(field.Type) && !moment[key] && shown[key] == "" {
							t.Errorf("%s is no moment: name it in a method moments, or here if nothing is decided by it", key)
						}
					}
				}
				return true
			})
		}
	}
	assert.Len(t, moment, 13)
}

// fieldNames returns Type.Field by the address of the field, also of embedded structs.
func fieldNames(v reflect.Value) map[uintptr]string {
	out := make(map[uintptr]string)
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if field.Anonymous && field.Type.Kind() == reflect.Struct {
			maps.Copy(out, fieldNames(v.Field(i)))
			continue
		}
		out[v.Field(i).UnsafeAddr()] = v.Type().Name() + "." + field.Name
	}
	return out
}

func isTime(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.SelectorExpr:
		x, ok := e.X.(*ast.Ident)
		return ok && x.Name == "time" && e.Sel.Name == "Time"
	case *ast.MapType:
		return isTime(e.Value)
	case *ast.ArrayType:
		return isTime(e.Elt)
	case *ast.StarExpr:
		return isTime(e.X)
	}
	return false
}
