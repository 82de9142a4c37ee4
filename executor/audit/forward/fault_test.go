package forward

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/slim/otlp/collector/logs/v1"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"

	"cleanroom/config"
)

// receiver is an OTLP receiver with faults, which real ones do not have on demand.
type receiver struct {
	*httptest.Server
	mu      sync.Mutex
	all     []got
	batches []int
	// fault answers in its own way, and says so.
	fault func(w http.ResponseWriter, r *http.Request, batch []got) bool
}

func newReceiver(t *testing.T, fault func(http.ResponseWriter, *http.Request, []got) bool) *receiver {
	r := &receiver{fault: fault}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	var sent collector.ExportLogsServiceRequest
	if err != nil || proto.Unmarshal(body, &sent) != nil || req.Header.Get("Content-Type") != protobuf {
		w.WriteHeader(http.StatusUnsupportedMediaType)
		return
	}
	var batch []got
	for _, l := range sent.ResourceLogs[0].ScopeLogs[0].LogRecords {
		g := got{Body: l.Body.GetStringValue()}
		for _, a := range l.Attributes {
			switch a.Key {
			case "cleanroom.log.index":
				g.Index = a.Value.GetIntValue()
			case "cleanroom.log.leaf":
				g.Leaf = a.Value.GetStringValue()
			case "cleanroom.log.notice":
				g.Notice = a.Value.GetStringValue()
			}
		}
		batch = append(batch, g)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.batches = append(r.batches, len(batch))
	if r.fault(w, req, batch) {
		return
	}
	r.all = append(r.all, batch...)
	respond(w, http.StatusOK, &collector.ExportLogsServiceResponse{})
}

func (r *receiver) asked() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.batches)
}

func respond(w http.ResponseWriter, code int, m proto.Message) {
	body, _ := proto.Marshal(m)
	w.Header().Set("Content-Type", protobuf)
	w.WriteHeader(code)
	w.Write(body)
}

func fine(http.ResponseWriter, *http.Request, []got) bool { return false }

func poisoned(g got) bool { return g.Notice == "" && strings.Contains(g.Body, "poison") }

// A record that is not taken keeps no other back, and is missed by nobody
// without a word.
func TestPoison(t *testing.T) {
	for name, answer := range map[string]func(w http.ResponseWriter, batch []got){
		"400": func(w http.ResponseWriter, _ []got) {
			respond(w, http.StatusBadRequest, &status.Status{Message: "no\n poison,\x1b please"})
		},
		"413": func(w http.ResponseWriter, _ []got) {
			http.Error(w, "no poison, please", http.StatusRequestEntityTooLarge)
		},
		"all of it": func(w http.ResponseWriter, batch []got) {
			respond(w, http.StatusOK, &collector.ExportLogsServiceResponse{PartialSuccess: &collector.ExportLogsPartialSuccess{
				RejectedLogRecords: int64(len(batch)), ErrorMessage: "no poison, please"}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request, batch []got) bool {
				if !slices.ContainsFunc(batch, poisoned) {
					return false
				}
				answer(w, batch)
				return true
			})
			b := newBench(t, config.Forward{Kind: "otlp", Address: r.URL})
			b.log.fill(30)
			b.log.all[17].Body = []byte(`{"poison":1}`)
			b.log.all[29].Body = []byte(`{"poison":2}`)
			b.run(t)
			if len(r.all) != 30 {
				t.Fatalf("%d records of 30", len(r.all))
			}
			for i, g := range r.all {
				if bad := i == 17 || i == 29; g.Index != int64(i) || (g.Notice == "refused") != bad || bad && !strings.Contains(g.Body, leafOf(b.log.all[i].Body)) {
					t.Errorf("at %d: %+v", i, g)
				}
			}
			s := b.state(t)
			if s.Refused != 2 || len(s.Refusals) != 2 || s.Refusals[0].First != 17 || s.Refusals[0].Last != 17 || !strings.Contains(s.Refusals[0].Reason, "no poison, please") || s.Tries != 0 {
				t.Errorf("%+v", s)
			}
			if said := b.said.String(); strings.Count(said, "level=error") != 2 || !strings.Contains(said, "first=17") {
				t.Error(said)
			}
		})
	}
}

// OTLP forbids to send again what was taken in part.
func TestPartialSuccess(t *testing.T) {
	r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request, batch []got) bool {
		respond(w, http.StatusOK, &collector.ExportLogsServiceResponse{PartialSuccess: &collector.ExportLogsPartialSuccess{RejectedLogRecords: 3, ErrorMessage: "too old"}})
		return true
	})
	b := newBench(t, config.Forward{Kind: "otlp", Address: r.URL})
	b.log.fill(10)
	b.run(t)
	b.run(t)
	if s := b.state(t); len(r.batches) != 1 || s.Next != 10 || s.Refused != 3 || s.Refusals[0].First != 0 || s.Refusals[0].Last != 9 || s.Refusals[0].Count != 3 {
		t.Errorf("%v %+v", r.batches, s)
	}
}

