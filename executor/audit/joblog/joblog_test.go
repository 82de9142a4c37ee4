package joblog

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// integration/gitlab has the tests with a stand-in for GitLab; here are faults.

const secret = "glpat-canary-value"

func open(t *testing.T, h http.HandlerFunc) *GitLab {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	g, err := Open(s.URL, secret, "")
	if err != nil {
		t.Fatal(err)
	}
	g.pause = time.Millisecond
	return g
}

// A log that breaks off is never taken for a whole one.
func TestBreaksOff(t *testing.T) {
	text := strings.Repeat("0123456789abcdef", 1<<16)
	for _, whole := range []int32{2, 3, 9} { // the try that is let through
		var asked atomic.Int32
		g := open(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("PRIVATE-TOKEN") != secret || r.URL.EscapedPath() != "/api/v4/projects/shop%2Fitems/jobs/7/trace" {
				t.Errorf("%s %v", r.URL.EscapedPath(), r.Header)
			}
			if asked.Add(1) < whole {
				io.WriteString(w, text[:len(text)/2])
				w.(http.Flusher).Flush()
				panic(http.ErrAbortHandler)
			}
			io.WriteString(w, text)
		})
		var got, broken int
		err := g.Jobs(t.Context(), "shop/items", []int64{7}, func(_ int64, log io.Reader) error {
			all, err := io.ReadAll(log)
			if err != nil {
				broken++
				return nil // whoever does not look at it is not believed
			}
			if string(all) != text {
				t.Errorf("%d bytes", len(all))
			}
			got++
			return nil
		})
		if whole <= 3 && (err != nil || got != 1 || broken != int(whole)-1) || whole > 3 && (err == nil || got != 0 || broken != 3) {
			t.Errorf("let through at %d: %v, %d whole, %d broken", whole, err, got, broken)
		}
	}
}

// Who has seen enough of a log gets no more of it, and no error.
func TestEnough(t *testing.T) {
	sent := make(chan int, 1)
	g := open(t, func(w http.ResponseWriter, r *http.Request) {
		n, line := 0, bytes.Repeat([]byte("x"), 1<<16)
		for r.Context().Err() == nil && n < 1<<30 {
			k, err := w.Write(line)
			if n += k; err != nil {
				break
			}
		}
		sent <- n
	})
	errMine := errors.New("mine")
	for _, want := range []error{nil, errMine} {
		err := g.Jobs(t.Context(), "1", []int64{7}, func(_ int64, log io.Reader) error {
			_, err := io.ReadFull(log, make([]byte, 1000))
			return errors.Join(err, want)
		})
		if !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
		if n := <-sent; n >= 1<<30 {
			t.Error("all of it was read")
		}
	}
}

// Errors say what to do, and the token is in none; nor does it go elsewhere.
func TestRefused(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("%v", r.Header) }))
	defer elsewhere.Close()
	for code, want := range map[int]string{401: "read_api", 302: "moved", 404: "no log", 403: "no log", 418: "418"} {
		g := open(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", elsewhere.URL)
			w.WriteHeader(code)
			fmt.Fprintf(w, `{"message":"%d"}`, code)
		})
		for _, err := range []error{
			g.Jobs(t.Context(), "shop/items", []int64{7}, nil),
			g.Project(t.Context(), "shop/items", 0, 9, nil),
			g.Runner(t.Context(), 3, time.Now(), nil),
		} {
			if err == nil || strings.Contains(err.Error(), secret) || !strings.Contains(err.Error(), want) && want != "no log" {
				t.Errorf("%d: %v", code, err)
			}
		}
		if err := g.Jobs(t.Context(), "1", []int64{7}, nil); errors.Is(err, ErrNoLog) != (want == "no log") {
			t.Errorf("%d: %v", code, err)
		}
	}
}

// Pages by number repeat jobs when new ones come, and lists may hold anything.
func TestLists(t *testing.T) {
	list := ""
	g := open(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/trace"):
			io.WriteString(w, r.URL.Path)
		case r.URL.Query().Get("page") == "2":
			io.WriteString(w, `[{"id":8,"started_at":"2026-01-01T00:00:00Z"},{"id":6,"started_at":"2026-01-01T00:00:00Z"},{"id":5,"started_at":null}]`)
		default:
			w.Header().Set("X-Next-Page", "2")
			io.WriteString(w, list)
		}
	})
	var got []int64
	note := func(id int64, _ io.Reader) error { got = append(got, id); return nil }
	list = `[{"id":9,"started_at":"2026-01-01T00:00:00Z"},{"id":8,"started_at":"2026-01-01T00:00:00Z"}]`
	if err := g.Project(t.Context(), "1", 0, 100, note); err != nil || fmt.Sprint(got) != "[9 8 6]" {
		t.Errorf("%v %v", got, err)
	}
	if err := g.Runner(t.Context(), 1, time.Time{}, note); err == nil || !strings.Contains(err.Error(), "of which project") {
		t.Error(err)
	}
	list = `{`
	if err := g.Project(t.Context(), "1", 0, 100, note); err == nil {
		t.Error("half a list was taken")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.Jobs(ctx, "1", []int64{1, 2}, note); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestOpen(t *testing.T) {
	for _, url := range []string{"", "gitlab.example.com", "http://gitlab.example.com", "https://user:pw@gitlab.example.com"} {
		if _, err := Open(url, secret, ""); err == nil || strings.Contains(err.Error(), "pw@") {
			t.Errorf("%q: %v", url, err)
		}
	}
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "log") }))
	defer s.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	g, err := Open(s.URL, secret, ca)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	if err := g.Jobs(t.Context(), "1", []int64{1}, func(int64, io.Reader) error { n++; return nil }); err != nil || n != 1 {
		t.Errorf("%d %v", n, err)
	}
}

func TestToken(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	write := func(text string, mode os.FileMode) {
		os.Remove(file)
		if err := os.WriteFile(file, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	env := []string{"A=b", "GITLAB_TOKEN=" + secret}
	if got, err := Token("", env); err != nil || got != secret {
		t.Errorf("%q %v", got, err)
	}
	write("glpat-file\n", 0o600)
	if got, err := Token(file, env); err != nil || got != "glpat-file" {
		t.Errorf("%q %v", got, err)
	}
	write(secret, 0o644)
	if _, err := Token(file, nil); err == nil {
		t.Error("everybody may read it")
	}
	write("two "+secret, 0o600)
	for _, c := range []struct {
		file string
		env  []string
	}{{file, env}, {"", nil}, {"", []string{"GITLAB_TOKEN= "}}} {
		if _, err := Token(c.file, c.env); !errors.Is(err, ErrNoToken) || strings.Contains(err.Error(), secret) {
			t.Error(err)
		}
	}
}
