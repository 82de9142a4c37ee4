package stages

import (
	"errors"
	"testing"
)

func TestExit(t *testing.T) {
	if e := (Exit{Code: 7}); e.Error() != "exit code 7" || errors.Unwrap(e) != nil {
		t.Errorf("%v", e)
	}
}

func TestJobOf(t *testing.T) {
	for room, want := range map[string]int64{"cr-a1b2c3d4e-4711-0123456789": 4711, "cr-a-b-7-0123456789": 7, "": 0, "cr-4711": 0, "cr-a-b-c": 0, "xx-a-7-b": 0} {
		if got, ok := JobOf(room); got != want || ok != (want != 0) {
			t.Errorf("%q: %d, %v", room, got, ok)
		}
	}
}