// What is nobody's record's fault passes over none.
func TestTrouble(t *testing.T) {
	const secret = "canary-value"
	for name, c := range map[string]struct {
		want   string
		answer func(w http.ResponseWriter)
	}{
		"a wrong token":         {"401 Unauthorized: ", func(w http.ResponseWriter) { http.Error(w, "", http.StatusUnauthorized) }},
		"a wrong path":          {"404", func(w http.ResponseWriter) { http.NotFound(w, nil) }},
		"broken":                {"500", func(w http.ResponseWriter) { http.Error(w, "oh", http.StatusInternalServerError) }},
		"somewhere else":        {"302", func(w http.ResponseWriter) { w.Header().Set("Location", "/"); w.WriteHeader(http.StatusFound) }},
		"a page for logging in": {"is this an OTLP receiver?", func(w http.ResponseWriter) { io.WriteString(w, "<html>") }},
		"everything is bad":     {"nor a notice of that", func(w http.ResponseWriter) { http.Error(w, "bad", http.StatusBadRequest) }},
		"no answer":             {"EOF", func(w http.ResponseWriter) { panic(http.ErrAbortHandler) }},
		"half an answer":        {"unexpected EOF", func(w http.ResponseWriter) { w.Header().Set("Content-Length", "9"); w.Write([]byte("x")) }},
		"an answer without end": {"is this an OTLP receiver?", func(w http.ResponseWriter) { w.Write(make([]byte, 1<<20)) }},
		"too often": {"429", func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "120")
			w.WriteHeader(http.StatusTooManyRequests)
		}},
		"too often, for a day": {"503", func(w http.ResponseWriter) { w.Header().Set("Retry-After", "86400"); w.WriteHeader(503) }},
		"until a time, long ago": {"503", func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "Fri, 31 Dec 1999 23:59:59 GMT")
			w.WriteHeader(503)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			ill := true
			r := newReceiver(t, func(w http.ResponseWriter, req *http.Request, _ []got) bool {
				if req.Header.Get("Authorization") != "Bearer "+secret || req.URL.Path != "/in/logs" {
					t.Errorf("%s %v", req.URL, req.Header)
				}
				if ill {
					c.answer(w)
				}
				return ill
			})
			file := filepath.Join(t.TempDir(), "headers")
			if err := os.WriteFile(file, []byte("Authorization: Bearer "+secret+"\nX-Org: 1\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			b := newBench(t, config.Forward{Kind: "otlp", Address: r.URL + "/in/logs", HeadersFile: file})
			b.log.fill(20)
			begun := time.Now()
			err := b.Run(t.Context())
			s := b.state(t)
			if !errors.Is(err, ErrDestination) || !strings.Contains(err.Error(), c.want) || !strings.Contains(s.Error, c.want) || s.Next != 0 || s.Refused != 0 || s.Tries != 1 {
				t.Errorf("%v %+v", err, s)
			}
			wait := s.NotBefore.Sub(begun)
			if least, most := firstWait, longAsked+time.Minute; wait < least || wait > most || strings.HasPrefix(name, "too often") && wait < 2*time.Minute {
				t.Errorf("again in %s", wait)
			}
			// Left alone until then, unless somebody insists.
			asked := r.asked()
			b.Force = false
			if b.run(t); r.asked() != asked {
				t.Error("it was not left alone")
			}
			r.mu.Lock()
			ill, r.batches = false, nil
			r.mu.Unlock()
			b.Force = true
			b.run(t)
			b.holds(t, r.all)
			if !slices.Equal(r.batches, []int{1, 2, 4, 8, 5}) {
				t.Errorf("batches %v", r.batches)
			}
			if all := b.said.String() + err.Error() + s.Error; strings.Contains(all, secret) {
				t.Error("it tells the secret:", all)
			}
		})
	}
}

// One that never answers ends with the timeout, and others get everything meanwhile.
func TestSlow(t *testing.T) {
	let := make(chan struct{})
	slow := newReceiver(t, func(w http.ResponseWriter, req *http.Request, _ []got) bool {
		select {
		case <-let:
		case <-req.Context().Done():
		}
		return true
	})
	defer close(let)
	quick := newReceiver(t, fine)
	b := newBench(t, config.Forward{Kind: "otlp", Address: slow.URL}, config.Forward{Kind: "otlp", Address: quick.URL})
	b.log.fill(5)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- b.Run(ctx) }()
	until(t, "the quick one has it", func() bool { quick.mu.Lock(); defer quick.mu.Unlock(); return len(quick.all) == 5 })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	// That we had no time is not held against it.
	if s := b.state(t); s.Tries != 0 || s.Pending != 5 {
		t.Errorf("%+v", s)
	}
	b.Destinations[0].Timeout = 50 * time.Millisecond
	if err := b.Run(t.Context()); !errors.Is(err, ErrDestination) {
		t.Error(err)
	}
	if s := b.state(t); s.Tries != 1 {
		t.Errorf("%+v", s)
	}
}

