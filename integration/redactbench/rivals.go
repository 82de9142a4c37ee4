package redactbench

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	bobu "github.com/BobuSumisu/aho-corasick"
	coregx "github.com/coregx/ahocorasick"
	petar "github.com/petar-dambovaliev/aho-corasick"

	"cleanroom/executor/redact"
	"cleanroom/executor/redact/redacttest"
)

// errFound is a match where there is none to be found.
var errFound = errors.New("found what is not there")

// rival is one way to find secrets in a log.
type rival struct {
	name    string
	matches bool // and that is all
	plain   bool // its log has no colours
	open    func(secrets int, patterns []string) (*lane, error)
}

var rivals = []rival{
	{name: "cleanroom", open: cleanroom},
	{name: "cleanroom, a log without colours", plain: true, open: cleanroom},
	{name: "BobuSumisu/aho-corasick", matches: true, open: func(_ int, patterns []string) (*lane, error) {
		trie := bobu.NewTrieBuilder().AddStrings(patterns).Build()
		return counter(func(p []byte) (found int) {
			trie.Walk(p, func(_, _, _ int64) bool { found++; return true })
			return found
		}), nil
	}},
	{name: "petar-dambovaliev/aho-corasick", matches: true, open: func(_ int, patterns []string) (*lane, error) {
		builder := petar.NewAhoCorasickBuilder(petar.Opts{MatchKind: petar.LeftMostLongestMatch, DFA: true})
		ac := builder.Build(patterns)
		return counter(func(p []byte) (found int) {
			for all := ac.IterByte(p); all.Next() != nil; {
				found++
			}
			return found
		}), nil
	}},
	{name: "coregx/ahocorasick", matches: true, open: func(_ int, patterns []string) (*lane, error) {
		ac, err := coregx.NewBuilder().AddStrings(patterns).Build()
		if err != nil {
			return nil, err
		}
		return counter(ac.Count), nil
	}},
	{name: "strings.Replacer, by lines", open: func(_ int, patterns []string) (*lane, error) {
		var pairs []string
		for _, p := range patterns {
			pairs = append(pairs, p, "[MASKED]")
		}
		l := &lines{r: strings.NewReplacer(pairs...)}
		l.r.Replace("") // what it compiles when it is first used
		return &lane{write: l.write, done: func() error {
			if l.out.hidden {
				return errFound
			}
			return nil
		}}, nil
	}},
}

func secrets(n int) (all []redact.Secret) {
	for i, value := range redacttest.Values(n) {
		all = append(all, redact.Secret{Name: fmt.Sprint(i), Value: value})
	}
	return all
}

func cleanroom(n int, _ []string) (*lane, error) {
	r, err := redact.New(io.Discard, secrets(n), redact.Options{AddMask: true})
	if err != nil {
		return nil, err
	}
	return &lane{
		write: func(p []byte) {
			if _, err := r.Write(p); err != nil {
				panic(err) // io.Discard has none
			}
		},
		done: func() error {
			if len(r.Counts()) > 0 {
				return errFound
			}
			return nil
		},
	}, nil
}

// counter is a lane that only looks.
func counter(count func([]byte) int) *lane {
	found := 0
	return &lane{write: func(p []byte) { found += count(p) }, done: func() error {
		if found > 0 {
			return errFound
		}
		return nil
	}}
}

// lines replaces in each line as soon as it is whole.
type lines struct {
	r    *strings.Replacer
	line []byte
	out  seen
}

func (l *lines) write(p []byte) {
	for len(p) > 0 {
		n := bytes.IndexByte(p, '\n') + 1
		if n == 0 {
			l.line = append(l.line, p...)
			return
		}
		l.line = append(l.line, p[:n]...)
		l.r.WriteString(&l.out, string(l.line))
		l.line, p = l.line[:0], p[n:]
	}
}

// seen throws away what it is given.
type seen struct{ hidden bool }

func (s *seen) Write(p []byte) (int, error) { return len(p), nil }

func (s *seen) WriteString(text string) (int, error) {
	s.hidden = s.hidden || text == "[MASKED]"
	return len(text), nil
}
