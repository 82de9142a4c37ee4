package pulled

import (
	"maps"
	"slices"
	"time"
)

// Begin notes a pull that is about to begin. present is what the engine has
// now. Along the way it settles pulls whose end nobody saw, and forgets images
// that the engine has no more.
func (r *Record) Begin(p Pull, present []Present) (before Before) {
	r.overdue(p.Engine, present, p.Began)
	before = Before{}
	for _, i := range present {
		before[i.ID] = i
	}
	r.Images = slices.DeleteFunc(r.Images, func(i Image) bool {
		_, there := before[i.ID]
		return i.Engine == p.Engine && !there
	})
	for id, i := range before {
		if len(r.underWay(i, "")) > 0 { // what its names say of who may have it is not known yet
			before[id] = Present{ID: id}
		} else if digest(i, p.repository()) != "" && r.find(id) == nil {
			p.Before = append(p.Before, id)
		}
	}
	slices.Sort(p.Before)
	r.Pulls = append(r.Pulls, p)
	return before
}

// Before is what an engine had when a pull began, by ID.
type Before map[string]Present

// Land notes what a pull brought, by the digest that the registry gave for it.
func (r *Record) Land(p Pull, before Before, id, digest string) {
	had, there := before[id]
	var open []string // what had the image before a login brought it
	if there {
		open = had.repositories()
	}
	r.add(p, id, digest, !there, open)
	r.Drop(p)
}

// Drop takes back a pull that brought nothing.
func (r *Record) Drop(p Pull) {
	r.Pulls = slices.DeleteFunc(r.Pulls, func(o Pull) bool {
		return o.Engine == p.Engine && o.Room == p.Room && o.Image == p.Image && o.Began.Equal(p.Began)
	})
}

// overdue settles pulls that are over for certain and were not seen to end.
func (r *Record) overdue(engine string, present []Present, now time.Time) {
	r.Pulls = slices.DeleteFunc(r.Pulls, func(p Pull) bool {
		over := p.Engine == engine && now.After(p.Until)
		if over {
			r.settle(p, present)
		}
		return over
	})
}

// settle finds out by the engine's list what a pull brought.
func (r *Record) settle(p Pull, present []Present) (landed []string) {
	for _, i := range present {
		if d := digest(i, p.repository()); d != "" && !slices.Contains(p.Before, i.ID) {
			// One that has another name, too, may have been there before.
			r.add(p, i.ID, d, len(i.repositories()) == 1, nil)
			landed = append(landed, i.ID)
		}
	}
	return landed
}

func (r *Record) add(p Pull, id, digest string, ours bool, open []string) {
	i := r.at(id, p.Engine)
	if i == nil {
		known := r.find(id) != nil // on another engine: its names here earn nothing
		r.Images = append(r.Images, Image{ID: id, Engine: p.Engine})
		i = &r.Images[len(r.Images)-1]
		for _, repository := range open {
			if repository != p.repository() && !known {
				i.Sources = append(i.Sources, Source{Repository: repository, Open: true, At: p.Began})
			}
		}
	}
	i.Ours = i.Ours || ours
	if !slices.ContainsFunc(i.Sources, func(s Source) bool {
		return s.Repository == p.repository() && (s.Open || s.Digest == digest)
	}) {
		i.Sources = append(i.Sources, Source{Repository: p.repository(), Digest: digest, Room: p.Room, At: p.Began})
	}
}

// Opened notes that a repository gives an image to everybody.
func (r *Record) Opened(id, repository string, now time.Time) {
	for n := range r.Images {
		if i := &r.Images[n]; i.ID == id {
			i.Sources = slices.DeleteFunc(i.Sources, func(s Source) bool { return s.Repository == repository })
			i.Sources = append(i.Sources, Source{Repository: repository, Open: true, At: now})
		}
	}
}

// Use notes that a room uses an image, until it leaves it.
func (r *Record) Use(id, engine, room string, deadline time.Time) {
	if i := r.at(id, engine); i != nil {
		if i.Rooms == nil {
			i.Rooms = map[string]time.Time{}
		}
		i.Rooms[room] = deadline.UTC()
	}
}

// Concerns says whether a room pulled with a login, or uses what one brought.
func (r *Record) Concerns(room string) bool {
	return slices.ContainsFunc(r.Pulls, func(p Pull) bool { return p.Room == room }) ||
		slices.ContainsFunc(r.Images, func(i Image) bool { return !i.Rooms[room].IsZero() })
}

// Unused is an image that nobody uses any more.
type Unused struct {
	Image
	Mine bool // who left was the last to use it
}

// Leave notes that a room uses nothing any more, and returns the images that
// nobody uses now and that only logins brought, for the caller to remove.
func (r *Record) Leave(room, engine string, present []Present, now time.Time) (unused []Unused) {
	r.overdue(engine, present, now)
	r.Pulls = slices.DeleteFunc(r.Pulls, func(p Pull) bool {
		if p.Room != room || p.Engine != engine {
			return false
		}
		landed := r.settle(p, present)
		for _, id := range landed {
			r.Use(id, engine, room, now)
		}
		return len(landed) > 0 // else the engine may still be at it
	})
	for n := range r.Images {
		i := &r.Images[n]
		if i.Engine != engine {
			continue
		}
		_, mine := i.Rooms[room]
		delete(i.Rooms, room)
		maps.DeleteFunc(i.Rooms, func(_ string, deadline time.Time) bool { return now.After(deadline) })
		at := slices.IndexFunc(present, func(p Present) bool { return p.ID == i.ID })
		if at >= 0 && i.Ours && len(i.Rooms) == 0 && i.private() && len(r.underWay(present[at], room)) == 0 {
			unused = append(unused, Unused{*i, mine})
		}
	}
	return unused
}

// Forget drops what is known of an image that the engine has no more.
func (r *Record) Forget(id, engine string) {
	r.Images = slices.DeleteFunc(r.Images, func(i Image) bool { return i.ID == id && i.Engine == engine })
}

// Theirs says that no login brought a name of the image.
func (i Image) Theirs(name string) bool {
	return !slices.ContainsFunc(i.Sources, func(s Source) bool { return !s.Open && s.Repository == repositoryOf(name) })
}

func (i Image) private() bool {
	return slices.ContainsFunc(i.Sources, func(s Source) bool { return !s.Open })
}

func (r *Record) find(id string) *Image {
	n := slices.IndexFunc(r.Images, func(i Image) bool { return i.ID == id })
	if n < 0 {
		return nil
	}
	return &r.Images[n]
}

func (r *Record) at(id, engine string) *Image {
	n := slices.IndexFunc(r.Images, func(i Image) bool { return i.ID == id && i.Engine == engine })
	if n < 0 {
		return nil
	}
	return &r.Images[n]
}
