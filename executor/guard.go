package executor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"

	"cleanroom/config/glob"
	"cleanroom/executor/contract"
	"cleanroom/executor/guard"
	"cleanroom/executor/metrics"
	"cleanroom/executor/redact"
	"cleanroom/executor/secret"
	"cleanroom/sandbox"
)

// What keeps a stage from storing anything: a secret in a file, or a file that
// nobody could look into.
var (
	ErrFound      = errors.New("a secret is in what would be stored")
	ErrUnsearched = errors.New("what would be stored could not be searched for secrets")
)

// maxTold is how many findings a job's log shows, and as many of those that
// only warn.
const maxTold = 20

// tellAfter is how long a search goes on before the job's log says so, and
// again each time.
const tellAfter = 10 * time.Second

// searchMemory is from where on a search has its garbage collected at once, in
// bytes: unpackers' dictionaries are large, and soon garbage.
const searchMemory = 384 << 20

// guarded has what a stage stores looked through before it is stored; nil
// where it stores nothing. before goes before the stage's script.
func (x *Executor) guarded(stage string, sealed *secret.Sealed) (store *sandbox.Store, before func(context.Context, sandbox.Inside) error, err error) {
	stored, err := x.Call.Stored(stage)
	if err != nil || len(stored) == 0 {
		return nil, nil, err
	}
	dir, ok := x.Call.ProjectDir()
	if !ok {
		return nil, nil, fmt.Errorf("the runner does not say where the project's folder is (RUNNER_TEMP_PROJECT_DIR): what stage %s stores cannot be searched", stage)
	}
	s, err := x.searchFor(sealed, guard.Options{})
	if err != nil {
		return nil, nil, err
	}
	s.what = whatOf(stored)
	s.digests = x.digests(stage, dir, stored)
	choose := func(env []byte) (sets []sandbox.FileSet, writes []string) {
		s.stored = x.Call.Expand(stored, env)
		for _, one := range s.stored {
			if one.Statement != "" {
				writes = append(writes, one.Statement)
			}
			sets = append(sets, sandbox.FileSet{Paths: one.Paths, Exclude: one.Exclude, Untracked: one.Untracked})
		}
		if s.digests != nil && s.digests.ours != "" {
			writes = append(writes, s.digests.ours)
		}
		return sets, writes
	}
	if s.digests != nil && s.digests.ours != "" {
		before = s.bring
	}
	return &sandbox.Store{Dir: dir, EnvFile: x.Call.EnvFile(), Choose: choose, Check: s.all}, before, nil
}

// searchFor looks for all that the job has and nobody else may see.
func (x *Executor) searchFor(sealed *secret.Sealed, o guard.Options) (*search, error) {
	values := slices.DeleteFunc(x.toHide(sealed), func(s redact.Secret) bool { return redact.Size(s.Value) < secret.MinValue })
	matcher, err := redact.NewMatcher(values, redact.Options{})
	if err != nil {
		return nil, err
	}
	return &search{x: x, matcher: matcher, guard: guard.New(matcher, o), waivers: sealed.Waivers}, nil
}

// whatOf names what is stored: "artifact, dotenv".
func whatOf(stored []contract.Stored) string {
	var names []string
	for _, s := range stored {
		if !slices.Contains(names, s.What) {
			names = append(names, s.What)
		}
	}
	return strings.Join(names, ", ")
}

// search is one look through what a stage stores.
type search struct {
	x       *Executor
	matcher *redact.Matcher
	guard   *guard.Guard
	waivers []secret.Waiver
	what    string
	// archives says that it is archives which are searched, of files that have
	// been: paths are those of their members, and what may pass was told.
	archives bool
	stored   []contract.Stored // as the uploader takes it
	digests  *digests          // nil: nobody asks for them
	envelope []byte            // about them; nil: none
	planted  bool              // the job has a file where the envelope goes

	files, bytes              int64
	found, unsearched, waived int
	began, lastSay            time.Time
}

// begin is the beginning of a search; end has to be called.
func (s *search) begin() (end func()) {
	limit := debug.SetMemoryLimit(searchMemory)
	s.files, s.bytes, s.found, s.unsearched, s.waived = 0, 0, 0, 0, 0
	s.x.gather.line.Guard = nil
	s.began = time.Now()
	s.lastSay = s.began
	s.digests.begin()
	return func() {
		debug.SetMemoryLimit(limit)
		s.x.count(metrics.Findings.Add(metrics.Refused, s.found+s.unsearched), metrics.Findings.Add(metrics.Warned, s.waived))
	}
}

