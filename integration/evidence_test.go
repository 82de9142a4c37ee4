package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// nothingLeft of a job on the engine, and in our folders; and the evidence says
// so, and that each lease was revoked. Another job's prepare may still be at it.
func (s *site) nothingLeft(id int64, ended bool) {
	s.t.Helper()
	var left []string
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		if left = s.leftOf(id); len(left) == 0 {
			break
		}
		if time.Now().After(end) {
			s.t.Errorf("left of job %d: %q", id, left)
			break
		}
	}
	if ended {
		s.endedWhole(id)
		s.recordedOnce(id)
	}
}

// recordedOnce: where there is an audit log, it is whole, and has each room of
// the job once, and in its last record as ended.
func (s *site) recordedOnce(id int64) {
	s.t.Helper()
	if _, err := os.Stat(filepath.Join(s.runner.DataDir(), "audit", "log")); err != nil {
		return
	}
	s.cleanroom("audit", "verify")
	type end struct{ Complete bool }
	jobs, complete := map[string]int{}, map[string]bool{}
	for line := range strings.Lines(s.cleanroom("audit", "show", strconv.FormatInt(id, 10), "--json")) {
		var r struct {
			Job, Reap *struct {
				Room string
				End  end
			}
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			s.t.Fatal(err)
		}
		if r.Job != nil {
			jobs[r.Job.Room]++
			complete[r.Job.Room] = r.Job.End.Complete
		} else {
			complete[r.Reap.Room] = r.Reap.End.Complete
		}
	}
	for room, done := range complete {
		if jobs[room] != 1 || !done {
			s.t.Errorf("%s has %d records of its job, and is ended: %v", room, jobs[room], done)
		}
	}
}

func (s *site) leftOf(id int64) (left []string) {
	s.t.Helper()
	counts, err := s.rig.LeftOf(s.t.Context(), id)
	if err != nil || counts != "0 0 0" {
		left = append(left, fmt.Sprint("containers, volumes, networks: ", counts, err))
	}
	names := []string{fmt.Sprintf("*-%d-*", id)}
	rooms, err := s.rig.PoolRooms(s.t.Context(), id)
	for _, room := range rooms {
		names = append(names, room+"*")
	}
	if err != nil {
		left = append(left, err.Error())
	}
	for _, folder := range []string{"rooms", "sealed", "stages", "leases", "pool/taken", "pool/claims", "pool/gone"} {
		for _, in := range []string{s.runner.StateDir(), s.runner.DataDir()} {
			for _, name := range names {
				found, _ := filepath.Glob(filepath.Join(in, folder, name))
				left = append(left, found...)
			}
		}
	}
	return left
}

// ending is evidence as `room show --json` prints it.
type ending struct {
	Room, By, Why, Error string
	Complete             bool
	Leases               []struct{ ID, Outcome string }
	Removed, Left        []struct{ Kind, Name, Why string }
}

func (s *site) endings(id int64) (all []ending) {
	s.t.Helper()
	if err := json.Unmarshal([]byte(s.cleanroom("room", "show", strconv.FormatInt(id, 10), "--json")), &all); err != nil {
		s.t.Fatal(err)
	}
	return all
}

// endedWhole looks at the evidence: nothing is left, and no lease.
func (s *site) endedWhole(id int64) {
	s.t.Helper()
	last, leases := map[string]ending{}, map[string]string{}
	for _, e := range s.endings(id) {
		last[e.Room] = e
		for _, l := range e.Leases {
			leases[l.ID] = l.Outcome
		}
	}
	for room, e := range last {
		if !e.Complete || len(e.Left) > 0 {
			s.t.Errorf("%s: the evidence is %+v", room, e)
		}
	}
	for lease, outcome := range leases {
		if outcome != "revoked" {
			s.t.Errorf("lease %s: %s", lease, outcome)
		}
	}
}
