package register

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2/unstable"
)

// document is a text, where its runners are, and what to change in it.
type document struct {
	text    []byte
	runners []*runner
	edits   []edit
}

// span is a range of bytes.
type span struct{ start, end int }

// edit replaces a span. One of whole lines begins a line of its own.
type edit struct {
	span
	text  string
	lines bool
}

// runner is one [[runners]] and all that belongs to it.
type runner struct {
	tables []*table // the first is its own; then [runners.x] and so on
	last   int      // end of its last line
}

// table is a header and its keys.
type table struct {
	path    []string // below runners: nothing, or "custom"
	indent  string   // of the header
	end     int      // of the last line: a key's, or the header's
	entries []entry
}

// entry is one KEY = VALUE.
type entry struct {
	path     []string // below the runner
	indent   string
	value    span
	children []entry // of an inline table
	inline   bool
}

// scan finds the runners.
func (d *document) scan() error {
	var p unstable.Parser
	p.Reset(d.text)
	var r *runner // that the current table belongs to
	var root = true
	for p.NextExpression() {
		node := p.Expression()
		keys, first, _ := keysOf(node)
		if node.Kind == unstable.KeyValue {
			if root && keys[0] == "runners" {
				return fmt.Errorf("%w: runners is one inline list; write each as a [[runners]] table", ErrSyntax)
			}
			if root || r == nil {
				continue
			}
			t := r.tables[len(r.tables)-1]
			e := d.entry(node, t.path)
			e.indent = d.indent(first)
			t.entries = append(t.entries, e)
			t.end = d.lineEnd(int(node.Raw.Offset + node.Raw.Length))
			r.last = t.end
			continue
		}
		root = false
		switch {
		case keys[0] != "runners":
			r = nil
			continue
		case node.Kind == unstable.ArrayTable && len(keys) == 1:
			r = &runner{}
			d.runners = append(d.runners, r)
		case len(d.runners) == 0:
			return fmt.Errorf("%w: a table of runners comes before the first [[runners]]", ErrSyntax)
		default:
			r = d.runners[len(d.runners)-1]
		}
		end := d.lineEnd(first)
		r.tables = append(r.tables, &table{path: keys[1:], indent: d.indent(first), end: end})
		r.last = end
	}
	if p.Error() != nil {
		return fmt.Errorf("%w: no TOML", ErrSyntax)
	}
	return nil
}

// keysOf are the parts of a node's key, where it starts and where it ends.
func keysOf(node *unstable.Node) (keys []string, start, end int) {
	start = -1
	for it := node.Key(); it.Next(); {
		raw := it.Node().Raw
		keys = append(keys, string(it.Node().Data))
		if start < 0 {
			start = int(raw.Offset)
		}
		end = int(raw.Offset + raw.Length)
	}
	return keys, start, end
}

func (d *document) entry(node *unstable.Node, above []string) entry {
	keys, _, end := keysOf(node)
	// Behind the key come blanks, "=" and blanks.
	end += bytes.IndexByte(d.text[end:], '=') + 1
	for d.text[end] == ' ' || d.text[end] == '\t' {
		end++
	}
	e := entry{
		path:   slices.Concat(above, keys),
		value:  span{end, int(node.Raw.Offset + node.Raw.Length)},
		inline: node.Value().Kind == unstable.InlineTable,
	}
	if e.inline {
		for it := node.Value().Children(); it.Next(); {
			if it.Node().Kind == unstable.KeyValue {
				e.children = append(e.children, d.entry(it.Node(), e.path))
			}
		}
	}
	return e
}

// indent is what stands before the key or header at offset: blanks only.
func (d *document) indent(offset int) string {
	start := bytes.LastIndexByte(d.text[:offset], '\n') + 1
	line := d.text[start:offset]
	return string(line[:len(line)-len(bytes.TrimLeft(line, " \t"))])
}

// lineEnd is behind the newline that ends offset's line.
func (d *document) lineEnd(offset int) int {
	if i := bytes.IndexByte(d.text[offset:], '\n'); i >= 0 {
		return offset + i + 1
	}
	return len(d.text)
}

// find is where the runner has a key.
func (r *runner) find(path []string) *entry {
	for _, t := range r.tables {
		if e := search(t.entries, path); e != nil {
			return e
		}
	}
	return nil
}

