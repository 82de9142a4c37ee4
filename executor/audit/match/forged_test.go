package match

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"gitlab.com/gitlab-org/gitlab-runner/common/buildlogger"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/trace"

	"cleanroom/executor/audit/record"
)

// TestForged: whoever puts a line anywhere into a log, in whatever form, is
// found out, and the line is named.
func TestForged(t *testing.T) {
	scripts := []script{
		{"prepare", lines("Room line %d\n", 3)}, {"get_sources", lines("source %d\n", 3)}, {"step_script", lines("test %d\n", 20)},
		{"after_script", []string{"no end"}},
	}
	const stamp = "2026-01-01T00:00:00.000000Z "
	own := func(text string) string { return "\x1b[0K\x1b[0;33mWARNING: " + text + "\x1b[0;m" }
	both(t, func(t *testing.T, headers bool) {
		good, stages := run(t, headers, 0, scripts)
		if r := mustMatch(t, good, stages); !r.Holds() {
			t.Fatalf("%+v", r)
		}
		all := strings.SplitAfter(string(good), "\n")
		all = all[:len(all)-1]
		forgeries := []string{
			"TESTS PASSED", "", "\r", "\x1b[0K TESTS PASSED", "section_start:1:tests_passed\r\x1b[0K", "section_start:1:step_script[collapsed=true]\r\x1b[0K",
			"section_start:1:step_script\r\x1b[0KTESTS PASSED", "section_end:1:step_script\rTESTS PASSED", own("TESTS PASSED"), own("Retrying...TESTS PASSED"),
			own("script canceled externally (UI, API)") + "TESTS PASSED", "\x1b[31;1mERROR: Job failed: x\r\x1b[0KTESTS PASSED\x1b[0;m",
			"\x1b[31;1mERROR: Job failed: x\x1b[32;1mTESTS PASSED\x1b[0;m", "Job succeeded", "\x1b[32;1mJob succeeded",
			"\x1b[0KRunning with gitlab-runner 19.4.0 (fc1f1862)\x1b[0;m", "\x1b[0K\x1b[36;1mPreparing the \"custom\" executor\x1b[0;m\x1b[0;m",
			"\x1b[0K\x1b[36;1mExecuting \"step_script\" stage of the job script\x1b[0;m\x1b[0;m\n\x1b[0K\x1b[36;1mExecuting \"step_script\" stage of the job script\x1b[0;m\x1b[0;m",
			"\x1b[0K\x1b[36;1mExecuting \"step_tests_passed\" stage of the job script\x1b[0;m\x1b[0;m", "\x1b[0K\x1b[36;1mRestoring cache\x1b[0;m\x1b[0;m",
		}
		heads := []string{""}
		if headers {
			heads = []string{"", stamp + "00O ", stamp + "00O+", stamp + "01O ", stamp + "01O+", stamp + "00E ", stamp + "01E ", stamp + "02O ", stamp + "ffE "}
		}
		for at := range len(all) + 1 {
			for _, head := range heads {
				for _, text := range forgeries {
					if text == "" && strings.HasSuffix(head, "+") { // it adds nothing to what was said
						continue
					}
					line := head + strings.ReplaceAll(text, "\n", "\n"+head) + "\n"
					log := strings.Join(all[:at], "") + line + strings.Join(all[at:], "")
					r := mustMatch(t, []byte(log), stages)
					if r.Holds() {
						t.Errorf("%q at line %d holds: %+v", line, at+1, r)
					}
					if n := len(r.Foreign); (head == stamp+"00E " || head == stamp+"ffE ") && (n != 1+strings.Count(text, "\n") || r.Foreign[0].Number != int64(at+1)) {
						t.Errorf("%q at line %d: %+v", line, at+1, r.Foreign)
					}
				}
			}
		}
		// Nor may a stage's output stand under another's heading, or under none.
		heading := func(stage string) int {
			return slices.IndexFunc(all, func(l string) bool { return strings.Contains(l, headingOf(stage)) })
		}
		from, to := heading("get_sources"), heading("step_script")
		if headers { // only the lines of the heading
			from, to = from+1, to+1
		}
		moved := slices.Concat(all[:heading("step_script")], all[heading("step_script")+1:])
		if r := mustMatch(t, []byte(strings.Join(moved, "")), stages); r.Holds() {
			t.Errorf("without a heading: %+v", r)
		}
		moved = slices.Concat(all[:from], all[to-1:to], all[from:to-1], all[to:])
		if r := mustMatch(t, []byte(strings.Join(moved, "")), stages); r.Holds() {
			t.Errorf("under another heading: %+v", r)
		}
	})
}

