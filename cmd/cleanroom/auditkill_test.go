package main

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"cleanroom/executor/audit/record"
	"cleanroom/sandbox/fault"
)

// TestInitIsKilled: whichever step is the last, the next call makes the log
// whole, and prints its key.
func TestInitIsKilled(t *testing.T) {
	t.Parallel()
	for _, signer := range []string{"file", "command"} {
		for _, point := range fault.Points["audit init"] {
			if signer == "command" && point == "key.made" {
				continue // it has one
			}
			t.Run(signer+" "+point, func(t *testing.T) {
				t.Parallel()
				h := newHost(t, "")
				if signer == "command" {
					config, _, _ := h.token("token")
					h.configure(config)
				}
				if c := h.kill(point, "audit", "init", "--origin", "ci.test/log"); c.out != "" {
					t.Errorf("it said %q before all was done", c.out)
				}
				left := h.privates()
				h.must("secret", "set", "early") // others may come first
				key := h.must("audit", "init")   // it knows the name of what was begun, where there is anything
				if (signer == "file" || point == "init.published") && !strings.HasPrefix(key, "ci.test/log+") {
					t.Errorf("another log: %s", key)
				}
				if now := h.privates(); signer == "file" && len(now) != 1 || signer == "command" && len(now) > 0 || !slices.Equal(left, now) {
					t.Errorf("private keys: %q, then %q", left, now)
				}
				h.must("secret", "set", "late")
				want := "begun, set late"
				if point == "init.published" {
					want = "begun, set early, set late"
				}
				all := h.records(key)
				if got := story(all); got != want {
					t.Errorf("%s, want %s", got, want)
				}
				if all[0].Begun.Key+"\n" != key || h.must("audit", "key") != key {
					t.Errorf("%+v, but the key is %s", all[0].Begun, key)
				}
				before := h.files()
				again := h.call("", "audit", "init")
				if again.err != nil || again.out != key || !strings.Contains(again.words, "already") || !maps.Equal(before, h.files()) {
					t.Errorf("once more: %+v", again)
				}
				if c := h.call("", "audit", "init", "--origin", "other.test/log"); c.err == nil || c.out != "" || strings.Count(c.words, "\n") != 1 {
					t.Errorf("another log in its place: %+v", c)
				}
			})
		}
	}
}

// TestRotationIsKilled: whichever step is the last, the log is signed all the
// same, and the next call finishes what was begun and prints the key.
func TestRotationIsKilled(t *testing.T) {
	t.Parallel()
	points := slices.Concat([]string{"key.made", "append.begun", "append.written", "append.decided", "append.renamed"}, fault.Points["rotate-key"])
	decided := []string{"append.decided", "append.key.known", "append.renamed", "rotate.decided", "key.placed", "rotate.settled", "rotate.said"}
	for _, from := range []string{"file", "command"} {
		for _, to := range []string{"file", "command"} {
			for i, point := range points {
				if to == "command" && strings.HasPrefix(point, "key.") {
					continue // no file is made, and none takes another's place
				}
				if from+to != "filefile" && strings.HasPrefix(point, "append.") {
					continue // whose key it is makes no difference there
				}
				t.Run(from+" "+to+" "+point, func(t *testing.T) {
					t.Parallel()
					h := newHost(t, "")
					rotate := []string{"audit", "rotate-key"}
					if from == "command" {
						config, old, _ := h.token("old")
						h.configure(config)
						rotate = append(rotate, old...)
					}
					first := h.must("audit", "init")
					h.must("secret", "set", "a")
					switch {
					case to == "command":
						config, _, _ := h.token("new")
						h.configure(config)
					case from == "command":
						h.configure("")
					}
					fell := h.kill(point, rotate...)
					want := "begun, set a, key, set c"
					if i%2 == 0 || from+to == "filefile" { // others may come first
						h.must("secret", "set", "b")
						if want = "begun, set a, set b, key, set c"; slices.Contains(decided, point) {
							want = "begun, set a, key, set b, set c"
						}
					}
					again := h.call("", rotate...)
					if again.err != nil || strings.Count(again.out, "\n") != 1 || again.out == first {
						t.Fatalf("%+v", again)
					}
					if late := strings.Contains(again.words, "cut short"); late != slices.Contains(decided, point) {
						t.Errorf("it says %q", again.words)
					}
					if point == "rotate.said" && fell.out != again.out || point != "rotate.said" && fell.out != "" {
						t.Errorf("it said %q, then %q", fell.out, again.out)
					}
					h.must("secret", "set", "c")
					all := h.records(first)
					if got := story(all); got != want {
						t.Errorf("%s, want %s", got, want)
					}
					at := slices.IndexFunc(all, func(r record.Record) bool { return r.Key != nil })
					if all[at].Key.After+"\n" != again.out || all[at].Key.Before+"\n" != first || all[at].Key.Signer != to {
						t.Errorf("%+v, but the key is %s", all[at].Key, again.out)
					}
					if names := h.privates(); to == "file" && !slices.Equal(names, []string{"key"}) || to == "command" && len(names) > 0 {
						t.Errorf("private keys: %q", names)
					}
					if to == "file" { // and it can go on
						if from == "command" {
							rotate = rotate[:2]
						}
						next := h.call("", rotate...)
						if next.err != nil || next.out == again.out || strings.Contains(next.words, "cut short") {
							t.Errorf("the next: %+v", next)
						}
						h.records(first)
					} else if c := h.call("", rotate...); c.err == nil || !strings.Contains(c.words, "the new key is the old one") {
						t.Errorf("the next: %+v", c)
					}
				})
			}
		}
	}
}
