package pulled

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// memory is a Kept of this process.
type memory struct{ text []byte }

func (m *memory) Read() ([]byte, error) { return m.text, nil }

func (m *memory) Change(_ context.Context, change func([]byte) ([]byte, error)) error {
	text, err := change(m.text)
	if err == nil && text != nil {
		m.text = text
	}
	return err
}

func id(n int) string { return fmt.Sprintf("sha256:%064x", n) }

const (
	app   = "registry.test/shop/app"
	other = "registry.test/shop/other"
)

func at(repository string, n int) string { return repository + "@" + id(n) }

var start = time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)

func pull(room, image string) Pull {
	return Pull{Engine: "E", Room: room, Image: image, Began: start, Until: start.Add(time.Hour)}
}

// again is what another process reads of a record.
func again(t *testing.T, r *Record) *Record {
	t.Helper()
	b := Book{&memory{}}
	if err := b.Change(t.Context(), func(fresh *Record) error { *fresh = *r; return nil }); err != nil {
		t.Fatal(err)
	}
	r, err := b.Read()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// From the moment before a pull with a login until its image is forgotten, the
// image is private under every name.
func TestPrivateAllTheWhile(t *testing.T) {
	r := &Record{Format: format}
	x := Present{ID: id(1), Tags: []string{app + ":1"}, Digests: []string{at(app, 9)}}
	free := Present{ID: id(2), Tags: []string{app + ":old"}, Digests: []string{at(app, 8)}}
	p := pull("cr-a", app+":1")
	before := r.Begin(p, []Present{free})
	for range 2 { // and by what stands on the disk
		if ask := r.Private(x, app); len(ask) != 1 || ask[0].Repository != app || ask[0].Digest != id(9) {
			t.Errorf("under way: %+v", ask)
		}
		if ask := r.Private(free, app); ask != nil {
			t.Errorf("what was there before: %+v", ask)
		}
		r = again(t, r)
	}
	r.Land(p, before, x.ID, id(9))
	r = again(t, r)
	if len(r.Pulls) != 0 {
		t.Error("the pull is under way for ever")
	}
	for _, name := range []string{app, other, "docker.io/library/alias"} {
		if ask := r.Private(Present{ID: x.ID}, name); len(ask) != 1 || ask[0].Room != "cr-a" {
			t.Errorf("%s: %+v", name, ask)
		}
	}
	r.Opened(x.ID, other, start)
	if r.Private(x, other) != nil || len(r.Private(x, app)) != 1 {
		t.Error("one repository's word is another's")
	}
	r.Opened(x.ID, app, start)
	if r.Private(x, "docker.io/library/alias") != nil {
		t.Error("public, and private all the same")
	}
	r.Land(p, r.Begin(p, []Present{x}), x.ID, id(9)) // somebody pulls it with a login again
	if r.Private(x, app) != nil {
		t.Error("it is known to be public")
	}
	r.Begin(p, nil)
	if len(r.Images) != 0 {
		t.Errorf("the engine has it no more: %+v", r.Images)
	}
}

// A name that an image had before any login brought it stays everybody's; the
// name that a login then pulled does not, nor one that another pull may just
// have made.
func TestNamesBefore(t *testing.T) {
	x := Present{ID: id(1), Tags: []string{other + ":1", "alias:2", "<none>:<none>"}, Digests: []string{at(other, 9), at(app, 9), "<none>@<none>"}}
	r := &Record{Format: format}
	p := pull("cr-a", app+":1")
	r.Land(p, r.Begin(p, []Present{x}), x.ID, id(9))
	if r.Private(x, other) != nil || r.Private(x, "docker.io/library/alias") != nil || len(r.Private(x, app)) != 1 {
		t.Errorf("%+v", r.Images)
	}
	if r.Images[0].Ours {
		t.Error("it was there before")
	}

	r = &Record{Format: format}
	r.Begin(pull("cr-b", other+":1"), nil)
	r.Land(p, r.Begin(p, []Present{x}), x.ID, id(9))
	if len(r.Private(x, other)) == 0 || len(r.Private(x, "docker.io/library/alias")) == 0 {
		t.Errorf("a pull under way has made names free: %+v", r.Images)
	}
}

// What a killed pull brought is settled by the engine's own list.
func TestPullsThatNobodySawEnd(t *testing.T) {
	r := &Record{Format: format}
	p := pull("cr-a", app+":1")
	r.Begin(p, []Present{{ID: id(2), Digests: []string{at(app, 8)}}})
	late := pull("cr-b", other+":1")
	late.Began = p.Until.Add(time.Second)
	r.Begin(late, []Present{
		{ID: id(1), Tags: []string{app + ":1"}, Digests: []string{at(app, 9)}},
		{ID: id(2), Digests: []string{at(app, 8)}},
		{ID: id(3), Tags: []string{"alias:1"}, Digests: []string{at(app, 7)}},
	})
	r = again(t, r)
	ours := map[string]bool{}
	for _, i := range r.Images {
		ours[i.ID] = i.Ours
	}
	if len(r.Pulls) != 1 || len(ours) != 2 || !ours[id(1)] || ours[id(3)] {
		t.Errorf("%+v", r)
	}
	elsewhere := pull("cr-c", app+":1")
	elsewhere.Engine, elsewhere.Began = "F", late.Until.Add(time.Hour)
	r.Begin(elsewhere, nil)
	if len(r.Images) != 2 || len(r.Pulls) != 2 {
		t.Errorf("another engine's images are forgotten: %+v", r)
	}
}

func TestLeave(t *testing.T) {
	x := Present{ID: id(1), Tags: []string{app + ":1"}, Digests: []string{at(app, 9)}}
	r := &Record{Format: format}
	var present []Present
	for _, room := range []string{"cr-a", "cr-b", "cr-old"} {
		p := pull(room, app+":1")
		r.Land(p, r.Begin(p, present), x.ID, id(9))
		present = []Present{x}
		r.Use(x.ID, "E", room, start.Add(time.Hour))
	}
	r.Use(x.ID, "E", "cr-old", start.Add(-time.Hour)) // whoever wiped it knew of no images
	r = again(t, r)
	if got := r.Leave("cr-nobody", "E", present, start); got != nil {
		t.Errorf("%+v", got)
	}
	if got := r.Leave("cr-a", "E", present, start); got != nil || r.Concerns("cr-a") || !r.Concerns("cr-b") {
		t.Errorf("%+v", got)
	}
	p := pull("cr-c", app+":2")
	r.Begin(p, present)
	if got := r.Leave("cr-b", "E", present, start); got != nil {
		t.Errorf("a pull that is under way may find it: %+v", got)
	}
	if got := r.Leave("cr-c", "E", present, start); len(got) != 1 || got[0].ID != x.ID || !got[0].Mine {
		t.Errorf("%+v", got)
	}
	if got := r.Leave("cr-d", "E", present, start); len(got) != 1 || got[0].Mine { // it could not be removed then
		t.Errorf("%+v", got)
	}
	if got := r.Leave("cr-d", "E", []Present{{ID: id(1)}}, start); len(got) != 1 {
		t.Errorf("it is left to nobody: %+v", got)
	}
	for _, name := range []string{app + ":1", at(app, 9)} {
		if r.Images[0].Theirs(name) {
			t.Errorf("%s is not ours", name)
		}
	}
	for _, name := range []string{"alias:1", other + ":1", "<none>:<none>", ""} {
		if !r.Images[0].Theirs(name) {
			t.Errorf("%s is ours", name)
		}
	}
	r.Opened(x.ID, app, start)
	if got := r.Leave("cr-d", "E", present, start); got != nil {
		t.Errorf("everybody may have it: %+v", got)
	}

	r = &Record{Format: format} // one whose prepare was killed
	r.Begin(pull("cr-a", app+":1"), nil)
	if got := r.Leave("cr-a", "E", nil, start); got != nil || !r.Concerns("cr-a") {
		t.Errorf("the engine may still bring it: %+v", got)
	}
	if got := r.Leave("cr-a", "E", present, start); len(got) != 1 || !got[0].Mine || r.Concerns("cr-a") {
		t.Errorf("%+v", got)
	}
}

// A record that is not whole or not ours is an error for everybody, and stays
// as it is.
func TestRecordThatCannotBeUsed(t *testing.T) {
	r := &Record{Format: format}
	p := pull("cr-a", app+":1")
	r.Land(p, r.Begin(p, nil), id(1), id(9))
	r.Begin(p, []Present{{ID: id(1)}})
	m := &memory{}
	if err := (Book{m}).Change(t.Context(), func(fresh *Record) error { *fresh = *r; return nil }); err != nil {
		t.Fatal(err)
	}
	whole := string(m.text)
	bad := []string{"null", "[]", "{}", whole + "{}", whole + "x", `{"format": "cleanroom metrics 1", "series": {}}`,
		strings.Replace(whole, `"format"`, `"also": 1, "format"`, 1), strings.Replace(whole, "images 1", "images 2", 1),
		strings.Replace(whole, id(9), "sha256:1", 1), strings.ReplaceAll(whole, app, "Not A Name"), strings.Replace(whole, `"cr-a"`, `""`, 2)}
	for n := range len(whole) {
		bad = append(bad, whole[:n])
	}
	for _, text := range bad {
		m := &memory{[]byte(text)}
		b := Book{m}
		if _, err := b.Read(); !errors.Is(err, ErrRecord) || !strings.Contains(err.Error(), remedy) {
			t.Errorf("%q: %v", text, err)
		}
		err := b.Change(t.Context(), func(r *Record) error { r.Images = nil; return nil })
		if !errors.Is(err, ErrRecord) || string(m.text) != text {
			t.Errorf("%q is now %q: %v", text, m.text, err)
		}
	}
	if _, err := (Book{&memory{[]byte(whole)}}).Read(); err != nil {
		t.Error(err)
	}
	if err := (Book{}).Change(t.Context(), func(*Record) error { return nil }); !errors.Is(err, ErrRecord) {
		t.Error(err)
	}
	mine := errors.New("mine")
	if err := (Book{m}).Change(t.Context(), func(r *Record) error { r.Images = nil; return mine }); !errors.Is(err, mine) || errors.Is(err, ErrRecord) || string(m.text) != whole {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"format":"cleanroom pulled images 1","images":[{"id":"` + id(1) + `","engine":"E","ours":true,"sources":[{"repository":"` + app + `","digest":"` + id(9) + `"}],"rooms":{"cr-a":"2026-01-02T03:04:05Z"}}],"pulls":[]}`))
	f.Add([]byte(`{"format":"cleanroom pulled images 1","images":[],"pulls":[{"engine":"E","room":"cr-a","image":"redis:7","before":["x"]}]}`))
	f.Add([]byte(`{}{}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := parse(text)
		if err != nil {
			return
		}
		for _, i := range r.Images {
			if len(i.Sources) > 0 && i.private() && r.Private(Present{ID: i.ID}, "no.such/repository") == nil {
				t.Errorf("%+v is private, and anybody's", i)
			}
		}
	})
}
