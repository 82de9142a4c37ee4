package executor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"

	"cleanroom/config"
	"cleanroom/config/glob"
	"cleanroom/executor/cache"
	"cleanroom/executor/contract"
	"cleanroom/executor/guard"
	"cleanroom/executor/secret"
	"cleanroom/sandbox"
)

// Caches is the store of a configuration.
func Caches(c config.Config) *cache.Store {
	s := c.Sizes()
	return cache.Open(c.DataDir, cache.Limits{Age: c.Cache.MaxAge, Total: s.Caches, Project: s.ProjectCaches})
}

// caching is what one stage does about caches.
type caching struct {
	x      *Executor
	job    *contract.Job
	store  *cache.Store
	sealed *secret.Sealed
	note   func(secret.Brought) error // for the later stages
	files  contract.CacheFiles
}

// caching is nil for a stage that has nothing to do with caches that are kept
// here. Such a stage's script is read; one that cannot be understood is no
// reason for the job to fail.
func (x *Executor) caching(stage string, script io.ReadSeeker, sealed *secret.Sealed, note func(secret.Brought) error) (*caching, error) {
	if len(sealed.Caches) == 0 || !contract.CachesIn(stage) {
		return nil, nil
	}
	job, err := x.Call.Job()
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(script)
	if err == nil {
		_, err = script.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, fmt.Errorf("script of stage %s: %w", stage, err)
	}
	files, err := x.Call.CacheFiles(text)
	if err != nil {
		x.Log.WithError(err).Warn("caches are not kept")
		x.sayf("Warning: caches are neither restored nor kept: %v", err)
		return nil, nil
	}
	if len(files.Restored)+len(files.Archived) == 0 {
		return nil, nil
	}
	return &caching{x, job, Caches(x.Config), sealed, note, files}, nil
}

// hooks are what the stage does before and after its script.
func (c *caching) hooks() (before, after func(context.Context, sandbox.Inside) error) {
	if c == nil {
		return nil, nil
	}
	if len(c.files.Restored) > 0 {
		before = c.restore
	}
	if len(c.files.Archived) > 0 {
		after = c.keep
	}
	return before, after
}

// place is where the store has a file of the room, and what people call it. It
// is false for one that is not to be kept.
func (c *caching) place(file string) (p cache.Place, key string, ok bool) {
	rel, ok := strings.CutPrefix(file, c.x.Config.Room.CacheDir+"/")
	if !ok {
		c.warn(file, "it is not in the room's folder of caches")
		return p, file, false
	}
	key = c.x.Call.CacheKey(rel)
	if !slices.ContainsFunc(c.sealed.Caches, func(pattern string) bool { return glob.Match(pattern, key) }) {
		c.x.sayf("Cache %q: not kept here: no rule grants this job a cache of that key; ask the runner's admin", key)
		return p, key, false
	}
	return cache.Place{Instance: instance(c.job), ProjectID: c.job.JobInfo.ProjectID, Protected: c.job.Protected(), Path: rel}, key, true
}

// warn says why a cache is not there, or will not be. The job goes on.
func (c *caching) warn(key string, why any) {
	c.x.Log.WithField("why", scrub(c.x.Call, fmt.Sprint(why))).Warn("cache")
	c.x.sayf("Warning: cache %q: %v", key, why)
}

// readable are the places where a job may find what it names: its own, and
// then, for one of an unprotected ref, that of its project's protected ones.
func (c *caching) readable(p cache.Place) []cache.Place {
	if p.Protected {
		return []cache.Place{p}
	}
	theirs := p
	theirs.Protected = true
	all := []cache.Place{p, theirs}
	if other, ok := c.x.Call.ProtectedFile(p.Path); ok {
		theirs.Path = other
		all = append(all, theirs)
	}
	return all
}

// restore brings, of each cache that the script is to restore, the first of
// its files that there is.
func (c *caching) restore(ctx context.Context, in sandbox.Inside) error {
	for _, candidates := range c.files.Restored {
		for _, file := range candidates {
			p, key, ok := c.place(file)
			if !ok {
				continue
			}
			brought, err := c.bring(ctx, in, p, key)
			if err != nil {
				return err
			}
			if brought {
				break
			}
		}
	}
	return nil
}

func (c *caching) bring(ctx context.Context, in sandbox.Inside, to cache.Place, key string) (bool, error) {
	for _, p := range c.readable(to) {
		e, err := c.store.Get(p)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			c.warn(key, withoutPaths(err))
			continue
		}
		made, err := in.Bring(ctx, sandbox.NewFile{Dir: c.x.Config.Room.CacheDir, Path: to.Path, Modified: e.Modified, Size: e.Size}, e)
		e.Close()
		if errors.Is(err, sandbox.ErrNotBrought) {
			c.warn(key, withoutPaths(err))
			continue
		}
		if err != nil {
			return false, err
		}
		c.x.sayf("Cache %q: %s of job %d, kept %s ago (%s)", key, units.BytesSize(float64(e.Size)), e.Job, units.HumanDuration(time.Since(e.Created)), p.Protection())
		c.x.Log.WithField("bytes", e.Size).WithField("of_job", e.Job).WithField("protection", p.Protection()).Info("cache restored")
		return true, c.note(secret.Brought{Path: to.Path, SHA256: e.SHA256, Stamp: stamp(made)})
	}
	return false, nil
}