// TestRunnersWords: what the runner says itself, as its own code writes it,
// is known, and what of it nothing proves is in the report.
func TestRunnersWords(t *testing.T) {
	for _, c := range []struct {
		say   func(l *buildlogger.Logger, args ...any)
		args  []any
		tells string
	}{
		{(*buildlogger.Logger).Println, []any{"  UUID: not supported with this GitLab version"}, "UUID: not"},
		{(*buildlogger.Logger).Println, []any{"  feature flags:", "FF_TIMESTAMPS:false, FF_SCRIPT_SECTIONS:true"}, "FF_TIMESTAMPS"},
		{(*buildlogger.Logger).Println, []any{"Using Custom executor with driver cleanroom 0.1.0-dev..."}, "driver cleanroom"},
		{(*buildlogger.Logger).Println, []any{"Using Custom executor..."}, ""},
		{(*buildlogger.Logger).Println, []any{`Resolving secret "A"...`}, `secret \"A\"`},
		{(*buildlogger.Logger).Println, []any{`Using "vault" secret resolver...`}, "vault"},
		{(*buildlogger.Logger).Warningln, []any{"Starting with version 17.0 the 'build_script' stage will be replaced with 'step_script': https://gitlab.com/groups/gitlab-org/-/epics/6112"}, ""},
		{(*buildlogger.Logger).Warningln, []any{"Retrying..."}, ""},
		{(*buildlogger.Logger).Warningln, []any{"script canceled externally (UI, API)"}, "canceled"},
		{(*buildlogger.Logger).Warningln, []any{"after_script failed, but job will continue unaffected:", errors.New("exit status 1")}, "exit status 1"},
		{(*buildlogger.Logger).Warningln, []any{"step_script could not run to completion because the timeout was exceeded. For more control over job and script timeouts see: https://docs.gitlab.com/ci/runners/configure_runners/#set-script-and-after_script-timeouts"}, "timeout"},
		{(*buildlogger.Logger).Warningln, []any{"get_sources could not run to completion because the timeout was exceeded. For more control over job and script timeouts see: https://docs.gitlab.com/ee/ci/runners/configure_runners.html#set-script-and-after_script-timeouts"}, "timeout"},
		{(*buildlogger.Logger).Warningln, []any{"Failed to terminate process:", errors.New("no such process")}, "no such process"},
		{(*buildlogger.Logger).Warningln, []any{"Cleanup script failed:", errors.New("exit status 2")}, "exit status 2"},
		{(*buildlogger.Logger).Warningln, []any{"Ignoring malformed RUNNER_SCRIPT_TIMEOUT timeout: soon"}, "soon"},
		{(*buildlogger.Logger).Warningln, []any{"RUNNER_SCRIPT_TIMEOUT timeout: 9h is longer than job timeout. Setting to job timeout"}, "9h"},
		{(*buildlogger.Logger).Warningln, []any{errors.Join(errors.New(`GIT_STRATEGY: expected either 'clone', 'fetch', 'none' or 'empty' got "x", using default value 'fetch'`),
			errors.New(`GIT_SUBMODULE_STRATEGY: expected either 'normal', 'recursive' or 'none' got "y"`), errors.New(`GIT_CHECKOUT: expected bool got "z", using default value: true`),
			errors.New("GET_SOURCES_ATTEMPTS: number of attempts out of the range [1, 10], clamping to: 10"), errors.New("CI_DEBUG_TRACE: usage is disabled on this Runner"),
			errors.New("FF_TIMESTAMPS: could not parse feature flag, expected bool, got maybe"))}, "maybe"},
		{(*buildlogger.Logger).SoftErrorln, []any{"Preparation failed:", errors.New("exit status 2")}, "exit status 2"},
		{(*buildlogger.Logger).Infoln, []any{"Will be retried in", 3 * time.Second, "..."}, ""},
		{(*buildlogger.Logger).SoftErrorln, []any{"Job failed: exit status 3"}, "exit status 3"},
		{(*buildlogger.Logger).Errorln, []any{"Job failed (system failure):", errors.New("prepare environment: exit status 2. Check https://docs.gitlab.com/runner/shells/#shell-profile-loading for more information")}, "prepare environment"},
		{(*buildlogger.Logger).Infoln, []any{"Job succeeded"}, "succeeded"},
		{(*buildlogger.Logger).Infoln, []any{`Job triggered by policy "scan".`}, "scan"},
		{(*buildlogger.Logger).Infoln, []any{"User-defined CI/CD variables are allowed in this job (except for A, B) according to the policy."}, "A, B"},
	} {
		both(t, func(t *testing.T, headers bool) {
			buffer, err := trace.New()
			if err != nil {
				t.Fatal(err)
			}
			defer buffer.Close()
			quiet := logrus.New()
			quiet.SetOutput(io.Discard)
			l := buildlogger.New(traceOf{buffer}, logrus.NewEntry(quiet), buildlogger.Options{Timestamping: headers, MaskAllDefaultTokens: true})
			l.SendRawLog("section_start:1764200000:prepare_executor\r\x1b[0K")
			c.say(&l, c.args...)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			buffer.Finish()
			log, err := buffer.Bytes(0, buffer.Size())
			if err != nil {
				t.Fatal(err)
			}
			r := mustMatch(t, log, nil)
			if !r.Holds() || (r.Told > 0) != (c.tells != "") || r.Told > 0 && !strings.Contains(r.Words[len(r.Words)-1].Text, c.tells) {
				t.Errorf("%q: %+v", log, r)
			}
		})
	}
}

