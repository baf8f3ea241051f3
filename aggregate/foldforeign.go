package aggregate

import (
	"context"
	"fmt"
	"time"

	"github.com/onescrape/onescrape/shmstore"
	"github.com/onescrape/onescrape/shmstore/foreign"
)

// compact takes the files of dead processes in a foreign directory into its archive.
func (s *Store) compact(ctx context.Context, src *source) (taken int, err error) {
	// What this process has mapped since the last scrape keeps the file in use.
	s.mu.Lock()
	if !s.closed {
		src.view.(*foreign.View).LetGo()
	}
	s.mu.Unlock()
	merge := func(last *shmstore.Archive, dead []*foreign.Reader, living func() ([]*foreign.Reader, error),
	) (*shmstore.Archive, error) {
		return compactInto(last, dead, living, s.options.Retention)
	}
	w := s.wait(src.path)
	defer w.over()
	taken, err = src.compacts.Compact(foreign.CompactOptions{
		Context: ctx, Blocked: w.blocked, Merge: merge, Settle: s.settle, Step: w.step,
	})
	if err != nil {
		return taken, fmt.Errorf("aggregate: %w", err)
	}
	return taken, nil
}

// compactInto makes the archive that follows last, nil when it would be the same. It is foldInto for files in which
// nothing is ever deleted, so that those of the living need to be read only when it is time to age what is archived.
func compactInto(last *shmstore.Archive, dead []*foreign.Reader, living func() ([]*foreign.Reader, error),
	retention time.Duration) (*shmstore.Archive, error) {
	f := newFold(last)
	due := f.due(retention)
	if len(dead) == 0 && !due {
		return nil, nil
	}
	f.begin()
	f.unfold(f.wants(readersOf(dead), nil))
	for _, r := range dead {
		if err := f.add(r, false); err != nil {
			return nil, err
		}
		f.changed = true
	}
	var live []reader
	if due {
		readers, err := living()
		if err != nil {
			return nil, err
		}
		live = readersOf(readers)
	}
	agedAt := f.age(live, retention)
	if !f.changed {
		return nil, nil
	}
	return f.archive(agedAt), nil
}