// withoutPaths is an error for the job's log, without the host's paths.
func withoutPaths(err error) error {
	var path *os.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &path):
		return path.Err
	case errors.As(err, &link):
		return link.Err
	}
	return err
}

// stamp changes when anybody writes to the file.
func stamp(e sandbox.Entry) string {
	return fmt.Sprintf("%d %d %d %d %d", e.Size, e.Dev, e.Ino, e.Mtime, e.Ctime)
}

// draft is a cache on its way into the store.
type draft struct {
	*cache.Draft
	header cache.Header
}

// keep takes what the script archived, has it searched, and keeps it: all, or
// nothing if a secret is in one.
func (c *caching) keep(ctx context.Context, in sandbox.Inside) (err error) {
	files, err := in.Look(ctx, c.x.Config.Room.CacheDir)
	if err != nil {
		return err
	}
	var drafts []draft
	defer func() {
		for _, d := range drafts {
			err = errors.Join(err, d.Drop())
		}
	}()
	for _, file := range c.files.Archived {
		p, key, ok := c.place(file)
		if !ok {
			continue
		}
		i := slices.IndexFunc(files.Entries(), func(e sandbox.Entry) bool { return e.Path == p.Path })
		if i < 0 {
			continue // its script has said why
		}
		d, err := c.take(ctx, files, files.Entries()[i], p, key)
		if err != nil {
			return err
		}
		if d != nil {
			drafts = append(drafts, *d)
		}
	}
	if len(drafts) == 0 {
		return nil
	}
	search, err := c.x.searchFor(c.sealed, guard.Options{Wrapped: true})
	if err != nil {
		return err
	}
	if err := search.caches(ctx, drafts); err != nil {
		return err
	}
	for len(drafts) > 0 {
		d := drafts[0]
		drafts = drafts[1:]
		if err := d.Keep(d.header); err != nil { // leaves nothing
			c.warn(d.header.Key, fmt.Errorf("it is not kept: %w", withoutPaths(err)))
			continue
		}
		c.x.sayf("Cache %q: kept, %s (%s)", d.header.Key, units.BytesSize(float64(d.Size())), d.header.Protection())
		c.x.Log.WithField("bytes", d.Size()).WithField("protection", d.header.Protection()).Info("cache kept")
	}
	return nil
}

// take copies a file out of the room; nil: it is not to be kept.
func (c *caching) take(ctx context.Context, files sandbox.Files, e sandbox.Entry, p cache.Place, key string) (*draft, error) {
	if !e.Mode.IsRegular() {
		c.warn(key, "it is not kept: its archive is no regular file")
		return nil, nil
	}
	var brought secret.Brought
	for _, b := range c.sealed.Brought {
		if b.Path == e.Path {
			brought = b
		}
	}
	if brought.Stamp == stamp(e) {
		c.x.sayf("Cache %q: as it was", key)
		return nil, nil
	}
	d, err := c.store.Draft(e.Size)
	if err != nil {
		c.warn(key, c.tooLarge(e.Size, err))
		return nil, nil
	}
	sink := &sink{w: d}
	err = files.Copy(ctx, e, sink)
	switch {
	case sink.err != nil:
		c.warn(key, c.tooLarge(e.Size, sink.err))
	case errors.Is(err, sandbox.ErrChanged):
		c.warn(key, fmt.Errorf("it is not kept: %w", err))
	case err != nil:
		return nil, errors.Join(err, d.Drop())
	case d.SHA256() == brought.SHA256:
		c.x.sayf("Cache %q: as it was", key)
	default:
		modified := time.Unix(0, e.Mtime)
		if now := time.Now(); modified.After(now) {
			modified = now // the room's own words: what comes later is always newer
		}
		return &draft{d, cache.Header{Place: p, Key: key, Project: c.x.projectPath(c.job), Job: c.job.ID, Created: time.Now().UTC(), Modified: modified.UTC()}}, nil
	}
	return nil, d.Drop()
}

func (c *caching) tooLarge(size int64, err error) error {
	if errors.Is(err, cache.ErrTooLarge) {
		return fmt.Errorf("it is not kept: it has %s, this runner keeps %s of a project (cache.max_project_size)", units.BytesSize(float64(size)), c.x.Config.Cache.MaxProjectSize)
	}
	return fmt.Errorf("it is not kept: %w", withoutPaths(err))
}

// sink takes all that comes, also when it cannot be written any more: the
// stage's connection lives on.
type sink struct {
	w   io.Writer
	err error
}

func (s *sink) Write(p []byte) (int, error) {
	if s.err == nil {
		_, s.err = s.w.Write(p)
	}
	return len(p), nil
}