func (s *search) all(ctx context.Context, files sandbox.Files) error {
	defer s.begin()()
	if note := files.Note(); note != "" {
		s.x.sayf("Guard: %s", note)
	}
	raw := false
	for _, one := range s.stored {
		s.guard.Name("the name of the "+one.What, one.Name, s.tell)
		raw = raw || one.Raw
	}
	for _, e := range files.Entries() {
		if raw && e.Mode.Type() == fs.ModeSymlink {
			s.tell(guard.Finding{Path: e.Path, Unsearched: "it is a link, which the uploader of a raw artifact reads through: store the file itself"})
		}
		s.guard.Name(e.Path, e.Path, s.tell)
		s.guard.Name(e.Path, e.Target, s.tell)
		if !e.Mode.IsRegular() {
			continue
		}
		if err := s.file(ctx, files, e); err != nil {
			return err
		}
		s.files++
		s.bytes += e.Size
		s.progress()
	}
	if err := s.verdict(); err != nil {
		return err
	}
	if s.files == 0 {
		s.x.sayf("Guard: no file to search")
		return s.attest(ctx, files)
	}
	says, plural := "no secret", "s"
	if s.waived > 0 {
		says = "no secret but those above"
	}
	if s.files == 1 {
		plural = ""
	}
	s.x.sayf("Guard: %s in %d file%s, %s (%.1f s)", says, s.files, plural, units.BytesSize(float64(s.bytes)), time.Since(s.began).Seconds())
	return s.attest(ctx, files)
}

// caches searches the very archives that are to be kept: what made them runs
// what the job's author wrote (git's filters), so they may hold more than the
// files from which they should have been made.
func (s *search) caches(ctx context.Context, drafts []draft) error {
	defer s.begin()()
	s.what, s.archives = "cache", true
	for _, d := range drafts {
		s.guard.Name("the key of a cache", d.header.Path, s.tell)
		if err := s.guard.Search(ctx, d.header.Path, d, d.Size(), s.tell); err != nil {
			return fmt.Errorf("search for secrets: %w", err)
		}
		s.files++
		s.bytes += d.Size()
	}
	return s.verdict()
}

// verdict is what becomes of all that was searched.
func (s *search) verdict() error {
	took := time.Since(s.began)
	s.x.Log.WithField("files", s.files).WithField("bytes", s.bytes).WithField("seconds", took.Seconds()).
		WithField("found", s.found).WithField("unsearched", s.unsearched).WithField("waived", s.waived).Info("guard")
	switch {
	case s.found > 0:
		return fmt.Errorf("%w: nothing is stored (%s): keep secrets out of these files, or leave the files out; the runner's admin can let one pass with a rule's `warn`", ErrFound, s.what)
	case s.unsearched > 0:
		return fmt.Errorf("%w: nothing is stored (%s): store these files unpacked, or leave them out; the runner's admin can let one pass with a rule's `warn`", ErrUnsearched, s.what)
	}
	return nil
}

func (s *search) file(ctx context.Context, files sandbox.Files, e sandbox.Entry) error {
	f, err := files.Open(ctx, e)
	if err != nil {
		return fmt.Errorf("search for secrets: %w", err)
	}
	sum := s.digests.newSum()
	holds := false // a secret, which may be let through
	err = s.guard.SearchSum(ctx, e.Path, f, e.Size, func(found guard.Finding) {
		holds = holds || found.Secret != ""
		s.tell(found)
	}, sum)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("search for secrets: %w", err)
	}
	s.digests.add(e.Path, e.Size, s.stored, sum, holds)
	return nil
}

func (s *search) progress() {
	if time.Since(s.lastSay) >= tellAfter {
		s.lastSay = time.Now()
		s.x.sayf("Guard: searched %d files, %s", s.files, units.BytesSize(float64(s.bytes)))
	}
}

// tell says what was found. What of a secret the names have is hidden before
// they are cut to fit.
func (s *search) tell(f guard.Finding) {
	rule := ""
	switch {
	case !s.archives:
		rule = s.waiver(f.Path)
	case len(f.Members) > 0: // else it is in none of the project's files
		rule = s.waiver(f.Members[0])
	}
	f.Path, f.Members = s.hidden(f.Path), slices.Clone(f.Members) // the search goes on with its own
	for i, m := range f.Members {
		f.Members[i] = s.hidden(m)
	}
	warned := rule != "" || f.Unsearched == guard.Broken
	s.x.gather.found(f, warned, rule)
	count, line := &s.found, "Guard: "+f.String()
	switch {
	case rule != "":
		count, line = &s.waived, "Warning: "+f.String()+" (rule "+rule+" lets it be stored)"
	case f.Unsearched == guard.Broken: // libraries of archives have such files for their own tests
		count, line = &s.waived, "Warning: "+f.String()+" (it is stored all the same)"
	case f.Unsearched != "":
		count = &s.unsearched
	}
	*count++
	s.x.Log.WithField("secret", f.Secret).WithField("unsearched", f.Unsearched).WithField("waived", count == &s.waived).Warn("guard: finding")
	switch {
	case s.archives && count == &s.waived:
	case *count < maxTold:
		s.x.sayf("%s", line)
	case *count == maxTold:
		s.x.sayf("%s; more are not shown", line)
	}
}

// hidden is a name without secrets.
func (s *search) hidden(name string) string {
	var b strings.Builder
	at := 0
	for {
		start, end, secret, ok := s.matcher.Find([]byte(name), at)
		if !ok {
			b.WriteString(name[at:])
			return b.String()
		}
		b.WriteString(name[at:start] + "[cleanroom: " + secret + "]")
		at = end
	}
}

// waiver names the rule that lets a file be stored whatever is in it.
func (s *search) waiver(path string) string {
	for _, w := range s.waivers {
		if slices.ContainsFunc(w.Paths, func(pattern string) bool { return glob.Match(pattern, path) }) {
			return w.Rule
		}
	}
	return ""
}