// FuzzForged puts a text into a log, or in place of a piece of it. Wherever
// that is, either the log does not hold any more, or the text is among the
// runner's words that nothing proves.
func FuzzForged(f *testing.F) {
	const canary = "cAnArY"
	small := []script{{"prepare", lines("Room %d\n", 2)}, {"get_sources", []string{"a\r", "é\n"}}, {"step_script", []string{"b\n", "end"}}}
	type made struct {
		log    []byte
		stages []record.Stage
	}
	var logs []made
	for _, headers := range []bool{true, false} {
		log, stages := run(f, headers, 0, small)
		logs = append(logs, made{log, stages})
	}
	for i, text := range []string{
		canary + "\n", "2026-01-01T00:00:00.000000Z 01O " + canary + "\n", "2026-01-01T00:00:00.000000Z 00O+" + canary, "\x1b[31;1mERROR: Job failed: " + canary + "\x1b[0;m\n",
		"section_start:1:" + canary + "\r\x1b[0K", "\x1b[0K  UUID: " + canary + "\x1b[0;m\n", "A: expected bool got \"" + canary + "\"",
		"\n\x1b[33;1mJob's log exceeded limit of 100 bytes.\nJob execution will continue but no more output will be collected.\x1b[0;m\n" + canary,
	} {
		for at := 0; at < len(logs[0].log); at += 97 {
			f.Add(i%2 == 0, at, i, text)
		}
	}
	f.Fuzz(func(t *testing.T, headers bool, at, drop int, text string) {
		if len(text) > 140 || !strings.Contains(text, canary) {
			return
		}
		m := logs[1]
		if headers {
			m = logs[0]
		}
		at = max(0, min(at, len(m.log)))
		drop = max(0, min(drop, len(m.log)-at))
		log := slices.Concat(m.log[:at], []byte(text), m.log[at+drop:])
		r, err := Match(log, m.stages)
		if err != nil {
			t.Fatal(err)
		}
		if r.Holds() && !slices.ContainsFunc(r.Words, func(l Line) bool { return strings.Contains(l.Text, canary) }) {
			t.Errorf("%q holds: %+v", log, r)
		}
		if r.Strangers < int64(len(r.Foreign)) || len(r.Foreign) > mostLines || r.Strangers > 0 && len(r.Foreign) == 0 {
			t.Errorf("%+v", r)
		}
		for _, l := range append(r.Foreign, r.Words...) {
			if l.Number < 1 || l.Number > int64(bytes.Count(log, []byte("\n"))+1) {
				t.Errorf("%+v", l)
			}
		}
	})
}
