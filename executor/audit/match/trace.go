package match

import (
	"bytes"
	"regexp"
	"sort"
	"strconv"
)

// text is what one source wrote into a log, and where in the log it stands.
type text struct {
	b     []byte
	parts []part
}

type part struct{ text, log int }

func (t *text) add(b []byte, log int) {
	t.parts = append(t.parts, part{len(t.b), log})
	t.b = append(t.b, b...)
}

// in is the place in the log of a place in the text.
func (t *text) in(at int) int64 {
	i := sort.Search(len(t.parts), func(i int) bool { return t.parts[i].text > at })
	if i == 0 {
		return int64(at)
	}
	return int64(t.parts[i-1].log + at - t.parts[i-1].text)
}

// lines calls f with each line between two places, without its end, and where
// it begins.
func (t *text) lines(from, to int, f func(line []byte, at int)) {
	for from < to {
		line, next := t.b[from:to], to
		if n := bytes.IndexByte(line, '\n'); n >= 0 {
			line, next = line[:n], from+n+1
		}
		f(line, from)
		from = next
	}
}

// The runner begins each line of a log with when it was written, the stream
// (00 is the runner's own, and prepare's; 01 the stages'), O or E for stdout
// or stderr, and + where the line before goes on
// (common/buildlogger/internal/timestamper in its source). What ends without
// a line end gets one.
const headerSize = len("2006-01-02T15:04:05.000000Z 00O ")

var headerRE = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z [0-9a-f]{2}[OE][ +]`)

type header struct {
	stream string // "01O"
	goesOn bool
}

func headerOf(line []byte) (h header, ok bool) {
	if len(line) < headerSize || line[26] != 'Z' || !headerRE.Match(line[:headerSize]) {
		return header{}, false
	}
	return header{string(line[headerSize-4 : headerSize-1]), line[headerSize-1] == '+'}, true
}

// traces are the texts of a log, by stream: all of its bytes but for the
// headers. A log without headers is all of the stream noStream.
type traces struct {
	streams map[string]*text
	headers bool
	limit   int64 // bytes from which on the runner wrote nothing more; 0: it wrote all
}

// Streams. We write to the first two, and the runner to the first; a log of
// ours has no other.
const (
	ownStream  = "00O" // prepare's, and the runner's own words
	workStream = "01O"
	noStream   = ""
)

// exceeded is the runner's last word in a log that reached its limit
// (helpers/trace in its source).
var exceeded = regexp.MustCompile(`\n\x1b\[[0-9;]+mJob's log exceeded limit of ([0-9]{1,18}) bytes\.\nJob execution will continue but no more output will be collected\.\x1b\[0;m\n$`)

// parse takes a log apart. A line of the runner's own stream that goes on goes
// on with the one before, though two writers share that stream: the runner says
// nothing between the marker that begins a section and the section's name, and
// nobody else does between two sections.
func parse(log []byte) traces {
	t := traces{streams: map[string]*text{}}
	tail := max(0, len(log)-300) // the runner's last words are shorter
	if at := exceeded.FindSubmatchIndex(log[tail:]); at != nil {
		limit, _ := strconv.ParseInt(string(log[tail+at[2]:tail+at[3]]), 10, 64)
		// The log ends there within a character: what a job prints itself does not.
		if cut := tail + at[0]; limit-int64(cut) >= 0 && limit-int64(cut) < 4 {
			log, t.limit = log[:cut], limit
		}
	}
	if _, t.headers = headerOf(log); !t.headers {
		t.of(noStream).add(log, 0)
		return t
	}
	var last []byte // the line before, with its header
	lastAt := 0
	for at := 0; at < len(log); {
		end := len(log)
		if n := bytes.IndexByte(log[at:], '\n'); n >= 0 {
			end = at + n + 1
		}
		line := log[at:end]
		if h, ok := headerOf(line); ok {
			t.line(h, line[headerSize:], at+headerSize)
		} else if !t.torn(last, lastAt, line, at) {
			t.of(noStream).add(line, at)
		}
		last, lastAt, at = line, at, end
	}
	return t
}

func (t *traces) of(stream string) *text {
	one := t.streams[stream]
	if one == nil {
		one = &text{}
		t.streams[stream] = one
	}
	return one
}

func (t *traces) line(h header, line []byte, at int) {
	one := t.of(h.stream)
	if h.goesOn && one.broken() {
		one.b = bytes.TrimSuffix(one.b, []byte("\n"))
	}
	one.add(line, at)
}

// broken says whether the runner may have ended the last line before its end:
// after a carriage return, and where its buffer, of 8 KiB, was full.
func (t *text) broken() bool {
	if len(t.parts) == 0 {
		return false
	}
	last := t.b[min(t.parts[len(t.parts)-1].text, len(t.b)):]
	return len(last) >= 1<<10 || bytes.IndexByte(last, '\r') >= 0
}

// torn is a line without a header: the runner wrote it in two pieces, and a
// line of its own came between. That one, with its header, stands in the line
// before. Nothing else makes a line without: what a job prints has one.
func (t *traces) torn(before []byte, beforeAt int, rest []byte, at int) bool {
	h, ok := headerOf(before)
	if !ok {
		return false
	}
	for i := len(before) - headerSize; i >= headerSize; i-- {
		inner, ok := headerOf(before[i:])
		if !ok || inner.stream == h.stream {
			continue
		}
		one := t.of(h.stream)
		one.b = one.b[:len(one.b)-(len(before)-i)]
		one.add(rest, at)
		t.line(inner, before[i+headerSize:], beforeAt+i+headerSize)
		return true
	}
	return false
}