func search(entries []entry, path []string) *entry {
	for i := range entries {
		if slices.Equal(entries[i].path, path) {
			return &entries[i]
		}
		if e := search(entries[i].children, path); e != nil {
			return e
		}
	}
	return nil
}

// replace plans a new value for a key that is there.
func (d *document) replace(r *runner, s setting) bool {
	e := r.find(s.path)
	if e == nil {
		return false
	}
	d.edits = append(d.edits, edit{e.value, literal(s.value), false})
	return true
}

// insert plans keys that are missing: the runner's own behind its last own
// key; those of custom behind the last of its table, in its braces, or behind
// the last dotted custom.KEY; else in a new table behind all of the runner's.
func (d *document) insert(r *runner, missing []setting) {
	var own, custom []setting
	for _, s := range missing {
		if len(s.path) == 1 {
			own = append(own, s)
		} else {
			custom = append(custom, s)
		}
	}
	first := r.tables[0]
	if len(own) > 0 {
		d.lines(first.end, first.keyIndent(), "", own)
	}
	if len(custom) == 0 {
		return
	}
	for _, t := range r.tables {
		if slices.Equal(t.path, []string{"custom"}) {
			d.lines(t.end, t.keyIndent(), "", custom)
			return
		}
	}
	if e := r.find([]string{"custom"}); e != nil && e.inline {
		d.braces(e, custom)
		return
	}
	for i := len(first.entries) - 1; i >= 0; i-- {
		if e := first.entries[i]; len(e.path) > 1 && e.path[0] == "custom" {
			d.lines(d.lineEnd(e.value.end), e.indent, "custom.", custom)
			return
		}
	}
	indent := first.keyIndent()
	if len(r.tables) > 1 {
		indent = r.tables[1].indent
	}
	d.edits = append(d.edits, edit{span{r.last, r.last}, indent + "[runners.custom]\n", true})
	d.lines(r.last, indent+"  ", "", custom)
}

// keyIndent is how the table's keys are indented.
func (t *table) keyIndent() string {
	if n := len(t.entries); n > 0 {
		return t.entries[n-1].indent
	}
	return t.indent + "  "
}

func (d *document) lines(offset int, indent, prefix string, settings []setting) {
	var b strings.Builder
	for _, s := range settings {
		fmt.Fprintf(&b, "%s%s%s = %s\n", indent, prefix, s.path[len(s.path)-1], literal(s.value))
	}
	d.edits = append(d.edits, edit{span{offset, offset}, b.String(), true})
}

func (d *document) braces(e *entry, settings []setting) {
	at, text := e.value.start+1, make([]string, len(settings))
	for i, s := range settings {
		text[i] = s.path[1] + " = " + literal(s.value)
	}
	joined := " " + strings.Join(text, ", ") + " "
	if n := len(e.children); n > 0 {
		at, joined = e.children[n-1].value.end, ", "+strings.Join(text, ", ")
	}
	d.edits = append(d.edits, edit{span{at, at}, joined, false})
}

// apply makes the edits, with the text's own line ends.
func (d *document) apply() []byte {
	newline := "\n"
	if i := bytes.IndexByte(d.text, '\n'); i > 0 && d.text[i-1] == '\r' {
		newline = "\r\n"
	}
	edits := slices.Clone(d.edits)
	slices.SortStableFunc(edits, func(a, b edit) int { return cmp.Compare(a.start, b.start) })
	var out []byte
	at := 0
	for _, e := range edits {
		out = append(out, d.text[at:e.start]...)
		text := strings.ReplaceAll(e.text, "\n", newline)
		if e.lines && len(out) > 0 && out[len(out)-1] != '\n' {
			out = append(out, newline...)
		}
		out = append(out, text...)
		at = e.end
	}
	return append(out, d.text[at:]...)
}

// literal writes a value in TOML: a string, a whole number or a list of
// strings.
func literal(value any) string {
	switch v := value.(type) {
	case int64:
		return strconv.FormatInt(v, 10)
	case []any:
		parts := make([]string, len(v))
		for i, s := range v {
			parts[i] = literal(s)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	s := value.(string)
	out := []byte{'"'}
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			out = append(out, '\\', byte(r))
		case r < ' ' || r == 0x7f:
			out = fmt.Appendf(out, "\\u%04X", r)
		default:
			out = utf8.AppendRune(out, r)
		}
	}
	return string(append(out, '"'))
}
