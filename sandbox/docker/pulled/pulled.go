// Package pulled knows which images of an engine somebody's login brought, so
// that they are not given to those whom their registry would refuse.
//
// What it promises: a pull with a login is written down before it begins, and
// from its first instant until the image is forgotten the image counts as
// private, under whatever name it is asked for, and whatever was killed in
// between. It holds names and digests, never a login nor anything made of one.
// A record that cannot be read is an error, and nothing is written over it.
package pulled

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/distribution/reference"

	"cleanroom/sandbox"
)

// ErrRecord is a record that cannot be used.
var ErrRecord = errors.New("the record of images that logins brought cannot be used")

// remedy is for the admin, who alone can mend a record.
const remedy = "restore the file from a backup, or remove from the engine what jobs pulled with a login, and then the file"

// Record is all that is known, of all engines that one host uses.
type Record struct {
	Format string  `json:"format"`
	Images []Image `json:"images"`
	Pulls  []Pull  `json:"pulls"` // whose end nobody has seen yet
}

const format = "cleanroom pulled images 1"

// Image is one that a login brought.
type Image struct {
	ID      string   `json:"id"`
	Engine  string   `json:"engine"`
	Ours    bool     `json:"ours"` // the engine did not have it before
	Sources []Source `json:"sources"`
	// Rooms are those that use it, where rooms remove what they pulled, with
	// their deadlines: after that a room counts no more.
	Rooms map[string]time.Time `json:"rooms,omitempty"`
}

// Source is a repository that gave an image.
type Source struct {
	Repository string    `json:"repository"` // with its host: docker.io/library/redis
	Digest     string    `json:"digest,omitempty"`
	Open       bool      `json:"open,omitempty"` // to everybody
	Room       string    `json:"room,omitempty"` // whose login it was
	At         time.Time `json:"at,omitzero"`
}

// Pull is one with a login that was about to begin.
type Pull struct {
	Engine string    `json:"engine"`
	Room   string    `json:"room"`
	Image  string    `json:"image"` // name as it was pulled
	Began  time.Time `json:"began"`
	Until  time.Time `json:"until"` // it is over for certain
	// Before are the images that the repository's name stood for already, and
	// that no login had brought.
	Before []string `json:"before,omitempty"`
}

// Present is an image as an engine lists it.
type Present struct {
	ID      string
	Tags    []string // name:tag
	Digests []string // name@digest
}

// Book reads and changes the record.
type Book struct{ Kept sandbox.Kept }

// Read returns the record as it is. Who asks about an image must have seen it
// on the engine before: what brings it is written down first.
func (b Book) Read() (*Record, error) {
	if b.Kept == nil {
		return &Record{Format: format}, nil
	}
	text, err := b.Kept.Read()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	return parse(text)
}

// Change has change alter the record, which is on disk afterwards. After an
// error it is as it was.
func (b Book) Change(ctx context.Context, change func(*Record) error) error {
	if b.Kept == nil {
		return fmt.Errorf("%w: there is no place for it", ErrRecord)
	}
	var unchanged error // change's own error, and no fault of the record
	err := b.Kept.Change(ctx, func(old []byte) ([]byte, error) {
		r, err := parse(old)
		if err != nil {
			return nil, err
		}
		if unchanged = change(r); unchanged != nil {
			return nil, nil
		}
		text, err := json.MarshalIndent(r, "", " ")
		if err != nil || bytes.Equal(text, old) {
			return nil, err
		}
		return text, nil
	})
	if err != nil && !errors.Is(err, ErrRecord) {
		err = fmt.Errorf("%w: %w", ErrRecord, err)
	}
	return errors.Join(unchanged, err)
}

func parse(text []byte) (*Record, error) {
	r := &Record{Format: format}
	if text == nil {
		return r, nil
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	r.Format = ""
	err := d.Decode(r)
	if err == nil {
		if _, more := d.Token(); more != io.EOF {
			err = errors.New("something follows it")
		} else {
			err = r.check()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: it is torn or not ours: %w: %s", ErrRecord, err, remedy)
	}
	return r, nil
}

var imageID = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^sha256:[0-9a-f]{64}$`) })

func (r *Record) check() error {
	if r.Format != format {
		return fmt.Errorf("its format is %.40q, not %q", r.Format, format)
	}
	for _, i := range r.Images {
		if !imageID().MatchString(i.ID) || len(i.Sources) == 0 {
			return fmt.Errorf("%.80q with %d sources is no image", i.ID, len(i.Sources))
		}
		for _, s := range i.Sources {
			name := s.Repository
			if s.Digest != "" {
				name += "@" + s.Digest
			}
			if parsed, err := reference.ParseNormalizedNamed(name); err != nil || parsed.Name() != s.Repository || s.Digest == "" && !s.Open {
				return fmt.Errorf("%.200q is no source of an image", name)
			}
		}
	}
	for _, p := range r.Pulls {
		if p.repository() == "" || p.Room == "" {
			return fmt.Errorf("%.200q is no image to pull", p.Image)
		}
	}
	return nil
}

// Private are the sources to ask before somebody gets an image by a name of
// the repository. None: anybody may have it.
func (r *Record) Private(image Present, repository string) (ask []Source) {
	for _, i := range r.Images {
		if i.ID != image.ID {
			continue
		}
		for _, s := range i.Sources {
			if s.Open && s.Repository == repository {
				return nil
			}
			if !s.Open {
				ask = append(ask, s)
			}
		}
	}
	return append(ask, r.underWay(image, "")...)
}

// underWay are the sources that pulls of other rooms may just have added.
func (r *Record) underWay(image Present, room string) (sources []Source) {
	for _, p := range r.Pulls {
		if d := digest(image, p.repository()); d != "" && p.Room != room && !slices.Contains(p.Before, image.ID) {
			sources = append(sources, Source{Repository: p.repository(), Digest: d, Room: p.Room, At: p.Began})
		}
	}
	return sources
}

// digest by which a repository gave an image; empty: it did not.
func digest(image Present, repository string) string {
	for _, d := range image.Digests {
		if c, ok := parsed(d).(reference.Canonical); ok && c.Name() == repository {
			return c.Digest().String()
		}
	}
	return ""
}

func parsed(name string) reference.Named {
	n, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return nil
	}
	return n
}

func repositoryOf(name string) string {
	if n := parsed(name); n != nil {
		return n.Name()
	}
	return ""
}

func (p Pull) repository() string { return repositoryOf(p.Image) }

// repositories are those whose names an image has.
func (p Present) repositories() (all []string) {
	for _, name := range slices.Concat(p.Tags, p.Digests) {
		if r := repositoryOf(name); r != "" && !slices.Contains(all, r) {
			all = append(all, r)
		}
	}
	return all
}

// Closed says that a login brought an image from a repository that is not
// known to give it to everybody.
func (r *Record) Closed(id, repository string) bool {
	return slices.ContainsFunc(r.Images, func(i Image) bool {
		return i.ID == id && slices.ContainsFunc(i.Sources, func(s Source) bool { return !s.Open && s.Repository == repository })
	})
}
