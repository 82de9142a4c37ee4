package initproto

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// printer is a container whose stages do what the test says.
type printer struct {
	fake
	do func(out io.Writer, mask func([]byte) error) error
}

func (p *printer) Run(_ context.Context, s Stage, mask func([]byte) error) (Exit, error) {
	return Exit{}, p.do(s.Output, mask)
}

func printing(t *testing.T, do func(io.Writer, func([]byte) error) error) *Client {
	t.Helper()
	c, err := Dial(t.Context(), connect(t, &Server{Handler: &printer{fake: fake{ready: true}, do: do}}), testKey)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// What is printed before a value is handed over is written before the driver
// is asked, and what is printed after the answer is written after it.
func TestMaskIsInOrder(t *testing.T) {
	long := strings.Repeat("v", MaxMask)
	c := printing(t, func(out io.Writer, mask func([]byte) error) error {
		for i := range 100 {
			fmt.Fprintf(out, "before%d ", i)
			value := fmt.Appendf(nil, "value%d", i)
			if err := mask(value); err != nil {
				return err
			}
			fmt.Fprintf(out, "after%d ", i)
		}
		return mask([]byte(long))
	})
	var got, want strings.Builder
	s := Stage{Output: &got, Mask: func(value string) error { got.WriteString("<" + value + "> "); return nil }}
	if _, err := c.RunStage(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		fmt.Fprintf(&want, "before%d <value%[1]d> after%[1]d ", i)
	}
	if want.WriteString("<" + long + "> "); got.String() != want.String() {
		t.Fatalf("%.1000q", got.String())
	}
}

func TestMaskIsRefused(t *testing.T) {
	const value = "a-v4lue"
	for says, take := range map[string]func(string) error{
		"this stage takes no values to hide":    nil,
		"it is too short":                       func(string) error { return errors.New("it is too short") },
		"one ?[31mline?of text":                 func(string) error { return errors.New("one \x1b[31mline\nof text") },
		strings.Repeat("x", 1024):               func(string) error { return errors.New(strings.Repeat("x", 5000)) },
		"the driver did not take the value":     func(v string) error { return fmt.Errorf("%q is odd", v) },
		"the driver did not take the value\x00": func(string) error { return errors.New("") },
	} {
		var got error
		c := printing(t, func(_ io.Writer, mask func([]byte) error) error { got = mask([]byte(value)); return nil })
		if _, err := c.RunStage(t.Context(), Stage{Mask: take}); err != nil {
			t.Fatal(err)
		}
		if got == nil || got.Error() != strings.TrimSuffix(says, "\x00") {
			t.Errorf("%v, want %q", got, says)
		}
	}
	for says, bad := range map[string][]byte{"no value": nil, "longer than 64 KiB": make([]byte, MaxMask+1)} {
		var got error
		c := printing(t, func(_ io.Writer, mask func([]byte) error) error { got = mask(bad); return nil })
		if _, err := c.RunStage(t.Context(), Stage{}); err != nil || got == nil || !strings.Contains(got.Error(), says) {
			t.Errorf("%v, %v, want %q", err, got, says)
		}
	}
}

// A stage cannot have the driver work for ever, and the next may begin anew.
func TestTooManyMasks(t *testing.T) {
	var refused int
	c := printing(t, func(_ io.Writer, mask func([]byte) error) error {
		refused = 0
		for range MaxMasks + 5 {
			if mask([]byte("value")) != nil {
				refused++
			}
		}
		return nil
	})
	for range 2 {
		taken := 0
		if _, err := c.RunStage(t.Context(), Stage{Mask: func(string) error { taken++; return nil }}); err != nil || taken != MaxMasks || refused != 5 {
			t.Fatal(err, taken, refused)
		}
	}
	// An init that does not keep to it is broken.
	var e encoder
	e.num(1)
	e.str("value")
	conn := script{io.MultiReader(bytes.NewReader(bytes.Repeat(appendFrame(nil, frameMask, e.b), MaxMasks+1)), &blocked{}), make(chan struct{})}
	hostile := &Client{conn: conn, in: frameReader{r: conn, max: toDriver}}
	if _, err := hostile.RunStage(t.Context(), Stage{Mask: func(string) error { return nil }}); !errors.Is(err, ErrProtocol) {
		t.Fatal(err)
	}
}

type blocked struct{}

func (*blocked) Read([]byte) (int, error) { select {} }

// Who still waits when the stage ends is told so, and nothing of it reaches
// what comes next.
func TestMaskAfterTheEnd(t *testing.T) {
	late, held := make(chan error, 3), make(chan struct{})
	var keep func([]byte) error
	c := printing(t, func(_ io.Writer, mask func([]byte) error) error {
		keep = mask
		for range 3 {
			go func() { late <- mask([]byte("value")) }()
		}
		<-held
		return nil
	})
	taken := 0
	_, err := c.RunStage(t.Context(), Stage{Mask: func(string) error {
		if taken++; taken == 1 {
			close(held)
			time.Sleep(10 * time.Millisecond) // the stage ends meanwhile
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := <-late; err != nil && !errors.Is(err, errMaskOver) {
			t.Error(err)
		}
	}
	if err := keep([]byte("value")); !errors.Is(err, errMaskOver) {
		t.Error(err)
	}
	if _, err := c.RunStage(t.Context(), Stage{}); err != nil {
		t.Fatal(err)
	}
}

// A driver that is busy for long is given up by who waits, not by the stage.
func TestMaskIsNotAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got error
		c := printing(t, func(_ io.Writer, mask func([]byte) error) error { got = mask([]byte("value")); return nil })
		began := time.Now()
		s := Stage{Mask: func(string) error { time.Sleep(2 * maskTime); return nil }}
		if _, err := c.RunStage(t.Context(), s); err != nil || !errors.Is(got, errMaskLate) || time.Since(began) != 2*maskTime {
			t.Fatal(err, got, time.Since(began))
		}
		c.Close()
	})
}

// The buffers that a value went through do not keep it.
func TestMaskIsCleared(t *testing.T) {
	a, b := net.Pipe()
	ses := &session{srv: &Server{Handler: &printer{fake: fake{ready: true}, do: func(_ io.Writer, mask func([]byte) error) error { return mask([]byte("a-v4lue")) }}}, conn: b, in: frameReader{r: b}}
	done := make(chan error, 1)
	go func() { done <- ses.serve() }()
	c := &Client{conn: a, in: frameReader{r: a, max: toDriver}}
	taken := ""
	if _, err := c.RunStage(t.Context(), Stage{Mask: func(v string) error { taken = v; return nil }}); err != nil || taken != "a-v4lue" {
		t.Fatal(err, taken)
	}
	a.Close()
	<-done
	for _, buf := range [][]byte{ses.wbuf, ses.in.buf, c.wbuf, c.in.buf} {
		if bytes.Contains(buf[:cap(buf)], []byte("v4lue")) {
			t.Error("a buffer still holds it")
		}
	}
}
