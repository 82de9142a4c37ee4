package record

import (
	"encoding/json"
	"fmt"
	"reflect"
)

// fit cuts a record until it fits, least wanted first: the marks, by which a
// changed log says where; then, a quarter at a time, of the list that takes
// most space. The order decides between equals, and nothing else does, so that
// the same record is always cut in the same way.
func (r *Record) fit() ([]byte, error) {
	text, err := r.canonical()
	if err != nil || len(text) <= MaxSize {
		return text, err
	}
	r.unmark()
	lists := r.lists()
	for i := range lists {
		lists[i].measure()
	}
	for {
		text, err = r.canonical()
		if err != nil || len(text) <= MaxSize {
			return text, err
		}
		for over := len(text) - MaxSize; over > 0; {
			at := 0
			for i := range lists {
				if lists[i].size > lists[at].size {
					at = i
				}
			}
			freed, err := lists[at].shorten(&r.Cut)
			if err != nil {
				return nil, err
			}
			over -= freed
		}
	}
}

// unmark takes the marks out of all stages.
func (r *Record) unmark() {
	if r.Job == nil {
		return
	}
	for i := range r.Job.Stages {
		if o := r.Job.Stages[i].Output; o != nil && len(o.Marks) > 0 {
			cut(&r.Cut, "job.stages.output.marks", len(o.Marks))
			o.Marks, o.Every = nil, 0
		}
	}
}

// measure is about what the list takes of the record.
func (n *named) measure() {
	n.size = 0
	if text, err := json.Marshal(n.list); err == nil && reflect.ValueOf(n.list).Elem().Len() > 0 {
		n.size = len(text)
	}
}

// shorten cuts a quarter and says about how many bytes that was.
func (n *named) shorten(cuts *[]Cut) (freed int, err error) {
	v := reflect.ValueOf(n.list).Elem()
	if v.Len() == 0 { // what else there is is far smaller than a record
		return 0, fmt.Errorf("%w: it cannot be cut to %d bytes", ErrRecord, MaxSize)
	}
	drop := max(1, v.Len()/4)
	v.SetLen(v.Len() - drop)
	cut(cuts, n.name, drop)
	was := n.size
	n.measure()
	return was - n.size, nil
}

type named struct {
	name string
	list any // pointer to a slice
	size int // about, in bytes
}

// lists are all that can be cut.
func (r *Record) lists() (all []named) {
	if j := r.Job; j != nil {
		all = append(all,
			named{name: "job.end.removed", list: &j.End.Removed}, named{name: "job.decisions", list: &j.Decisions}, named{name: "job.guard", list: &j.Guard},
			named{name: "job.artifacts", list: &j.Artifacts}, named{name: "job.stages", list: &j.Stages}, named{name: "job.images", list: &j.Images},
			named{name: "job.provenance", list: &j.Provenance},
			named{name: "job.end.left", list: &j.End.Left}, named{name: "job.refusals", list: &j.Refusals}, named{name: "job.secrets", list: &j.Secrets},
			named{name: "job.facts", list: &j.Facts})
	}
	if p := r.Reap; p != nil {
		all = append(all, named{name: "reap.end.removed", list: &p.End.Removed}, named{name: "reap.end.left", list: &p.End.Left}, named{name: "reap.secrets", list: &p.Secrets})
	}
	if c := r.Config; c != nil {
		all = append(all, named{name: "config.sections", list: &c.Sections})
	}
	if p := r.Policy; p != nil {
		all = append(all, named{name: "policy.changed", list: &p.Changed}, named{name: "policy.added", list: &p.Added}, named{name: "policy.removed", list: &p.Removed})
	}
	if c := r.Cache; c != nil {
		all = append(all, named{name: "cache.caches", list: &c.Caches}, named{name: "cache.left", list: &c.Left})
	}
	return all
}