// A secret that others may read is not used, nor is what is no header told.
func TestHeaders(t *testing.T) {
	r := newReceiver(t, fine)
	file := filepath.Join(t.TempDir(), "headers")
	for text, mode := range map[string]os.FileMode{"A: b": 0o644, "canary-value": 0o600, "A b: canary-value": 0o600, "A: b\n\ncanary-value": 0o600, "A: \x01canary-value": 0o600} {
		os.Remove(file)
		if err := os.WriteFile(file, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		b := newBench(t, config.Forward{Kind: "otlp", Address: r.URL, HeadersFile: file})
		b.log.fill(1)
		err := b.Run(t.Context())
		if err == nil || strings.Contains(b.said.String()+err.Error(), "canary-value") {
			t.Errorf("%q: %v\n%s", text, err, b.said)
		}
	}
}

// Syslog servers that end a connection in other ways than they should.
func TestStreamFaults(t *testing.T) {
	for name, c := range map[string]struct {
		want string
		end  func(*net.TCPConn)
	}{
		"reset in the middle":     {"", func(c *net.TCPConn) { io.ReadFull(c, make([]byte, 100)); c.SetLinger(0); c.Close() }},
		"closed with some unread": {"", func(c *net.TCPConn) { io.ReadFull(c, make([]byte, 100)); time.Sleep(50 * time.Millisecond); c.Close() }},
		"never closed":            {"did not close", func(c *net.TCPConn) { io.Copy(io.Discard, c); time.Sleep(time.Second); c.Close() }},
		"talks":                   {"without an end", func(c *net.TCPConn) { go c.Write(make([]byte, 1<<20)); io.Copy(io.Discard, c) }},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					go c.end(conn.(*net.TCPConn))
				}
			}()
			b := newBench(t, config.Forward{Kind: "syslog", Address: "tcp://" + l.Addr().String(), Timeout: 500 * time.Millisecond})
			b.log.fill(100)
			if err := b.Run(t.Context()); !errors.Is(err, ErrDestination) || !strings.Contains(err.Error(), c.want) {
				t.Error(err)
			}
			if s := b.state(t); s.Next != 0 || s.Refused != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// Of UDP we hear two things: that nobody listens, and what does not fit.
func TestDatagrams(t *testing.T) {
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t, config.Forward{Kind: "syslog", Address: "udp://" + l.LocalAddr().String()})
	b.log.add("{}", `{"large":"`+strings.Repeat("x", 70000)+`"}`, "{}")
	b.run(t)
	if s := b.state(t); s.Next != 3 || s.Refused != 1 || s.Refusals[0].First != 1 {
		t.Errorf("%+v", s)
	}
	l.Close()
	b.log.fill(1)
	if err := b.Run(t.Context()); !errors.Is(err, ErrDestination) || !strings.Contains(err.Error(), "refused") {
		t.Error(err)
	}
}

// Whatever an answer holds, it is an acknowledgement only if it is one.
func FuzzAnswer(f *testing.F) {
	for _, m := range []proto.Message{&collector.ExportLogsServiceResponse{}, &status.Status{Message: "x"},
		&collector.ExportLogsServiceResponse{PartialSuccess: &collector.ExportLogsPartialSuccess{RejectedLogRecords: 1 << 40}}} {
		body, _ := proto.Marshal(m)
		f.Add(200, protobuf, body)
		f.Add(400, protobuf, body)
	}
	f.Add(200, "text/html", []byte("<html>"))
	f.Fuzz(func(t *testing.T, code int, kind string, body []byte) {
		resp := &http.Response{StatusCode: code, Header: http.Header{"Content-Type": {kind}}}
		var err error
		if code/100 == 2 {
			err = accepted(resp, body, 3)
		} else if err = failure(resp, body, 3); err == nil {
			t.Fatal("a failure is none")
		}
		var not *refusal
		if errors.As(err, &not) && (not.count < 1 || not.count > 3) {
			t.Errorf("%d of 3 refused", not.count)
		}
		if err == nil && len(body) > 0 && kind != protobuf {
			t.Errorf("%q in %q was taken for an acknowledgement", body, kind)
		}
	})
}
