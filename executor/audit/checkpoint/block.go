package checkpoint

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"regexp"
	"strings"
	"sync"
)

const (
	begin = "-----BEGIN CLEANROOM CHECKPOINT-----"
	end   = "-----END CLEANROOM CHECKPOINT-----"

	// maxLine is what of a line is looked at, in bytes: a line of a checkpoint
	// of ours is shorter.
	maxLine = 4 << 10
	// maxLines and maxFound bound a block and the blocks of a log. Ours is the
	// first that is printed, before anything of the job runs.
	maxLines = 40
	maxFound = 1000
)

// Block is the checkpoint as lines for a job's log, each with its newline.
func (c Checkpoint) Block() string { return begin + "\n" + string(c.Note) + end + "\n" }

// Found is a block in a job's log. Whoever wrote the log may have forged it.
type Found struct {
	Line       int        // of its first line, from 1
	Checkpoint Checkpoint // as the block says, unverified
	By         By         // who printed it
	Err        error      // ErrFormat: what is between the marks is no checkpoint
}

// stamp is what FF_TIMESTAMPS puts before each line: a time, two hexadecimal
// digits of the stream, O or E, and + if the line goes on with the one before
// (gitlab-runner's common/buildlogger/internal/timestamper).
var stamp = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z [0-9a-f]{2}[OE]([ +])`)
})

// ansi are the escape sequences of ECMA-48: CSI, OSC and those of two bytes.
var ansi = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile("\x1b(?:\\[[0-?]*[ -/]*[@-~]|\\][^\x07\x1b]*(?:\x07|\x1b\\\\)?|[ -/]*[0-~])")
})

// section is the mark that begins or ends a collapsible section of GitLab's.
var section = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`section_(?:start|end):\d+:[A-Za-z0-9_.-]+(?:\[[^\]]*\])?\r`)
})

// Scan finds all blocks in a job's log: as a file that GitLab hands out, with
// or without timestamps, colours, section marks and carriage returns. more is
// true if it stopped at the thousandth. It needs little memory, however long
// the log or a line of it. An error is r's.
func Scan(r io.Reader) (found []Found, more bool, err error) {
	in := bufio.NewReaderSize(r, 64<<10)
	var block []string // lines since the mark; nil: outside
	first, number := 0, 0
	var start head
	by := Unsure // of the block
	for {
		raw, last := readLine(in)
		number++
		text, continues := unstamped(raw)
		line := clean(text)
		if line != begin {
			start.line(text, continues)
		}
		switch {
		case continues && len(block) > 0:
			block[len(block)-1] += line // never one of ours: they are shorter than what the runner splits
			if len(block[len(block)-1]) > maxLine {
				block = nil
			}
		case line == begin: // also within a block: the one before was cut off
			block, first, by = []string{}, number, start.block()
		case block == nil:
		case line == end:
			c, bad := Parse([]byte(strings.Join(block, "\n") + "\n"))
			found = append(found, Found{first, c, by, bad})
			block = nil
			if len(found) == maxFound {
				return found, true, nil
			}
		case len(block) == maxLines:
			block = nil
		default:
			block = append(block, line)
		}
		switch {
		case errors.Is(last, io.EOF):
			return found, false, nil
		case last != nil:
			return found, false, last
		}
	}
}

// readLine gives a line without its newline, of a long one its beginning.
func readLine(in *bufio.Reader) (line []byte, err error) {
	for {
		part, err := in.ReadSlice('\n')
		if room := maxLine - len(line); room > 0 {
			line = append(line, part[:min(room, len(part))]...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return bytes.TrimSuffix(line, []byte("\n")), err
		}
	}
}

// unstamped is a line without its stamp. continues: it goes on with the one
// before.
func unstamped(raw []byte) (text []byte, continues bool) {
	if m := stamp().FindSubmatch(raw); m != nil {
		return raw[len(m[0]):], m[1][0] == '+'
	}
	return raw, false
}

// clean takes off what else runner and terminal added to a line.
func clean(raw []byte) string {
	if bytes.IndexByte(raw, '\r') >= 0 {
		raw = section().ReplaceAll(raw, nil)
	}
	if bytes.IndexByte(raw, '\x1b') >= 0 {
		raw = ansi().ReplaceAll(raw, nil)
	}
	return strings.Trim(string(raw), "\r")
}
