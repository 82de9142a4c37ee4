package log_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"cleanroom/executor/audit/key"
	"cleanroom/executor/audit/log"
	"cleanroom/executor/audit/verify"
)

// must is for what has no reason to fail.
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func record(i int) []byte {
	return fmt.Appendf(nil, `{"n":%d,"pad":%q}`, i, strings.Repeat("x", i*7919%900))
}

// newLog makes a log and a key in a folder of its own.
func newLog(t testing.TB) (*log.Log, key.Source) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "keys", "audit.key")
	l := must(log.Init(t.Context(), filepath.Join(dir, "audit"), must(key.Create(path, origin))(t)))(t)
	return l, key.File(path)
}

func keyPath(l *log.Log) string {
	return filepath.Join(filepath.Dir(l.Store().Dir), "keys", "audit.key")
}

// all verifies the log and looks whether what was appended is where it was
// said to be.
func all(t *testing.T, l *log.Log, seen map[string]string) {
	t.Helper()
	left := len(seen)
	r := must(verify.Log(t.Context(), l.Store().Dir, verify.Options{First: l.Keys().First, Record: func(index int64, record []byte) error {
		if want, ok := seen[fmt.Sprint(index)]; ok && string(record) == want {
			left--
		} else if ok {
			return fmt.Errorf("it is %q and not %q", record, want)
		}
		return nil
	}}))(t)
	if r.Err() != nil || left > 0 || len(r.Stray)+len(r.Trailing) > 0 {
		t.Errorf("%d are lost: %v, %q, %q", left, r.Err(), r.Stray, r.Trailing)
	}
}
