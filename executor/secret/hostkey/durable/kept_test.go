package durable_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"cleanroom/executor/secret/hostkey/durable"
)

func TestKept(t *testing.T) {
	k := durable.Kept{Path: filepath.Join(t.TempDir(), "folder", "file"), Limit: 10}
	if text, err := k.Read(); text != nil || err != nil {
		t.Errorf("none yet: %q, %v", text, err)
	}
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if err := k.Change(t.Context(), func(text []byte) ([]byte, error) {
				n, _ := strconv.Atoi(string(text))
				return []byte(strconv.Itoa(n + 1)), nil
			}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	is := func(want string) {
		t.Helper()
		if text, err := k.Read(); text == nil || string(text) != want || err != nil {
			t.Errorf("%q, %v; want %q", text, err, want)
		}
	}
	is("50")
	mine := errors.New("mine")
	for text, want := range map[string]error{"": mine, "too long for it": durable.ErrTooLarge} {
		if err := k.Change(t.Context(), func([]byte) ([]byte, error) {
			if text == "" {
				return []byte("lost"), mine
			}
			return []byte(text), nil
		}); !errors.Is(err, want) {
			t.Error(err)
		}
		is("50")
	}
	if err := k.Change(t.Context(), func([]byte) ([]byte, error) { return nil, nil }); err != nil {
		t.Error(err)
	}
	is("50")
	if err := os.WriteFile(k.Path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	is("") // is not the same as none
	if err := os.Chmod(k.Path, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := k.Change(t.Context(), func([]byte) ([]byte, error) { return []byte("x"), nil }); !errors.Is(err, durable.ErrLoose) {
		t.Error(err)
	}
}
