package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cleanroom/integration/gitlab/job"
	"cleanroom/integration/rig"
)

// stuck stands before the machine's engine, and has it behave as one whose
// runtime cannot kill a container: a wrapper of runc would not do, for the
// engine then kills the process itself.
type stuck struct {
	socket string
	name   atomic.Pointer[string] // part of the container's name; nil: none
	silent atomic.Bool            // it does not answer, instead of an error
}

func newStuck(t *testing.T) *stuck {
	t.Helper()
	s := &stuck{socket: filepath.Join(t.TempDir(), "engine.sock")}
	l, err := net.Listen("unix", s.socket)
	if err != nil {
		t.Fatal(err)
	}
	engine := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", "/var/run/docker.sock")
	}}
	behind := &httputil.ReverseProxy{Transport: engine, FlushInterval: -1,
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: "engine"}) }}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if name := s.name.Load(); name != nil && r.Method == http.MethodDelete && s.is(r, engine, *name) {
			if s.silent.Load() {
				<-r.Context().Done()
				return
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusInternalServerError)
			fmt.Fprintln(w, `{"message":"Could not kill running container, cannot remove - tried to kill container, but did not receive an exit event"}`)
			return
		}
		behind.ServeHTTP(w, r)
	})}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return s
}

// is tells whether a request is about the container of a name.
func (s *stuck) is(r *http.Request, engine http.RoundTripper, name string) bool {
	_, id, ok := strings.Cut(r.URL.Path, "/containers/")
	if !ok {
		return false
	}
	ask, err := http.NewRequestWithContext(r.Context(), http.MethodGet, "http://engine/containers/"+id+"/json", nil)
	if err != nil {
		return false
	}
	resp, err := engine.RoundTrip(ask)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	var c struct{ Name string }
	return json.NewDecoder(resp.Body).Decode(&c) == nil && strings.HasSuffix(c.Name, name)
}

// TestContainerThatCannotBeKilled at first: that is said loudly, the room stays
// on the books, and reap ends it when it can.
func TestContainerThatCannotBeKilled(t *testing.T) {
	engine := newStuck(t)
	s := install(t, rig.RunnerOptions{Config: faultConfig + fmt.Sprintf("[engine]\nhost = \"unix://%s\"\ntimeout = \"4s\"\n", engine.socket)})
	s.cleanroom("secret", "set", "KEY", "--generator", "random", "--rotate", "job")
	names := []string{"-helper", "-job", "-service-0"}
	s.luck.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	for i, name := range names[:2] {
		t.Run([]string{"it says so", "it is silent"}[i]+name, func(t *testing.T) {
			s := s.in(t)
			g := newGate(t)
			words := len(s.runner.Words())
			id := s.submit(trap{s, ""}.job(g))
			s.arrives(g)
			engine.silent.Store(i > 0)
			engine.name.Store(&name)
			g.open()
			began := time.Now()
			s.wait(id).is(t, job.Success, "", 0)
			s.driverEnds(id)
			t.Logf("the job's end took %s", time.Since(began))
			said := s.runner.Words()[words:]
			for _, word := range []string{"level=error", "the wipe is not finished: run `cleanroom room wipe ", name, "Cleanup script failed"} {
				if !strings.Contains(said, word) {
					t.Errorf("the runner's log does not say %q:\n%s", word, said)
				}
			}
			all := s.endings(id)
			if last := all[len(all)-1]; last.Complete || len(last.Left) == 0 || last.Leases[0].Outcome != "revoked" || s.booked() != 1 {
				t.Errorf("%d rooms on the books, the evidence is %+v", s.booked(), last)
			}
			if list := s.cleanroom("room", "list"); !strings.Contains(list, fmt.Sprint("-", id, "-")) {
				t.Errorf("the room is not listed: %s", list)
			}
			if i == 0 { // each try takes its time
				if out, err := s.tryCleanroom("reap"); err == nil || s.booked() != 1 {
					t.Errorf("reap says that all is well: %s", out)
				}
			}
			engine.name.Store(nil)
			s.cleanroom("reap")
			s.nothingLeft(id, true)
		})
	}
}
