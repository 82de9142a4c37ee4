package list

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"cleanroom/config/glob"
	"cleanroom/executor/audit/record"
)

// ErrFilter is a filter that can match nothing.
var ErrFilter = errors.New("no filter")

// Unfinished is, as an outcome to look for, of which something is left: of a
// room or of its leases.
const Unfinished = "unfinished"

// Outcomes are what Filter.Outcomes may hold.
var Outcomes = []string{string(record.OK), string(record.Failed), string(record.Refused), string(record.Canceled), string(record.System), Unfinished}

// Kinds are what Filter.Kinds may hold.
var Kinds = []string{string(record.OfJob), string(record.OfReap), string(record.OfConfig), string(record.OfPolicy), string(record.OfSecret), string(record.OfCache),
	string(record.OfKey), string(record.OfBegun)}

// Filter lets through what all of it matches; an empty field matches
// everything. Project, ref, user, secret and image are names, or globs
// (doublestar's: * stops at a slash).
type Filter struct {
	Period
	Kinds    []string // any of them
	Outcomes []string // any of them
	Project  string
	Ref      string
	User     string // login or number of the job's user, or who changed what is no job's
	Secret   string // that was given, asked for, found in a file, or changed in the store
	Image    string // name, digest or ID of any of the room's images, or asked for
}

// Check says what is wrong with a filter. Errors wrap ErrFilter.
func (f *Filter) Check() error {
	for _, of := range []struct {
		what  string
		given []string
		known []string
	}{{"kind", f.Kinds, Kinds}, {"outcome", f.Outcomes, Outcomes}} {
		for _, s := range of.given {
			if !slices.Contains(of.known, s) {
				return fmt.Errorf("%w: there is no %s %.40q: use one of %s", ErrFilter, of.what, s, strings.Join(of.known, ", "))
			}
		}
	}
	for _, pattern := range f.names() {
		if glob.IsPattern(pattern) {
			if err := glob.Check(pattern); err != nil {
				return fmt.Errorf("%w: %w", ErrFilter, err)
			}
		}
	}
	return nil
}

func (f *Filter) names() []string {
	return slices.DeleteFunc([]string{f.Project, f.Ref, f.User, f.Secret, f.Image}, func(s string) bool { return s == "" })
}

// verbatim are texts that JSON writes as they are.
var verbatim = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9/_.:@-]+$`) })

// skips says whether a record cannot match, as far as its bytes tell without
// being decoded, which takes most of the time.
func (f *Filter) skips(raw []byte) bool {
	if at, ok := At(raw); ok && !f.Contains(at) {
		return true
	}
	for _, name := range f.names() {
		if verbatim().MatchString(name) && !bytes.Contains(raw, []byte(name)) {
			return true
		}
	}
	return false
}

// Match says whether a record is let through.
func (f *Filter) Match(r *record.Record) bool {
	of := about(r)
	return f.Contains(r.At) &&
		(len(f.Kinds) == 0 || slices.Contains(f.Kinds, string(r.Kind))) &&
		(len(f.Outcomes) == 0 || slices.ContainsFunc(of.outcomes, func(o string) bool { return slices.Contains(f.Outcomes, o) })) &&
		meant(f.Project, of.projects) && meant(f.Ref, of.refs) && meant(f.User, of.users) && meant(f.Secret, of.secrets) && meant(f.Image, of.images)
}

// meant says whether one of the names is meant. What looks like a glob may be a
// name, too.
func meant(pattern string, names []string) bool {
	return pattern == "" || slices.ContainsFunc(names, func(name string) bool {
		return name == pattern || name != "" && glob.IsPattern(pattern) && glob.Match(pattern, name)
	})
}

// matter is what a record is about, by what one can look for.
type matter struct{ outcomes, projects, refs, users, secrets, images []string }

func about(r *record.Record) (m matter) {
	switch {
	case r.Job != nil:
		m.job(r.Job)
	case r.Reap != nil:
		m.projects = []string{r.Reap.Project}
		m.given(r.Reap.Secrets)
		m.ended(r.Reap.End)
	default:
		m.users = []string{r.By.User, strconv.Itoa(r.By.UID)}
	}
	if r.Secret != nil {
		m.secrets = []string{r.Secret.Name}
	}
	return m
}

func (m *matter) job(j *record.Job) {
	m.outcomes = []string{string(j.Outcome)}
	m.projects = []string{j.Project, Fact(j, "project_path")}
	m.refs = []string{Fact(j, "ref")}
	m.users = []string{Fact(j, "user_login"), Fact(j, "user_id")}
	m.given(j.Secrets)
	for _, d := range j.Decisions {
		switch d.Kind {
		case "secret":
			m.secrets = append(m.secrets, d.Name)
		case "image", "service":
			m.images = append(m.images, d.Name)
		}
	}
	for _, f := range j.Guard {
		m.secrets = append(m.secrets, f.Name)
	}
	for _, i := range j.Images {
		_, digest, _ := strings.Cut(i.Digest, "@")
		m.images = append(m.images, i.Name, i.ID, i.Digest, digest)
	}
	m.ended(j.End)
}

func (m *matter) given(all []record.Secret) {
	for _, s := range all {
		m.secrets = append(m.secrets, s.Name)
	}
}

func (m *matter) ended(e record.End) {
	if !e.Complete {
		m.outcomes = append(m.outcomes, Unfinished)
	}
}

// Fact is what was believed of a job, as text; empty where nothing was.
func Fact(j *record.Job, name string) string {
	for _, f := range j.Facts {
		if f.Fact == name {
			return fmt.Sprint(f.Is)
		}
	}
	return ""
}
