package metrics

import (
	"bytes"
	"fmt"
	"strconv"
)

// text is the textfile, in Prometheus' text format 0.0.4. It is written by
// hand, as client_golang and expfmt would bring more code into every process
// of a driver than all of this package; a test reads it with expfmt.
// Help texts and labels are our own and need no escaping; a test sees to that.
func (s *state) text() []byte {
	var b bytes.Buffer
	for _, f := range families {
		kind := "counter"
		if f.buckets != nil {
			kind = "histogram"
		}
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", f.name, f.help, f.name, kind)
		for _, value := range f.labels() {
			one := s.get(f, value)
			label := ""
			if f.label != "" {
				label = f.label + `="` + value + `"`
			}
			if f.buckets == nil {
				fmt.Fprintf(&b, "%s%s %d\n", f.name, braces(label), one.Count)
				continue
			}
			comma := ""
			if label != "" {
				comma = ","
			}
			var below uint64
			for i, n := range one.Buckets {
				below += n
				bound := "+Inf"
				if i < len(f.buckets) {
					bound = number(f.buckets[i])
				}
				fmt.Fprintf(&b, "%s_bucket{%s%sle=\"%s\"} %d\n", f.name, label, comma, bound, below)
			}
			fmt.Fprintf(&b, "%s_sum%s %s\n", f.name, braces(label), number(one.Sum))
			fmt.Fprintf(&b, "%s_count%s %d\n", f.name, braces(label), below)
		}
	}
	return b.Bytes()
}

func braces(label string) string {
	if label == "" {
		return ""
	}
	return "{" + label + "}"
}

func number(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }
