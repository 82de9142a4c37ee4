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

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"
)

// integration/gitlab has the tests with a stand-in for GitLab; here are faults.

const secret = "glpat-canary-value"

func open(t *testing.T, h http.HandlerFunc) *GitLab {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	g, err := dial(s.URL, secret, "", gitlab.WithCustomBackoff(func(time.Duration, time.Duration, int, *http.Response) time.Duration { return time.Millisecond }))
	if err != nil {
		t.Fatal(err)
	}
	g.pause = time.Millisecond
	return g
}

// seven reads the log of job 7.
func (g *GitLab) seven(t *testing.T, project string, f Func) error {
	fault, err := g.log(t.Context(), project, 7, f)
	return errors.Join(fault, err)
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
		err := g.seven(t, "shop/items", func(_ int64, log io.Reader) error {
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
		err := g.seven(t, "1", func(_ int64, log io.Reader) error {
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
			g.seven(t, "shop/items", nil),
			g.Project(t.Context(), "shop/items", 0, 9, nil, nil),
			g.Runner(t.Context(), 3, time.Now(), nil, nil),
		} {
			if err == nil || strings.Contains(err.Error(), secret) || !strings.Contains(err.Error(), want) && want != "no log" {
				t.Errorf("%d: %v", code, err)
			}
		}
		if err := g.seven(t, "1", nil); errors.Is(err, ErrNoLog) != (want == "no log") {
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
	none := func(id int64, why error) { t.Errorf("job %d: %v", id, why) }
	note := func(id int64, _ io.Reader) error { got = append(got, id); return nil }
	list = `[{"id":9,"started_at":"2026-01-01T00:00:00Z"},{"id":8,"started_at":"2026-01-01T00:00:00Z"}]`
	if err := g.Project(t.Context(), "1", 0, 100, note, none); err != nil || fmt.Sprint(got) != "[9 8 6]" {
		t.Errorf("%v %v", got, err)
	}
	if err := g.Runner(t.Context(), 1, time.Time{}, note, none); err == nil || !strings.Contains(err.Error(), "of which project") {
		t.Error(err)
	}
	list = `{`
	if err := g.Project(t.Context(), "1", 0, 100, note, none); err == nil {
		t.Error("half a list was taken")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.Project(ctx, "1", 0, 100, note, none); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// A log that cannot be read is named, and the others are read.
func TestLost(t *testing.T) {
	var down atomic.Bool
	g := open(t, func(w http.ResponseWriter, r *http.Request) {
		list := `[{"id":99,"started_at":"2026-01-01T00:00:00Z","erased_at":"2026-01-02T00:00:00Z"}`
		for id := 50; id > 0; id-- {
			list += fmt.Sprintf(`,{"id":%d,"started_at":"2026-01-01T00:00:00Z"}`, id)
		}
		switch path, _ := strings.CutPrefix(r.URL.Path, "/api/v4/projects/1/jobs"); {
		case path == "":
			io.WriteString(w, list+"]")
		case down.Load() || path == "/47/trace":
			w.WriteHeader(500)
		case path == "/49/trace":
			w.WriteHeader(404)
		case path == "/48/trace":
			w.WriteHeader(403)
		case path == "/46/trace":
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "it begins")
		case path == "/45/trace":
			panic(http.ErrAbortHandler)
		case path == "/44/trace": // empty
		default:
			io.WriteString(w, path)
		}
	})
	lost, got := map[int64]error{}, map[int64]string{}
	read := func() error {
		clear(lost)
		clear(got)
		return g.Project(t.Context(), "1", 0, 100, func(id int64, log io.Reader) error {
			text, err := io.ReadAll(log)
			if err == nil {
				got[id] = string(text)
			}
			return err
		}, func(id int64, why error) { lost[id] = why })
	}
	if err := read(); err != nil || len(got) != 45 || got[50] != "/50/trace" || got[44] != "" || len(lost) != 6 {
		t.Errorf("%v: %d read, lost %v", err, len(got), lost)
	}
	for id, want := range map[int64]string{99: "erased at 2026-01-02T00:00:00Z", 49: "404", 48: "403", 47: "500", 46: "broke off", 45: "EOF"} {
		if why := lost[id]; why == nil || !strings.Contains(why.Error(), want) || errors.Is(why, ErrNoLog) != (id > 47) {
			t.Errorf("%d: %v", id, why)
		}
	}
	mine := errors.New("mine")
	if err := g.Project(t.Context(), "1", 0, 50, func(int64, io.Reader) error { return mine }, func(int64, error) {}); !errors.Is(err, mine) {
		t.Error(err)
	}
	down.Store(true) // then nobody waits for each of a hundred thousand
	if err := read(); err == nil || !strings.Contains(err.Error(), "5 logs in a row") || len(got) != 0 || len(lost) != 6 {
		t.Errorf("%v: %d read, %d lost", err, len(got), len(lost))
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
	if err := g.seven(t, "1", func(int64, io.Reader) error { n++; return nil }); err != nil || n != 1 {
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
