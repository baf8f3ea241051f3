package shmstore

import (
	"context"
	"fmt"
)

// QuarantinePrefix begins the names of files in a store that other libraries' processes wrote. They are in it for package foreign,
// which reads them and takes them into the archive.
const QuarantinePrefix = "aside-"

// RewriteOptions are the options of Rewrite.
type RewriteOptions struct {
	// Next makes the next archive's Families of the last one, nil when there is none, and names the files, which begin with
	// QuarantinePrefix, that it has taken. It returns nil when there is nothing to write. It does not change last.
	Next func(last *Archive) (next *Archive, taken []string, err error)
	// Context and Blocked are those of FoldOptions.
	Context context.Context
	Blocked func(pid int)
	// Step, if not nil, is called with the name of each step before it is made. The process may be killed in any of them.
	Step func(step string)
}

// Rewrite writes the next archive of a store that has no files of ours, and removes the files that it has taken, and
// returns how many they are. It goes about it as Fold does: under the same lock, with the same promise about a process
// that is killed at any step, and the same errors.
func (v *View) Rewrite(o RewriteOptions) (taken int, err error) {
	if o.Step == nil {
		o.Step = func(string) {}
	}
	lock, err := v.dir.lockForFold(o.Context, o.Blocked)
	if err != nil {
		return 0, fmt.Errorf("shmstore: fold: %w", err)
	}
	defer lock.Close()
	f := folding{view: v, dir: v.dir, o: FoldOptions{Step: o.Step}}
	taken, err = f.rewrite(o.Next)
	if err != nil {
		return taken, fmt.Errorf("shmstore: fold %s: %w", v.dir.path, err)
	}
	return taken, nil
}

func (f *folding) rewrite(make func(*Archive) (*Archive, []string, error)) (int, error) {
	f.o.Step("locked")
	f.removeHidden()
	last, err := f.last()
	if err != nil {
		return 0, err
	}
	if err := f.unlink(last); err != nil {
		return 0, err
	}
	next, taken, err := make(last)
	if err != nil {
		return 0, err
	}
	return f.commit(last, next, taken, nil)
}
