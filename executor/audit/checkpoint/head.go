package checkpoint

import (
	"bytes"
	"regexp"
	"sync"
)

// By is who printed a block, by how the job's log begins.
type By int

const (
	// Unsure is a log that begins with other lines than the runner's own: what
	// is wrong with its variables, which a job's author writes, or nothing that
	// we know.
	Unsure By = iota
	// Prepare is cleanroom's prepare, before anything of the job's was printed.
	Prepare
	// Job is a job, behind the words of another executor, or of ours.
	Job
)

// head reads how a log begins, for as long as no job's author can have written
// any of it: each line is whole, and one in which the runner writes nothing
// that the author chose (words.go of package match has where it does). The
// first line that is not ends it, so that text of an author's, with lines in
// it, cannot make others count.
type head struct {
	text   []byte // the line so far
	driver bool   // the driver is ours, and prepare prints
	audit  bool   // in the section that it makes for its block
	over   bool
	by     By // of what follows, once it is over
}

var words = sync.OnceValue(func() (w struct{ runner, executor, driver, audit, ended *regexp.Regexp }) {
	w.runner = regexp.MustCompile(`^(|Running with gitlab-runner (development version|[\w.~+-]{1,80}) \([\w.-]{1,40}\)|` +
		`  on [^\x00-\x1f\x7f]* [\w-]{1,40}(, system ID: [\w-]{1,80})?|  UUID: (not supported with this GitLab version|[\w-]{1,80})|` +
		`  feature flags: [A-Z0-9_]+:(true|false)(, [A-Z0-9_]+:(true|false))*|Resolving secrets)$`)
	w.executor = regexp.MustCompile(`^Preparing the "([\w+-]{1,40})" executor$`)
	w.driver = regexp.MustCompile(`^Using Custom executor(?: with driver (cleanroom)?[^\x00-\x1f\x7f]{0,200})?\.\.\.$`)
	w.audit = regexp.MustCompile(`^section_start:\d{1,12}:cleanroom_audit\[collapsed=true\]\rAudit log: \d{1,19} records$`)
	w.ended = regexp.MustCompile(`^section_end:\d{1,12}:prepare_executor\r`)
	return w
})

// line takes the log's next line, or more of the one before.
func (h *head) line(text []byte, continues bool) {
	if h.over {
		return
	}
	if !continues {
		h.end()
		h.text = h.text[:0]
	}
	if h.text = append(h.text, text...); len(h.text) > maxLine {
		h.decide(Unsure)
	}
}

func (h *head) decide(by By) { h.over, h.by = true, by }

// end looks at a whole line.
func (h *head) end() {
	if h.over {
		return
	}
	w := words()
	text := bytes.TrimRight(ansi().ReplaceAll(h.text, nil), "\r")
	plain := section().ReplaceAll(text, nil)
	executor, driver := w.executor.FindSubmatch(plain), w.driver.FindSubmatch(plain)
	switch {
	case h.driver && w.audit.Match(text):
		h.audit = true
	case h.driver && w.ended.Match(text): // prepare is over, and printed none
		h.decide(Job)
	case h.driver && len(plain) < len(text):
		h.decide(Unsure)
	case h.driver, w.runner.Match(plain), executor != nil && string(executor[1]) == "custom":
	case executor != nil, driver != nil && len(driver[1]) == 0:
		h.decide(Job)
	case driver != nil:
		h.driver = true
	default:
		h.decide(Unsure)
	}
}

// block says who printed one that begins now.
func (h *head) block() By {
	h.end()
	switch {
	case h.over:
		return h.by
	case h.audit: // all behind it can be the job's
		h.decide(Job)
		return Prepare
	}
	h.decide(Unsure)
	return Unsure
}
