package initproto

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

func FuzzReadFrame(f *testing.F) {
	f.Add(appendFrame(nil, frameScript, []byte("echo")))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, limit := range []limits{beforeProof, toInit, toDriver} {
			r := bytes.NewReader(data)
			in := frameReader{r: r, max: limit}
			for used := 0; ; {
				typ, p, err := in.next()
				if err != nil {
					break
				}
				again := appendFrame(nil, typ, p)
				if len(p) > limit(typ) || !bytes.Equal(again, data[used:used+len(again)]) {
					t.Fatalf("frame %q of %d bytes is not what was sent", typ, len(p))
				}
				used += len(again)
			}
			if cap(in.buf) > max(2*len(data), maxStream) {
				t.Fatalf("%d bytes of buffer for %d bytes", cap(in.buf), len(data))
			}
		}
		// None of the decoders may panic, or say more than they were told.
		decodeBoot(data)
		decodeStage(data)
		decodeExit(data)
		decodeLists(data)
		decodeSpans(data)
		decodeNewFile(data)
		if err := failError(data); err == nil {
			t.Fatal("a failure without an error")
		}
		if c, err := ReadCheck(bytes.NewReader(data)); err == nil {
			var b bytes.Buffer
			if len(c.Argv) == 0 || (WriteCheck(&b, c) == nil && b.Len() > len(data)) {
				t.Fatalf("%+v from %d bytes", c, len(data))
			}
		}
	})
}

// script is a peer that says what it was given, whatever it hears.
type script struct {
	io.Reader
	closed chan struct{}
}

func (s script) Write(p []byte) (int, error) { return len(p), nil }
func (s script) Close() error {
	select {
	case <-s.closed:
	default:
		close(s.closed)
	}
	return nil
}

// FuzzClient has arbitrary bytes as init's answers. Op chooses the question;
// with bit 7 the handshake is part of it.
func FuzzClient(f *testing.F) {
	f.Add(byte(1), []byte("o\x00\x00\x00\x02hiE\x00\x00\x00\x04\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, op byte, data []byte) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		conn := script{bytes.NewReader(data), make(chan struct{})}
		c := &Client{conn: conn, in: frameReader{r: conn, max: toDriver}}
		if op&0x80 != 0 {
			if _, err := Dial(ctx, conn, testKey); err == nil {
				t.Fatal("a proof was made up")
			}
			return
		}
		var err error
		switch op % 9 {
		case 0:
			var out counter
			values := 0
			take := func(v string) error {
				if values += len(v); v == "" || len(v) > MaxMask {
					t.Fatalf("a value of %d bytes", len(v))
				}
				return nil
			}
			_, err = c.RunStage(ctx, Stage{Script: strings.NewReader("echo"), Output: &out, Mask: take})
			if int(out)+values > len(data) {
				t.Fatal("more than arrived")
			}
		case 1:
			_, err = c.Boot(ctx, Boot{Role: Helper})
		case 2:
			var replaced bool
			replaced, err = c.Boot(ctx, Boot{Role: Service, Argv: []string{"x"}})
			if err == nil && !replaced {
				t.Fatal("neither replaced nor failed")
			}
		case 3:
			var addr string
			addr, err = c.Probe(ctx, []string{"a:1"})
			if err == nil && addr != "a:1" {
				t.Fatal("an address that nobody asked for: ", addr)
			}
		case 4:
			last, size := "", 0
			_, err = c.List(ctx, "/d", []FileSet{{Untracked: true}}, func(e Entry) error {
				if size += len(e.Path) + len(e.Target); e.Path <= last || e.check() != nil {
					t.Fatalf("%+v after %q", e, last)
				}
				last = e.Path
				return nil
			})
			if size > len(data) {
				t.Fatal("a longer list than arrived")
			}
		case 5:
			var out counter
			err = c.Read(ctx, fileEntry("f", "12345"), 1, 3, &out)
			if out > 3 || err == nil && out != 3 {
				t.Fatal("read ", out, err)
			}
		case 6:
			var got []Content
			got, err = c.ReadFiles(ctx, []Entry{fileEntry("f", "12345"), fileEntry("g", "")})
			if err == nil && (got[0].Err == nil && len(got[0].Data) != 5 || len(got[1].Data) != 0) {
				t.Fatalf("%+v", got)
			}
		case 7:
			p := make([]byte, 4)
			n, wrong := c.File(ctx, fileEntry("f", "12345")).ReadAt(p, 2)
			if n > 3 || wrong == io.EOF && n != 3 || wrong == nil {
				t.Fatal(n, wrong)
			}
		case 8:
			var made Entry
			made, err = c.Write(ctx, NewFile{Dir: "/d", Path: "f", Size: 5}, strings.NewReader("12345"))
			if err == nil && (made.check() != nil || made.Path != "f" || made.Size != 5) {
				t.Fatalf("%+v", made)
			}
		}
		if ctx.Err() != nil {
			t.Fatal("the end of the stream was not noticed")
		}
		var x *ExecError
		if errors.As(err, &x) && (len(x.Text) > 1024 || strings.ContainsAny(x.Error(), "\x1b\n\r\x00")) {
			t.Fatalf("unclean text: %q", x.Text)
		}
	})
}

type counter int

func (c *counter) Write(p []byte) (int, error) { *c += counter(len(p)); return len(p), nil }

// FuzzServer has arbitrary bytes as the driver's, before the proof or (bit 0
// of op) after it.
func FuzzServer(f *testing.F) {
	f.Add(byte(1), []byte("c\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, op byte, data []byte) {
		h := &fake{ready: op&2 != 0}
		s := &Server{Handler: h}
		a, b := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			if op&1 == 0 {
				s.ServeConn(b)
				return
			}
			ses := &session{srv: s, conn: b, in: frameReader{r: b}}
			ses.serve()
			b.Close()
		}()
		go io.Copy(io.Discard, a)
		a.SetWriteDeadline(time.Now().Add(time.Minute))
		a.Write(data)
		a.Close()
		select {
		case <-done:
		case <-time.After(2 * time.Minute):
			t.Fatal("the session outlives its stream")
		}
		if w := h.written; w != nil && (int64(w.Len()) > w.as.Size || !w.kept && !w.dropped || w.kept && int64(w.Len()) != w.as.Size) {
			t.Fatalf("a file that is neither whole nor gone: %+v", w)
		}
		if s.key != nil && len(data) < 2*headerLen+32+64 {
			t.Fatal("a key out of nothing")
		}
	})
}
