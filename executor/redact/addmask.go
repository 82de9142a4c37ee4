package redact

import (
	"bytes"
	"errors"
	"strings"
)

const (
	command = "::add-mask::"
	// maskName is what is shown where a value was that a line added.
	maskName = "add-mask"
	// maxMask bounds a value that a line adds, in bytes, maxMasks how many lines
	// add one, and maxMasked all values together: each makes the forms to be
	// compiled anew, a byte takes a few hundred of memory, and whoever writes the
	// log may not slow us down for ever. What comes after is hidden in its line,
	// and the line says that it is not heeded.
	maxMask   = 64 << 10
	maxMasks  = 256
	maxMasked = 128 << 10
)

// masks finds lines that add a value to hide.
type masks struct {
	lineStart bool   // the next byte is the first of a line
	held      int    // bytes of the command that were read at a line's start
	inside    bool   // the command is complete: what comes up to the line's end is a value
	value     []byte // of it, at most maxMask and one byte
	count     int
	bytes     int             // of the values that lines added
	known     map[string]bool // values that lines added
	fresh     []Secret        // those that Masked was not told of
}

// lines takes what is written, and gives to text what is no such line. It
// returns behind each such line, with the rest.
func (s *stream) lines(p []byte) (rest []byte) {
	m := &s.masks
	for len(p) > 0 {
		switch {
		case m.inside:
			n := bytes.IndexByte(p, '\n')
			if n < 0 {
				m.keep(p)
				return nil
			}
			m.keep(p[:n])
			s.mask()
			return p[n:]
		case m.lineStart || m.held > 0:
			m.lineStart = false
			n := 0
			for n < len(p) && m.held < len(command) && p[n] == command[m.held] {
				n++
				m.held++
			}
			p = p[n:]
			if m.held == len(command) {
				m.held, m.inside = 0, true
				s.interrupt()
			} else if len(p) > 0 {
				s.noCommand()
				p = s.line(p)
			}
		default:
			p = s.line(p)
		}
	}
	return nil
}

// line takes everything before the next line that may be a command.
func (s *stream) line(p []byte) []byte {
	next := 0
	if noColonLine(p) { // what holds nearly always is asked of sixteen bytes at once
		next = len(p)
	}
	for next < len(p) && (next == 0 || p[next] != command[0]) {
		n := bytes.IndexByte(p[next:], '\n')
		if n < 0 {
			next = len(p)
			break
		}
		next += n + 1
	}
	s.text(p[:next])
	s.masks.lineStart = p[next-1] == '\n'
	return p[next:]
}

func (m *masks) keep(p []byte) {
	m.value = append(m.value, p[:min(len(p), maxMask+1-len(m.value))]...)
}

// interrupt ends what is held before a command as the end of a stage does: the
// value that follows does not continue it.
func (s *stream) interrupt() {
	s.scan.finish()
	s.release(s.scan.at, s.scan.at, s.scan.at+1)
	at, esc := s.scan.at, s.scan.esc
	s.scan = newScan(s.scan.plain.a)
	s.scan.at, s.scan.esc = at, esc
}

// mask adds the value of a line that is complete, and shows that there was one.
func (s *stream) mask() {
	m := &s.masks
	m.inside = false
	value := string(bytes.TrimSuffix(m.value, []byte("\r")))
	m.value = m.value[:0]
	reason := ""
	switch {
	case len(value) > maxMask:
		reason = "value too long"
	case m.known[value]: // a script masks what it made each time that it runs
	case m.count == maxMasks || m.bytes+len(value) > maxMasked:
		reason = "too many of them"
	default:
		// Whoever follows GitHub's runner escapes line ends and %.
		plain := strings.NewReplacer("%0A", "\n", "%0a", "\n", "%0D", "\r", "%0d", "\r", "%25", "%").Replace(value)
		secrets := []Secret{{Name: maskName, Value: value}}
		if plain != value {
			secrets = append(secrets, Secret{Name: maskName, Value: plain})
		}
		if errors.Is(s.learn(secrets), ErrShort) {
			reason = "value too short"
			break
		}
		m.count++
		m.bytes += len(value)
		for _, secret := range secrets {
			if !m.known[secret.Value] {
				m.known[secret.Value] = true
				m.fresh = append(m.fresh, secret)
			}
		}
	}
	if reason == "" {
		s.replace(maskName)
	} else {
		s.out = append(s.out, "[cleanroom: add-mask not heeded: "+reason+"]"...)
	}
	s.hidden = s.shown
}

// lastLine ends the last line, if it has no end.
func (s *stream) lastLine() {
	m := &s.masks
	if m.inside {
		s.mask()
	}
	s.noCommand()
}

// noCommand takes what was held of a command for text.
func (s *stream) noCommand() {
	if s.masks.held > 0 {
		s.text([]byte(command[:s.masks.held]))
		s.masks.held = 0
	}
}
