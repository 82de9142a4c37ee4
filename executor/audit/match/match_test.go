package match

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"gitlab.com/gitlab-org/gitlab-runner/common/buildlogger"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/trace"

	"cleanroom/executor/audit/output"
	"cleanroom/executor/audit/record"
)

// script is what a stage prints, in pieces.
type script struct {
	name   string
	pieces []string
}

// headingOf is what the runner says before a stage.
func headingOf(stage string) string {
	for text, name := range descriptions {
		if name == stage {
			return text
		}
	}
	return "Executing \"" + stage + "\" stage of the job script"
}

// run has the runner's own code write a job's log, as its custom executor
// does, and meters record what the stages print.
func run(t testing.TB, headers bool, limit int, scripts []script) (log []byte, stages []record.Stage) {
	t.Helper()
	buffer, err := trace.New()
	if err != nil {
		t.Fatal(err)
	}
	defer buffer.Close()
	if limit > 0 {
		buffer.SetLimit(limit)
	} else {
		buffer.SetLimit(1 << 30)
	}
	l := buildlogger.New(traceOf{buffer}, nil, buildlogger.Options{Timestamping: headers, MaskAllDefaultTokens: true})
	l.SendRawLog("\x1b[0KRunning with gitlab-runner 19.4.0 (fc1f1862)\x1b[0;m\n\x1b[0K  on rig 0123456789, system ID: s_0123456789ab\x1b[0;m\n")
	for _, s := range scripts {
		section, stream, container, heading := s.name, buildlogger.StreamWorkLevel, "job", headingOf(s.name)
		if s.name == "prepare" {
			section, stream, container, heading = "prepare_executor", buildlogger.StreamExecutorLevel, "", "Preparing the \"custom\" executor"
		}
		l.SendRawLog("section_start:1764200000:" + section + "\r\x1b[0K")
		l.SendRawLog("\x1b[0K\x1b[36;1m" + heading + "\x1b[0;m\x1b[0;m\n")
		w := l.Stream(stream, buildlogger.Stdout)
		m := output.New(w, output.Options{})
		for _, p := range s.pieces {
			fmt.Fprint(m, p)
		}
		out, err := m.Close()
		if err := errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		l.SendRawLog("section_end:1764200001:" + section + "\r\x1b[0K")
		stages = append(stages, record.Stage{Stage: s.name, Container: container, Result: "ok", Output: &out})
	}
	l.SendRawLog("\x1b[32;1mJob succeeded\x1b[0;m\n")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	buffer.Finish()
	log, err = buffer.Bytes(0, buffer.Size())
	if err != nil {
		t.Fatal(err)
	}
	return log, stages
}

type traceOf struct{ *trace.Buffer }

func (traceOf) IsStdout() bool { return false }

func lines(format string, n int) []string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf(format, i))
	}
	return all
}

// job prints what logs have trouble with.
func job() []script {
	return []script{
		{"prepare", lines("Room line %d\n", 20)},
		{"get_sources", lines("Receiving objects: %d%%\r", 90)},
		{"restore_cache", nil},
		{"step_script", append(lines("line %d é € 💥 glpat-abc\r\n", 400),
			"2026-01-01T00:00:00.000000Z 00O a header of its own\n", "section_start:1:x\r\x1b[0Kmine\n", "section_end:1:x\r\x1b[0K",
			strings.Repeat("long ", 5000), "\n\n\n", "bad \xff\xfe\n", "\rno end")},
		{"after_script", []string{"ok\n", "ok\n"}},
		{"upload_artifacts_on_success", []string{"glpat-"}},
	}
}

func both(t *testing.T, test func(t *testing.T, headers bool)) {
	t.Run("headers", func(t *testing.T) { test(t, true) })
	t.Run("plain", func(t *testing.T) { test(t, false) })
}

