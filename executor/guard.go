package executor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"

	"cleanroom/config/glob"
	"cleanroom/executor/contract"
	"cleanroom/executor/guard"
	"cleanroom/executor/redact"
	"cleanroom/executor/secret"
	"cleanroom/sandbox"
)

// ErrFound is a secret in a file that a stage was about to store. Nothing of
// the stage was stored.
var ErrFound = errors.New("a secret is in a file that would be stored")

// maxTold is how many findings a job's log shows, and as many of those that
// only warn.
const maxTold = 20

// tellAfter is how long a search goes on before the job's log says so, and
// again each time.
const tellAfter = 10 * time.Second

// guarded has what a stage stores looked through before it is stored; nil
// where it stores nothing.
func (x *Executor) guarded(stage string, sealed *secret.Sealed) (*sandbox.Store, error) {
	stored, err := x.Call.Stored(stage)
	if err != nil || len(stored) == 0 {
		return nil, err
	}
	dir, ok := x.Call.ProjectDir()
	if !ok {
		return nil, fmt.Errorf("the runner does not say where the project's folder is (RUNNER_TEMP_PROJECT_DIR): what stage %s stores cannot be searched", stage)
	}
	values := slices.DeleteFunc(x.toHide(sealed), func(s redact.Secret) bool { return redact.Size(s.Value) < secret.MinValue })
	matcher, err := redact.NewMatcher(values, redact.Options{})
	if err != nil {
		return nil, err
	}
	s := &search{x: x, matcher: matcher, guard: guard.New(matcher, guard.Options{}), waivers: sealed.Waivers, what: whatOf(stored)}
	choose := func(env []byte) (sets []sandbox.FileSet, writes []string) {
		for _, one := range x.Call.Expand(stored, env) {
			if one.Statement != "" {
				writes = append(writes, one.Statement)
			}
			sets = append(sets, sandbox.FileSet{Paths: one.Paths, Exclude: one.Exclude, Untracked: one.Untracked})
		}
		return sets, writes
	}
	return &sandbox.Store{Dir: dir, EnvFile: x.Call.EnvFile(), Choose: choose, Check: s.all}, nil
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

	files, bytes   int64
	found, waived  int
	began, lastSay time.Time
}

func (s *search) all(ctx context.Context, files sandbox.Files) error {
	s.began = time.Now()
	s.lastSay = s.began
	if note := files.Note(); note != "" {
		s.x.sayf("Guard: %s", note)
	}
	for _, e := range files.Entries() {
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
	took := time.Since(s.began)
	s.x.Log.WithField("files", s.files).WithField("bytes", s.bytes).WithField("seconds", took.Seconds()).
		WithField("found", s.found).WithField("waived", s.waived).Info("guard")
	if s.found > 0 {
		return fmt.Errorf("%w: nothing is stored (%s): keep secrets out of these files, or leave the files out; the runner's admin can let one pass with a rule's `warn`", ErrFound, s.what)
	}
	says := "no secret"
	if s.waived > 0 {
		says = "no secret but those above"
	}
	s.x.sayf("Guard: %s in %d files, %s (%.1f s)", says, s.files, units.BytesSize(float64(s.bytes)), took.Seconds())
	return nil
}

func (s *search) file(ctx context.Context, files sandbox.Files, e sandbox.Entry) error {
	f, err := files.Open(ctx, e)
	if err != nil {
		return fmt.Errorf("search for secrets: %w", err)
	}
	err = s.guard.Search(ctx, e.Path, f, e.Size, s.tell)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("search for secrets: %w", err)
	}
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
	rule := s.waiver(f.Path)
	f.Path = s.hidden(f.Path)
	for i, m := range f.Members {
		f.Members[i] = s.hidden(m)
	}
	count, line := &s.found, "Guard: "+f.String()
	switch {
	case rule != "":
		count, line = &s.waived, "Warning: "+f.String()+" (rule "+rule+" lets it be stored)"
	case f.Unsearched == guard.Broken: // libraries of archives have such files for their own tests
		count, line = &s.waived, "Warning: "+f.String()+" (it is stored all the same)"
	}
	*count++
	s.x.Log.WithField("secret", f.Secret).WithField("unsearched", f.Unsearched).WithField("waived", count == &s.waived).Warn("guard: finding")
	switch {
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
