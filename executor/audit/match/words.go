package match

import (
	"bytes"
	"regexp"
	"slices"
	"sync"

	"cleanroom/executor/audit/record"
)

// The runner's own words in a job's log, by its source of versions 17 and 19:
// common/build.go, common/build_settings.go, common/secrets.go,
// executors/custom, helpers/build_section.go, helpers/retry, helpers/process.
// Each line has a colour by its level, and ends with resetting it
// (common/buildlogger/internal/tee.go).
const (
	plain   = ``
	heading = `\x1b\[36;1m`
	info    = `\x1b\[32;1m`
	warning = `\x1b\[0;33mWARNING: `
	failure = `\x1b\[31;1mERROR: `
	reset   = `\x1b\[0;m`
)

// free is text of errors and of names, where the runner has such: no control
// characters, with which it could hide what stands beside it.
const free = `[^\x00-\x1f\x7f-\x{9f}]*`

// words is a line that the runner writes.
type words struct {
	is    *regexp.Regexp
	tells bool // some of it may be any text, or it says how the job went: nothing proves it
	once  bool // for each job
	last  bool // nothing follows it
}

func line(level, text string) *regexp.Regexp {
	if level == heading {
		text += reset
	}
	return regexp.MustCompile(`^` + level + text + reset + `$`)
}

// known is ready once for a process, and only where a log is matched.
var known = sync.OnceValue(func() []words {
	return []words{
		{is: line(plain, `Running with gitlab-runner (development version|[\w.~+-]{1,80}) \([\w.-]{1,40}\)`), once: true, tells: true},
		{is: line(plain, `  on `+free+` [\w-]{1,40}(, system ID: [\w-]{1,80})?`), once: true, tells: true},
		{is: line(plain, `  UUID: (not supported with this GitLab version|[\w-]{1,80})`), once: true, tells: true},
		{is: line(plain, `  feature flags: [A-Z0-9_]+:(true|false)(, [A-Z0-9_]+:(true|false))*`), once: true, tells: true},
		{is: line(heading, `Resolving secrets`)},
		{is: line(plain, `Resolving secret "`+free+`"\.\.\.`), tells: true},
		{is: line(plain, `Using "[a-z_]{1,40}" secret resolver\.\.\.`), tells: true},
		{is: line(warning, `Not resolved: `+free), tells: true},
		{is: line(heading, `Preparing the "custom" executor`), once: true},
		{is: line(plain, `Using Custom executor with driver cleanroom( [\w.~+-]{1,80})?\.\.\.`), tells: true},
		{is: line(plain, `Using Custom executor\.\.\.`)},
		{is: line(failure, `Preparation failed: `+free), tells: true},
		{is: line(info, `Will be retried in [0-9.hms]{1,20} \.\.\.`)},
		{is: line(warning, `Starting with version 17\.0 the 'build_script' stage will be replaced with 'step_script': https://gitlab\.com/groups/gitlab-org/-/epics/6112`)},
		{is: line(warning, `Retrying\.\.\.`)},
		{is: line(warning, `[\w-]{1,128} could not run to completion because the timeout was exceeded\. For more control over job and script timeouts see: `+
			`https://docs\.gitlab\.com/(ee/ci/runners/configure_runners\.html|ci/runners/configure_runners/)#set-script-and-after_script-timeouts`), tells: true},
		{is: line(warning, `(Ignoring malformed|Ignoring relative) RUNNER_[A-Z_]{1,40} timeout: `+free), tells: true},
		{is: line(warning, `RUNNER_[A-Z_]{1,40} timeout: `+free+` is longer than job timeout\. Setting to job timeout`), tells: true},
		{is: line(warning, `script canceled externally \(UI, API\)`), tells: true},
		{is: line(warning, `after_script failed, but job will continue unaffected: `+free), tells: true},
		{is: line(warning, `Timed out waiting for the build to finish`), tells: true},
		{is: line(warning, `Failed to (terminate process|force-kill): `+free), tells: true},
		{is: line(warning, `Cleanup script failed: `+free), tells: true},
		{is: line(warning, `Job environment suspension not supported by executor`)},
		{is: line(info, `Job triggered by policy "`+free+`"\.`), tells: true},
		{is: line(info, `Variables defined in the policy take precedence over matching user-defined CI/CD variables for this job\.`)},
		{is: line(info, `User-defined CI/CD variables are (allowed|ignored) in this job( \(except for `+free+`\))? according to the policy\.`), tells: true},
		{is: line(info, `Job succeeded`), once: true, tells: true, last: true},
		{is: line(failure, `Job failed( \(system failure\))?: `+free), once: true, tells: true, last: true},
		// What is wrong with variables of the job: one warning of as many lines.
		{is: regexp.MustCompile(`^(` + warning + `)?[A-Z0-9_]{1,80}: (expected (bool|int|either '[a-z', ]+( or '[a-z]+')?) got "` + free + `"(, using default value:? ` + free + `)?|` +
			`could not parse feature flag, expected bool, got ` + free + `|number of attempts out of the range \[1, 10\], (clamping to:|using default) \d{1,9}|` +
			`usage is disabled on this Runner)(` + reset + `)?$`), tells: true},
	}
})

