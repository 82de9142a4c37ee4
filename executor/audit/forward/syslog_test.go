package forward

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/leodido/go-syslog/v4/rfc5424"
)

// parseStructure reads structured data as rsyslog prints it.
func parseStructure(sd string) (map[string]string, error) {
	m, err := rfc5424.NewParser().Parse([]byte("<0>1 - - - - - " + sd))
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, sd)
	}
	return (*m.(*rfc5424.SyslogMessage).StructuredData)[structure], nil
}

// What we write, a strict parser reads to the same.
func FuzzMessage(f *testing.F) {
	f.Add("host.example/cleanroom", int64(7), `{"a":"b"}`, false, "runner-1")
	f.Add(`a"]\ é`, int64(-1), "\xff\x00", true, "two words")
	f.Add("\xfe", int64(1<<62), "", true, "")
	f.Fuzz(func(t *testing.T, origin string, index int64, body string, isNotice bool, host string) {
		notice := map[bool]string{true: "refused"}[isNotice]
		i := item{Record: Record{Index: index, Time: time.Unix(1700000000, 123456789), Body: []byte(body)}, leaf: leafOf([]byte(body)), notice: notice}
		text, err := source{origin: origin}.message(i, host)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := rfc5424.NewParser().Parse(text)
		if err != nil {
			t.Fatalf("%v: %q", err, text)
		}
		m := parsed.(*rfc5424.SyslogMessage)
		beside := (*m.StructuredData)[structure]
		if *m.Facility != facilityAudit || beside["index"] != fmt.Sprint(index) || beside["leaf"] != i.leaf || beside["notice"] != notice ||
			beside["origin"] != strings.ToValidUTF8(origin, "?") || *m.Timestamp != time.Unix(1700000000, 123456000).UTC() {
			t.Errorf("%q: %+v %v", text, m, beside)
		}
		if got := m.Message; body == "" && got != nil && *got != "" || body != "" && (got == nil || *got != body) {
			t.Errorf("message %v, want %q", got, body)
		}
	})
}
