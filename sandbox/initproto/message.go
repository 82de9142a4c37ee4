package initproto

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

const magic = "cleanroom-init/4"

type nonce [32]byte

// proof binds a side to both nonces. The label differs by direction, so a
// proof cannot be sent back to who made it, and by fresh, so that nobody in
// between can turn one kind of handshake into the other.
func proof(key [32]byte, side string, fresh bool, client, server nonce) []byte {
	m := hmac.New(sha256.New, key[:])
	fmt.Fprintf(m, "%s %s fresh=%t\x00", magic, side, fresh)
	m.Write(client[:])
	m.Write(server[:])
	return m.Sum(nil)
}

const (
	sideClient = "driver proves"
	sideServer = "init proves"
)

func (h Hello) encode(e *encoder) {
	e.str(h.Version)
	e.num(int64(h.UID))
	e.num(int64(h.GID))
	e.num(int64(h.PID))
	e.flag(h.Ready)
	e.flag(h.Fresh)
	e.str(h.Shell)
	e.str(h.ShellProblem)
}

func decodeHello(d *decoder) (h Hello) {
	h.Version = clean(d.str())
	h.UID, h.GID, h.PID = d.id(), d.id(), d.id()
	h.Ready, h.Fresh = d.flag(), d.flag()
	h.Shell, h.ShellProblem = clean(d.str()), clean(d.str())
	return h
}

// id reads a user, group or process id.
func (d *decoder) id() int {
	n := d.num()
	if n < 0 || n > 1<<32-1 {
		d.fail("id out of range")
	}
	return int(n)
}

func (b Boot) encode(e *encoder) {
	e.str(string(b.Role))
	e.str(b.Dir)
	e.strs(b.Argv)
	e.strs(b.Env)
	e.str(b.FilesDir)
	e.files(b.Files)
}

func decodeBoot(p []byte) (Boot, error) {
	d := decoder{b: p}
	b := Boot{Role: Role(d.str()), Dir: d.str(), Argv: d.strs(), Env: d.strs()}
	b.FilesDir, b.Files = d.filesIn()
	switch {
	case d.err != nil:
	case b.Role != Helper && b.Role != Job && b.Role != Service:
		d.fail("unknown role")
	case b.Role == Service && len(b.Argv) == 0:
		d.fail("a service without a command")
	case b.Role != Service && b.FilesDir != "":
		d.fail("files for the life of a container that is no service")
	}
	return b, d.done()
}

// stageHead is what goes ahead of a stage's script. Seq tells the frames of
// one stage from late ones of the stage before.
type stageHead struct {
	Seq      int64
	Name     string
	Dir      string
	Grace    time.Duration
	Env      []string
	FilesDir string
	Files    []File
}

func (s stageHead) encode(e *encoder) {
	e.num(s.Seq)
	e.str(s.Name)
	e.str(s.Dir)
	e.num(int64(s.Grace))
	e.strs(s.Env)
	e.str(s.FilesDir)
	e.files(s.Files)
}

func decodeStage(p []byte) (stageHead, error) {
	d := decoder{b: p}
	s := stageHead{Seq: d.num(), Name: d.str(), Dir: d.str(), Grace: time.Duration(d.num()), Env: d.strs()}
	s.FilesDir, s.Files = d.filesIn()
	if d.err == nil && (s.Grace < 0 || s.Grace > MaxGrace) {
		d.fail("grace out of range")
	}
	return s, d.done()
}

func (x Exit) encode(e *encoder) {
	e.num(int64(x.Code))
	e.num(int64(x.Signal))
	e.flag(x.OOM)
	e.flag(x.Canceled)
}

func decodeExit(p []byte) (Exit, error) {
	d := decoder{b: p}
	code, sig := d.num(), d.num()
	x := Exit{Code: int(code), Signal: int(sig), OOM: d.flag(), Canceled: d.flag()}
	if d.err == nil && (code < 0 || code > 255 || sig < 0 || sig > 127 || (sig > 0 && code != 128+sig)) {
		d.fail("impossible exit status")
	}
	return x, d.done()
}

// What a fail frame is about.
const (
	failOther = iota
	failExec
	failBusy
	failNotReady
	failKey
	failTooMany
)

func encodeFail(e *encoder, err error) {
	var x *ExecError
	switch {
	case errors.As(err, &x):
		e.num(failExec)
		e.str(cut(x.Argv0))
		e.str(cut(x.Text))
		return
	case errors.Is(err, ErrBusy):
		e.num(failBusy)
	case errors.Is(err, ErrNotReady):
		e.num(failNotReady)
	case errors.Is(err, ErrKey):
		e.num(failKey)
	case errors.Is(err, ErrTooMany):
		e.num(failTooMany)
	default:
		e.num(failOther)
	}
	e.str("")
	e.str(cut(err.Error()))
}

func cut(s string) string { return s[:min(len(s), 4096)] }

// failError is the error that a fail frame stands for.
func failError(p []byte) error {
	d := decoder{b: p}
	kind, argv0, text := d.num(), clean(d.str()), clean(d.str())
	if err := d.done(); err != nil {
		return err
	}
	switch kind {
	case failExec:
		return &ExecError{Argv0: argv0, Text: text}
	case failBusy:
		return ErrBusy
	case failNotReady:
		return ErrNotReady
	case failKey:
		return ErrKey
	case failTooMany:
		return ErrTooMany
	}
	return fmt.Errorf("init: %s", text)
}

// Check is a health check for "cleanroom-init check": Argv is already
// resolved from Docker's CMD and CMD-SHELL forms, Env wins over the
// container's, Dir empty means the container's.
type Check struct {
	Argv []string
	Env  []string
	Dir  string
}

// WriteCheck writes c as "cleanroom-init check" reads it from its stdin.
func WriteCheck(w io.Writer, c Check) error {
	if len(c.Argv) == 0 {
		return errors.New("health check without a command: give its argv")
	}
	if err := errors.Join(checkStrings("argument", c.Argv), checkStrings("variable", c.Env)); err != nil {
		return err
	}
	e := encoder{b: make([]byte, 4)}
	e.strs(c.Argv)
	e.strs(c.Env)
	e.str(c.Dir)
	if len(e.b)-4 > maxControl {
		return fmt.Errorf("health check of %d bytes: at most %d are allowed", len(e.b)-4, maxControl)
	}
	binary.BigEndian.PutUint32(e.b, uint32(len(e.b)-4))
	_, err := w.Write(e.b)
	return err
}

// ReadCheck reads what WriteCheck wrote, and not a byte more.
func ReadCheck(r io.Reader) (Check, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return Check{}, err
	}
	n := int64(binary.BigEndian.Uint32(size[:]))
	if n > maxControl {
		return Check{}, fmt.Errorf("%w: health check of %d bytes", ErrProtocol, n)
	}
	p, err := io.ReadAll(io.LimitReader(r, n))
	if err != nil {
		return Check{}, err
	}
	if int64(len(p)) < n {
		return Check{}, io.ErrUnexpectedEOF
	}
	d := decoder{b: p}
	c := Check{Argv: d.strs(), Env: d.strs(), Dir: d.str()}
	if d.err == nil && len(c.Argv) == 0 {
		d.fail("health check without a command")
	}
	return c, d.done()
}