// descriptions are what the runner calls its stages (GetStageDescription in
// common/build.go).
var descriptions = map[string]string{
	"Preparing environment":                                                "prepare_script",
	"Getting source from Git repository":                                   "get_sources",
	"Deleting all tracked and untracked files due to source fetch failure": "clear_worktree",
	"Restoring cache":                                                      "restore_cache",
	"Downloading artifacts":                                                "download_artifacts",
	"Running after_script":                                                 "after_script",
	"Saving cache for successful job":                                      "archive_cache",
	"Saving cache for failed job":                                          "archive_cache_on_failure",
	"Uploading artifacts for failed job":                                   "upload_artifacts_on_failure",
	"Uploading artifacts for successful job":                               "upload_artifacts_on_success",
	"Cleaning up project directory and file based variables":               "cleanup_file_variables",
}

var (
	// eraseRE begins a line without a level, and ends a marker.
	eraseRE = regexp.MustCompile(`^(\x1b\[0K)+`)
	// markerRE is where a section begins or ends; what the runner says next
	// stands in the same line.
	markerRE  = regexp.MustCompile(`^section_(?:start|end):\d{1,12}:([\w.-]{1,128})\r`)
	colourRE  = regexp.MustCompile(`\x1b\[[0-9;]*m`)
	headingRE = line(heading, `(`+free+`)`)
	stepRE    = regexp.MustCompile(`^Executing "(step_[\w.-]{1,128})" stage of the job script$`)
)

// reader knows which of the runner's words a log may still have.
type reader struct {
	stages []string // of the record, the runner's name for each; empty: it has no heading
	heads  []int64  // of each, where in the log its heading is; 0: nowhere
	next   int      // those before this one have begun
	said   map[*regexp.Regexp]bool
	over   bool // the runner has said how the job went
}

func newReader(stages []record.Stage) *reader {
	r := &reader{heads: make([]int64, len(stages)), said: map[*regexp.Regexp]bool{}}
	for _, s := range stages {
		name := s.Stage
		switch {
		case s.Container == "":
			name = ""
		case s.Stage == "build_script": // as executors/custom calls it
			name = "step_script"
		}
		r.stages = append(r.stages, name)
	}
	return r
}

// within says whether a place in the log is between the heading of a stage
// and the next one.
func (r *reader) within(stage int, from, to int64) bool {
	if r.stages[stage] == "" {
		return true
	}
	if r.heads[stage] == 0 || from < r.heads[stage] {
		return false
	}
	for _, next := range r.heads[stage+1:] {
		if next > 0 {
			return to < next
		}
	}
	return true
}

// own says whether a line, without its end, that stands in the log at a place,
// is the runner's, and tells something that nothing proves. What of it is not,
// or tells that, begins at from.
func (r *reader) own(text []byte, at int64) (ok, tells bool, from int) {
	rest := text
	for {
		rest = rest[len(eraseRE.Find(rest)):]
		m := markerRE.FindSubmatch(rest)
		if m == nil {
			break
		}
		if name := string(m[1]); r.over || name != "prepare_executor" && !slices.Contains(r.stages, name) {
			return false, false, len(text) - len(rest)
		}
		rest = rest[len(m[0]):]
	}
	from = len(text) - len(rest)
	if len(rest) == 0 {
		return len(text) > 0, false, from
	}
	if r.over {
		return false, false, from
	}
	if r.begins(rest, at) {
		return true, false, from
	}
	for _, w := range known() {
		if !w.is.Match(rest) {
			continue
		}
		if w.once && r.said[w.is] {
			return false, false, from
		}
		r.said[w.is], r.over = true, w.last
		return true, w.tells, from
	}
	return false, false, from
}

// after looks for a heading in what may be the rest of an output that has no
// line end, and was not found.
func (r *reader) after(text []byte, at int64) {
	if i := bytes.LastIndex(text, []byte("\x1b[36;1m")); i >= 0 {
		r.begins(text[i:], at)
	}
}

// begins says whether a line is the heading of a stage that the record has,
// and that has not had one.
func (r *reader) begins(text []byte, place int64) bool {
	m := headingRE.FindSubmatch(text)
	if m == nil {
		return false
	}
	stage := descriptions[string(m[1])]
	if step := stepRE.FindSubmatch(m[1]); step != nil {
		stage = string(step[1])
	}
	at := slices.Index(r.stages[r.next:], stage)
	if stage == "" || at < 0 {
		return false
	}
	r.next += at + 1
	r.heads[r.next-1] = max(place, 1)
	return true
}

// Line is one of a log.
type Line struct {
	Number int64  `json:"line"` // from 1
	Text   string `json:"text"` // what is no plain text is escaped, and a long one is cut
}

// most lines of a kind are kept, the first ones, and so many bytes of each.
const (
	mostLines = 20
	mostText  = 160
)

// lineSet are the lines of a kind.
type lineSet struct {
	found []foundLine // by their place
	count int64
}

type foundLine struct {
	at   int64
	text []byte
}

func (l *lineSet) add(at int64, text []byte) {
	l.count++
	i, _ := slices.BinarySearchFunc(l.found, at, func(f foundLine, at int64) int { return int(f.at - at) })
	if i >= mostLines {
		return
	}
	l.found = slices.Insert(l.found, i, foundLine{at, text[:min(len(text), mostText+1)]})
	l.found = l.found[:min(len(l.found), mostLines)]
}

// numbered are the lines as a report has them.
func (l *lineSet) numbered(log []byte) (all []Line) {
	number, from := int64(1), int64(0)
	for _, f := range l.found {
		number += int64(bytes.Count(log[from:f.at], []byte("\n")))
		from = f.at
		all = append(all, Line{number, shown(f.text)})
	}
	return all
}
