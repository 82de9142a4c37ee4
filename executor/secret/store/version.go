package store

import (
	"crypto/rand"
	"encoding/hex"
	"slices"
	"time"
)

// current is the version that everybody gets, if there is one.
func (e *entry) current() *version {
	return e.find(func(v *version) bool { return v.State == Current && v.Room == "" })
}

// ofRoom is the living version that one job has for itself.
func (e *entry) ofRoom(room string) *version {
	return e.find(func(v *version) bool { return v.State == Current && v.Room == room && room != "" })
}

// find returns the newest version that fits.
func (e *entry) find(fits func(*version) bool) *version {
	for i := range slices.Backward(e.Versions) {
		if v := &e.Versions[i]; fits(v) {
			return v
		}
	}
	return nil
}

// due says whether everybody's version must be replaced before it is given.
func (e *entry) due(v *version, now time.Time) bool {
	return e.Rotate.Every > 0 && !now.Before(v.Created.Add(e.Rotate.Every))
}

// value is what a generator made.
type value struct {
	fields    map[string]string
	goodUntil time.Time
}

// add makes value the newest version: everybody's (room is empty), in place
// of the one before, or one job's own, until expires.
func (e *entry) add(val value, room string, expires, now time.Time) *version {
	if room == "" {
		e.retire(now)
	}
	v := version{
		Number: e.Next, Tag: newTag(), State: Current, Created: now.UTC(),
		Expires: expires.UTC(), GoodUntil: val.goodUntil.UTC(), Room: room, Fields: val.fields,
	}
	if expires.IsZero() {
		v.Expires = time.Time{}
	}
	if val.goodUntil.IsZero() {
		v.GoodUntil = time.Time{}
	}
	e.Next++
	e.Versions = append(e.Versions, v)
	return &e.Versions[len(e.Versions)-1]
}

// retire begins the grace period of everybody's version.
func (e *entry) retire(now time.Time) {
	v := e.current()
	if v == nil {
		return
	}
	v.State, v.Expires = Old, now.Add(e.Grace).UTC()
	if e.Grace == 0 {
		v.destroy()
	}
}

// destroy leaves the record of a version and nothing of its value.
func (v *version) destroy() { v.State, v.Fields = Destroyed, nil }

// sweep destroys what has expired and says how many versions that were. Of
// those destroyed the last few records stay.
func (d *document) sweep(now time.Time) int {
	n := 0
	for _, e := range d.Secrets {
		dead := 0
		for i := range e.Versions {
			v := &e.Versions[i]
			if v.State != Destroyed && !v.Expires.IsZero() && !now.Before(v.Expires) {
				v.destroy()
				n++
			}
			if v.State == Destroyed {
				dead++
			}
		}
		e.Versions = slices.DeleteFunc(e.Versions, func(v version) bool {
			if v.State != Destroyed || dead <= keepRecords {
				return false
			}
			dead--
			return true
		})
	}
	return n
}

func newTag() string {
	var b [4]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}
