package cache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// makeRoom has entries go until one more fits. The caller has the lock.
func (s *Store) makeRoom(more file) error {
	all, err := s.files()
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(f file) bool { return f.name == more.name }) // it is replaced
	gone, ok := chosen(all, s.limits, more)
	if !ok {
		return fmt.Errorf("%w, beside what protected branches keep", ErrTooLarge)
	}
	return s.remove(gone)
}

// chosen are the entries that go when one more is kept: of its own project,
// then of all, those that were used least recently. ok is false when that is
// not enough.
func chosen(all []file, l Limits, more file) (gone []file, ok bool) {
	all = slices.SortedFunc(slices.Values(all), func(a, b file) int { return a.used.Compare(b.used) })
	fit := func(most int64, counts, may func(file) bool) bool {
		sum := more.size
		for _, f := range all {
			if counts(f) {
				sum += f.size
			}
		}
		all = slices.DeleteFunc(all, func(f file) bool {
			if sum <= most || !may(f) {
				return false
			}
			sum -= f.size
			gone = append(gone, f)
			return true
		})
		return sum <= most
	}
	own := func(f file) bool { return f.dir == more.dir }
	unprotected := func(f file) bool { return own(f) && !f.protected }
	if !fit(l.Project, own, unprotected) && !(more.protected && fit(l.Project, own, own)) {
		return gone, false
	}
	every := func(file) bool { return true }
	others := func(f file) bool { return more.protected || !f.protected } // whoever may push to some branch displaces nobody's protected ones
	return gone, fit(l.Total, every, others)
}

func (s *Store) remove(files []file) (failed error) {
	for _, f := range files {
		if err := os.Remove(filepath.Join(s.dir, f.name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

// Sweep removes what is too old, what is broken, what was left half-written,
// and what is more than the limits, which may have become less. It says how
// many entries went; its error also names the broken ones.
func (s *Store) Sweep(now time.Time) (gone int, err error) {
	all, failed := s.List()
	old := slices.DeleteFunc(all, func(e Info) bool { return now.Sub(e.Created) <= s.limits.Age })
	for _, e := range old {
		if f, err := os.Open(filepath.Join(s.dir, e.file())); err == nil {
			if h, err := header(f, e.file()); err == nil && h.Created.Equal(e.Created) { // else it was replaced
				failed = errors.Join(failed, s.drop(f, e.file()))
				gone++
			}
			f.Close()
		}
	}
	more, err := s.tidy()
	return gone + more, errors.Join(failed, err)
}

// tidy keeps to the limits and removes drafts whose writer is gone.
func (s *Store) tidy() (gone int, err error) {
	if _, err := os.Stat(s.dir); err != nil { // nothing was ever kept
		return 0, nil
	}
	unlock, err := s.lock()
	if err != nil {
		return 0, err
	}
	defer unlock()
	all, err := s.files()
	if err != nil {
		return 0, err
	}
	projects := map[string]bool{}
	for _, f := range all {
		projects[f.dir] = true
	}
	var failed error
	for dir := range projects { // as if each kept something of no size
		over, _ := chosen(all, s.limits, file{dir: dir, protected: true})
		failed = errors.Join(failed, s.remove(over))
		gone += len(over)
		all = slices.DeleteFunc(all, func(f file) bool { return slices.Contains(over, f) })
	}
	return gone, errors.Join(failed, s.sweepDrafts(), s.sweepFolders())
}

func (s *Store) sweepDrafts() (failed error) {
	left, err := os.ReadDir(filepath.Join(s.dir, drafts))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, one := range left {
		path := filepath.Join(s.dir, drafts, one.Name())
		f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if err != nil {
			continue
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			failed = errors.Join(failed, os.Remove(path))
		}
		f.Close()
	}
	return failed
}

// sweepFolders removes those that are empty. The caller has the lock, under
// which they are made.
func (s *Store) sweepFolders() error {
	projects, err := os.ReadDir(s.dir)
	for _, p := range projects {
		if projectRE().MatchString(p.Name()) {
			for _, one := range []string{"protected", "unprotected", ""} {
				os.Remove(filepath.Join(s.dir, p.Name(), one)) // fails while something is in it
			}
		}
	}
	return err
}

// Wipe removes all entries of a project, given by its path or number, or of
// all projects if that is empty. It says how many that were, and their bytes.
// A project that was renamed is found by each name under which it kept
// something.
func (s *Store) Wipe(project string) (count int, bytes int64, err error) {
	listed, broken := s.List()
	var whose []string
	for _, e := range listed {
		if project == "" || e.Project == project || strconv.FormatInt(e.ProjectID, 10) == project {
			whose = append(whose, e.dir())
		}
	}
	if _, err := os.Stat(s.dir); errors.Is(err, fs.ErrNotExist) {
		return 0, 0, nil
	}
	unlock, err := s.lock()
	if err != nil {
		return 0, 0, err
	}
	defer unlock()
	all, err := s.files()
	if err != nil {
		return 0, 0, err
	}
	for _, f := range all {
		if project != "" && !slices.Contains(whose, f.dir) {
			continue
		}
		if wrong := s.remove([]file{f}); wrong != nil {
			err = errors.Join(err, wrong)
			continue
		}
		count, bytes = count+1, bytes+f.size-headerSize
	}
	if project != "" {
		err = errors.Join(broken, err)
	}
	return count, bytes, errors.Join(err, s.sweepDrafts(), s.sweepFolders())
}
