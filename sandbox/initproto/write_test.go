package initproto

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func TestWrite(t *testing.T) {
	f := &fake{ready: true}
	c, err := Dial(t.Context(), connect(t, &Server{Handler: f}), testKey)
	if err != nil {
		t.Fatal(err)
	}
	content := make([]byte, 2*maxData+17)
	rand.NewChaCha8([32]byte{3}).Read(content)
	for _, size := range []int{0, 1, maxData - 1, maxData, maxData + 1, 2 * maxData, len(content)} {
		as := NewFile{Dir: "/cache", Path: "a b/\xff", Mode: 0o640, Modified: -5, Size: int64(size)}
		made, err := c.Write(t.Context(), as, iotest.HalfReader(bytes.NewReader(content[:size])))
		if err != nil || made.Path != as.Path || made.Mtime != -5 || f.written.as != as || !f.written.kept || !bytes.Equal(f.written.Bytes(), content[:size]) {
			t.Fatalf("%d bytes: %v, %+v of %+v", size, err, made, f.written.as)
		}
	}
	// Whatever goes wrong with one file, there is none, and the connection lives.
	broken := errors.New("digest is wrong")
	for name, test := range map[string]struct {
		path    string
		content io.Reader
		says    string
	}{
		"broken at the end": {"f", io.MultiReader(strings.NewReader("12345"), iotest.ErrReader(broken)), "digest is wrong"},
		"broken before":     {"f", iotest.ErrReader(broken), "digest is wrong"},
		"short":             {"f", strings.NewReader("1234"), "longer or shorter"},
		"long":              {"f", strings.NewReader("123456"), "longer or shorter"},
		"refused":           {"refused", strings.NewReader("12345"), `write "refused": file not written: no?room`},
		"refused at last":   {"late", strings.NewReader("12345"), "no name"},
	} {
		f.written = nil
		_, err := c.Write(t.Context(), NewFile{Dir: "/cache", Path: test.path, Size: 5}, test.content)
		if !errors.Is(err, ErrNotWritten) || !strings.Contains(err.Error(), test.says) || strings.HasPrefix(name, "broken") && !errors.Is(err, broken) {
			t.Errorf("%s: %v", name, err)
		}
		if w := f.written; w != nil && w.kept == (w.refuse == nil) {
			t.Errorf("%s: %+v", name, w)
		}
		if exit, err := c.RunStage(t.Context(), Stage{Script: strings.NewReader("*")}); err != nil || exit.Code != '*' {
			t.Fatal(name, exit, err)
		}
	}
	for _, bad := range []NewFile{{Path: "f"}, {Dir: "d", Path: "f"}, {Dir: "/d/../e", Path: "f"}, {Dir: "/d"}, {Dir: "/d", Path: "/f"}, {Dir: "/d", Path: "../f"},
		{Dir: "/d", Path: "."}, {Dir: "/d", Path: "a/../f"}, {Dir: "/d", Path: "f\x00"}, {Dir: "/d", Path: "f", Size: -1}, {Dir: "/d", Path: "f", Mode: 0o4755}} {
		if _, err := c.Write(t.Context(), bad, strings.NewReader("")); !errors.Is(err, ErrNotWritten) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// A file whose driver is gone, or gives up, is dropped.
func TestWriteIsCutOff(t *testing.T) {
	for name, end := range map[string]func(c *Client, cancel func()){
		"driver is gone": func(c *Client, _ func()) { c.Close() },
		"canceled":       func(_ *Client, cancel func()) { cancel() },
	} {
		f := &fake{ready: true}
		a, b := net.Pipe()
		served := make(chan struct{})
		go func() { defer close(served); (&Server{Handler: f}).ServeConn(b) }()
		c, err := Dial(t.Context(), a, testKey)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		sent := 0
		content := writerTo(func(p []byte) (int, error) {
			if sent += len(p); sent > 2*maxData {
				end(c, cancel)
			}
			return len(p), nil
		})
		_, err = c.Write(ctx, NewFile{Dir: "/d", Path: "f", Size: 1 << 40}, readerOf(content))
		if err == nil || errors.Is(err, ErrNotWritten) {
			t.Errorf("%s: %v", name, err)
		}
		select {
		case <-served:
		case <-time.After(time.Minute):
			t.Fatal("the session outlives its stream")
		}
		if w := f.written; w == nil || w.kept || !w.dropped {
			t.Errorf("%s: %+v", name, w.as)
		}
		cancel()
	}
}

// readerOf is told of what is read.
type readerOf writerTo

func (r readerOf) Read(p []byte) (int, error) { return r(p) }

// A driver that says something else than a file's content is cut off.
func TestBrokenWrite(t *testing.T) {
	var head encoder
	NewFile{Dir: "/d", Path: "f", Size: 3}.encode(&head)
	begin := appendFrame(nil, frameWrite, head.b)
	for name, more := range map[string][]byte{
		"nothing begun":  nil,
		"more than said": appendFrame(nil, frameBytes, []byte("1234")),
		"empty piece":    appendFrame(nil, frameBytes, nil),
		"kept too early": appendFrame(appendFrame(nil, frameBytes, []byte("12")), frameKeep, nil),
		"two at once":    begin,
	} {
		stream := append(bytes.Clone(begin), more...)
		if more == nil {
			stream = appendFrame(nil, frameKeep, nil)
		}
		a, b := net.Pipe()
		f := &fake{ready: true}
		ses := &session{srv: &Server{Handler: f}, conn: b, in: frameReader{r: b}}
		go func() { io.Copy(io.Discard, a) }()
		go a.Write(stream)
		if err := ses.serve(); !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: %v", name, err)
		}
		if w := f.written; w != nil && (w.kept || !w.dropped) {
			t.Errorf("%s: something stays", name)
		}
		a.Close()
		b.Close()
	}
}