func mustMatch(t testing.TB, log []byte, stages []record.Stage) Report {
	t.Helper()
	r, err := Match(log, stages)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestHolds(t *testing.T) {
	both(t, func(t *testing.T, headers bool) {
		log, stages := run(t, headers, 0, job())
		r := mustMatch(t, log, stages)
		if !r.Holds() || r.Headers != headers || r.Limit != 0 {
			t.Errorf("%+v\n%q", r, log)
		}
		at := r.Stages[3].At
		if !bytes.HasPrefix(log[at:], []byte("line 0 é € 💥 glpat-[MASKED]\r\n")) {
			t.Errorf("step_script begins at %d: %q", at, log[at:at+50])
		}
	})
}

// Whatever of an output is changed, the log does not hold it any more, and the
// report says which and where.
func TestChanged(t *testing.T) {
	both(t, func(t *testing.T, headers bool) {
		good, stages := run(t, headers, 0, job())
		edit := func(old, new string) []byte {
			if bytes.Count(good, []byte(old)) == 0 {
				t.Fatalf("no %q in the log", old)
			}
			return bytes.Replace(good, []byte(old), []byte(new), 1)
		}
		for name, c := range map[string]struct {
			log   []byte
			stage string
		}{
			"a byte at the beginning": {edit("line 0 ", "line 9 "), "step_script"},
			"a byte in the middle":    {edit("line 311 ", "line 312 "), "step_script"},
			"a byte at the end":       {edit("no end", "no End"), "step_script"},
			"a character":             {edit("line 5 é", "line 5 è"), "step_script"},
			"a byte more":             {edit("line 7 ", "line 77 "), "step_script"},
			"a byte less":             {edit("line 8 ", "line 8"), "step_script"},
			"a short stage":           {edit("ok\n", "OK\n"), "after_script"},
			"prepare":                 {edit("Room line 3", "Room line 4"), "prepare"},
			"a progress":              {edit("objects: 50%", "objects: 51%"), "get_sources"},
			"white space at a line's": {edit("[MASKED]\r\n", "[MASKED] \r\n"), "step_script"},
		} {
			r := mustMatch(t, c.log, stages)
			if r.Holds() {
				t.Errorf("%s: holds: %+v", name, r)
				continue
			}
			for _, s := range r.Stages {
				if wrong := s.State != Same; wrong != (s.Stage == c.stage) {
					t.Errorf("%s: %+v", name, s)
				}
				if s.State != Same && (s.Good >= s.Until && s.State == Changed || s.Until > s.Bytes) {
					t.Errorf("%s: where is not said: %+v", name, s)
				}
			}
		}
		r := mustMatch(t, edit("line 311 ", "line 312 "), stages)
		at := int64(strings.Index(strings.Join(job()[3].pieces, ""), "line 311 ")) // a little more, with [MASKED]
		if s := r.Stages[3]; s.Good < at/2 || s.Until > 3*at {
			t.Errorf("the change is said to be from %d to %d of %d, is after %d", s.Good, s.Until, s.Bytes, at)
		}
	})
}

// What is in a log with headers that no stage printed is found; so is what
// stands in another order.
func TestAdded(t *testing.T) {
	good, stages := run(t, true, 0, []script{
		{"get_sources", lines("source %d\n", 3)}, {"step_script", lines("test %d\n", 50)}, {"after_script", lines("after %d\n", 3)},
	})
	all := bytes.SplitAfter(good, []byte("\n"))
	at := func(what string) int {
		for i, line := range all {
			if bytes.Contains(line, []byte(what)) {
				return i
			}
		}
		t.Fatal(what)
		return 0
	}
	forged := func(i int, text string) []byte {
		line := append(append([]byte{}, all[at("test 0")][:headerSize]...), text...)
		return bytes.Join([][]byte{bytes.Join(all[:i], nil), line, bytes.Join(all[i:], nil)}, nil)
	}
	for name, i := range map[string]int{"before the first": at("source 0"), "between two": at("test 0"), "after the last": at("after 2") + 1, "at the end": len(all) - 1} {
		r := mustMatch(t, forged(i, "tests passed\n"), stages)
		if r.Holds() || r.Strangers != 1 || !slices.Equal(r.Foreign, []Line{{int64(i + 1), `"tests passed"`}}) {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if r := mustMatch(t, forged(at("test 7"), "tests passed\n"), stages); r.Holds() || r.Stages[1].State != Changed || r.Stages[2].State != Same {
		t.Errorf("within one: %+v", r)
	}
	all[at("source 0")], all[at("after 0")] = all[at("after 0")], all[at("source 0")]
	if r := mustMatch(t, bytes.Join(all, nil), stages); r.Holds() {
		t.Errorf("order: %+v", r)
	}
	swapped := []record.Stage{stages[1], stages[0], stages[2]}
	if r := mustMatch(t, good, swapped); r.Holds() {
		t.Errorf("order of stages: %+v", r)
	}
	if r := mustMatch(t, good, append(stages, record.Stage{Stage: "x", Container: "job", Result: "unknown"})); r.Holds() || r.Stages[3].State != Unknown {
		t.Errorf("a stage without a hash: %+v", r)
	}
}

// What runners of version 17 write: they break a marker in two, and say the
// last words with the logger of the rest.
func TestOlderRunner(t *testing.T) {
	const h = "2026-01-01T00:00:00.000000Z 00O"
	log := h + " \x1b[0KRunning with gitlab-runner 17.0.0 (44feccdf)\x1b[0;m\n" + h + " \x1b[0K  on rig abcdef123, system ID: s_1\x1b[0;m\n" +
		h + " section_start:1:prepare_executor\r\n" + h + "+\x1b[0K\x1b[0K\x1b[36;1mPreparing the \"custom\" executor\x1b[0;m\x1b[0;m\n" +
		h + " section_end:1:prepare_executor\r\n" + h + "+\x1b[0K\x1b[32;1mJob succeeded\x1b[0;m\n"
	for _, log := range []string{log, strings.TrimSuffix(log, "\x1b[32;1mJob succeeded\x1b[0;m\n") + "\n"} {
		if r := mustMatch(t, []byte(log), nil); !r.Holds() {
			t.Errorf("%q: %+v", log, r)
		}
	}
}

// A log that its runner cut holds nothing for certain, but says how far it is
// good; and who cuts it and says that it was the runner is not believed on
// what stands before.
func TestLimit(t *testing.T) {
	both(t, func(t *testing.T, headers bool) {
		scripts := []script{{"get_sources", lines("source %d\n", 5)}, {"step_script", lines("a longer line of some test %d\n", 3000)}, {"after_script", []string{"bye\n"}}}
		for _, limit := range []int{20_000, 20_001, 50_000} {
			log, stages := run(t, headers, limit, scripts)
			r := mustMatch(t, log, stages)
			if r.Holds() || r.Limit != int64(limit) || r.Stages[0].State != Same || r.Stages[1].State != Cut || r.Stages[2].State != Cut {
				t.Errorf("limit %d: %+v", limit, r)
			}
			if r.Stages[1].Good < int64(limit/4) {
				t.Errorf("limit %d: good are %d bytes", limit, r.Stages[1].Good)
			}
			bad := bytes.Replace(log, []byte("source 3"), []byte("source 4"), 1)
			if r := mustMatch(t, bad, stages); r.Holds() || r.Stages[0].State != Changed && r.Stages[0].State != Missing {
				t.Errorf("limit %d, and changed: %+v", limit, r)
			}
		}
		// The words alone, somewhere in an output, are no limit.
		words := "\n\x1b[33;1mJob's log exceeded limit of 100 bytes.\nJob execution will continue but no more output will be collected.\x1b[0;m\n"
		log, stages := run(t, headers, 0, []script{{"step_script", []string{"a", words, "b\n", words}}})
		if r := mustMatch(t, log, stages); !r.Holds() || r.Limit != 0 {
			t.Errorf("the words: %+v", r)
		}
	})
}

// GitLab takes no more of the log of a job that is canceled.
func TestCanceled(t *testing.T) {
	both(t, func(t *testing.T, headers bool) {
		log, stages := run(t, headers, 0, []script{{"get_sources", lines("source %d\n", 5)}, {"step_script", lines("a line of some test %d\n", 100)}})
		end := bytes.Index(log, []byte("test 60"))
		r := mustMatch(t, log[:end], stages)
		if r.Holds() || r.Stages[0].State != Same || r.Stages[1].State != Cut || r.Stages[1].Good < 500 {
			t.Errorf("%+v", r)
		}
		bad := bytes.Replace(log[:end], []byte("test 2\n"), []byte("test 3\n"), 1)
		if r := mustMatch(t, bad, stages); r.Stages[1].State == Same || r.Stages[1].State == Cut {
			t.Errorf("and changed: %+v", r)
		}
	})
}

// The runner writes a line in two pieces at times, and a line of its own may
// come between them.
func TestTornLine(t *testing.T) {
	const h1, h0 = "2026-01-01T00:00:00.000000Z 01O ", "2026-01-01T00:00:00.000001Z 00O "
	const head = h0 + "\x1b[0K\x1b[36;1mExecuting \"step_script\" stage of the job script\x1b[0;m\x1b[0;m\n"
	const warn = h0 + "\x1b[0;33mWARNING: Retrying...\x1b[0;m\n"
	out := func(text string) []record.Stage {
		m := output.New(&bytes.Buffer{}, output.Options{})
		fmt.Fprint(m, text)
		o, _ := m.Close()
		return []record.Stage{{Stage: "step_script", Container: "job", Output: &o}}
	}
	for _, log := range []string{
		h1 + "one\n" + h1 + warn + "two\n" + h1 + "three\n",
		h1 + "one\n" + h1 + "tw" + warn + "o\n" + h1 + "three\n",
		h1 + "one\n" + warn + h1 + "two\n" + h1 + "three\n",
	} {
		if r := mustMatch(t, []byte(head+log), out("one\ntwo\nthree\n")); !r.Holds() {
			t.Errorf("%q: %+v", log, r)
		}
	}
}

// Lines that look all alike, one changed: looking must end.
func TestManyAlike(t *testing.T) {
	log, stages := run(t, false, 0, []script{{"step_script", []string{strings.Repeat("y\n", 500_000)}}})
	bad := bytes.Clone(log)
	bad[bytes.LastIndexByte(bad, 'y')] = 'n'
	last := bytes.LastIndex(bad, []byte("y\ny\n"))
	bad[last] = 'x'
	if r := mustMatch(t, bad, stages); r.Holds() {
		t.Errorf("%+v", r)
	}
	if r := mustMatch(t, log, stages); !r.Holds() {
		t.Errorf("%+v", r)
	}
}

// Whatever a job prints, and in whatever pieces, its own log holds it.
func TestRandomJobs(t *testing.T) {
	words := []string{"a", "\n", "\r", "\r\n", "é", "\xe2\x82", "glpat-", "x", "\x1b[0K", "section_end:1:x\r\x1b[0K", "?private_token=", " ", strings.Repeat("b", 3000), "2026-01-01T00:00:00.000000Z 01O+"}
	rng := rand.New(rand.NewPCG(1, 2))
	for n := range 300 {
		var scripts []script
		for i, name := range []string{"prepare", "get_sources", "step_script", "after_script"} {
			s := script{name: name}
			for range rng.IntN(30) {
				p := ""
				for range 1 + rng.IntN(4) {
					p += words[rng.IntN(len(words))]
				}
				s.pieces = append(s.pieces, p)
			}
			if i == 0 { // its writer and the runner's own share a stream
				s.pieces = append(s.pieces, "ready\n")
			}
			scripts = append(scripts, s)
		}
		for _, headers := range []bool{true, false} {
			log, stages := run(t, headers, 0, scripts)
			if r := mustMatch(t, log, stages); !r.Holds() {
				t.Fatalf("job %d: %+v\n%q\n%q", n, r, scripts, log[max(0, len(log)-500):])
			}
		}
	}
}

func FuzzMatch(f *testing.F) {
	small := []script{{"prepare", lines("Room %d\n", 2)}, {"step_script", []string{"a\r", "é\n", "end"}}}
	for _, headers := range []bool{true, false} {
		for _, limit := range []int{0, 500} {
			log, _ := run(f, headers, limit, small)
			f.Add(log, 300, 20)
		}
	}
	f.Fuzz(func(t *testing.T, log []byte, at, size int) {
		if len(log) > 10_000 {
			return
		}
		// An output that is in the log as it is, and one that is anything.
		at = max(0, min(at, len(log)))
		size = max(0, min(size, len(log)-at))
		m := output.New(&bytes.Buffer{}, output.Options{})
		m.Write(log[at : at+size])
		o, _ := m.Close()
		odd := record.Output{Bytes: int64(size), SHA256: o.SHA256, Every: int64(at), Marks: []string{"x", o.SHA256[:32]}}
		for _, container := range []string{"", "job"} {
			r, err := Match(log, []record.Stage{{Stage: "a", Container: container, Output: &o}, {Stage: "b", Container: container, Output: &odd}})
			if err != nil || len(r.Stages) != 2 {
				t.Errorf("%+v, %v", r, err)
			}
			for _, s := range r.Stages {
				if s.At < 0 || s.At > int64(len(log)) || s.Good < 0 || s.Good > s.Bytes {
					t.Errorf("%+v", s)
				}
			}
		}
	})
}
