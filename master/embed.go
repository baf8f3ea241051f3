package master

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/onescrape/onescrape/aggregate"
	"github.com/onescrape/onescrape/master/internal/environment"
	"github.com/onescrape/onescrape/master/internal/release"
	"github.com/onescrape/onescrape/master/internal/store"
	"github.com/onescrape/onescrape/shmstore"
	"github.com/onescrape/onescrape/worker"
	"github.com/onescrape/onescrape/worker/logqueue"
	"github.com/onescrape/onescrape/worker/sigpipe"
)

// Embed gives the store to a prefork server that starts its own workers, as fasthttp's and Fiber's prefork do: call it in
// main, before the server forks. In the master it opens the store in dir ("": the environment's ONESCRAPE_DIR, else one for
// this user and program), names it to the processes that are started from now on, folds what dead ones leave, and returns
// the store, whose Handler the master serves on a port of its own. In a child it returns nil and nil: the child's metrics
// went to the store by themselves.
//
// Embed returns an error if another master has the store. The master's own metrics stay in its memory. Close the Store at
// the end, or leave that to the end of the process. Call Embed once.
func Embed(dir string, o aggregate.Options) (*aggregate.Store, error) {
	if master := os.Getenv(environment.Embed); worked || master != "" && master != strconv.Itoa(os.Getpid()) {
		return nil, nil
	}
	if embedded != nil {
		return nil, errors.New("master: Embed was called before in this process")
	}
	if dir == "" {
		dir, _ = Config{Store: os.Getenv("ONESCRAPE_DIR"), Service: filepath.Base(release.Own().Path)}.storePath()
	}
	sigpipe.Survive()
	o.Logger = slog.New(logqueue.Wrap(cmp.Or(o.Logger, slog.Default()).Handler()))
	d, err := shmstore.OpenDir(dir, shmstore.DirOptions{Create: true})
	if err != nil {
		return nil, err
	}
	defer d.Close()
	lock, err := d.LockMaster()
	if err != nil {
		return nil, err
	}
	merged, err := aggregate.Open(d.Path(), o)
	if err == nil {
		err = worker.Detach()
	}
	for key, value := range map[string]string{"ONESCRAPE_DIR": d.Path(), environment.Embed: strconv.Itoa(os.Getpid())} {
		if err == nil {
			err = os.Setenv(key, value)
		}
	}
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("master: embed: %w", err)
	}
	embedded = lock
	err = lock.SetStatus(marshal(Status{PID: os.Getpid(), Version: version, Started: time.Now(), Store: d.Path(),
		Ready: true, Addresses: []string{}, Slots: []Slot{}, Steering: "off: this master supervises no workers"}))
	if errors.Is(err, shmstore.ErrFull) {
		o.Logger.Error("the store does not take the master's status: commands do not see it", "err", err)
	} else if err != nil {
		return nil, fmt.Errorf("master: embed: %w", err)
	}
	if !o.ReadOnly {
		store.Fold(merged, o.Logger)
	}
	return merged, nil
}

// embedded is the lock of the store that Embed opened; the process has it for as long as it lives.
var embedded *shmstore.Lock
