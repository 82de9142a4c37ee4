// Package initproto is the protocol between the driver and cleanroom-init,
// PID 1 of every container of a room. It is a stream of frames over any
// io.ReadWriteCloser: a unix socket in the room's state folder, or the stdio
// of an exec'd "cleanroom-init dial".
//
// It promises:
//   - Neither side believes the other before both have proved that they know
//     the container's key (HMAC-SHA256 over both sides' nonces). An init that
//     was just started has no key and takes that of its first client.
//   - A frame is bounded by its type, and memory grows with the bytes that
//     have arrived, never with the length that was claimed. What is not
//     exactly as described here ends the connection with ErrProtocol.
//   - What a Boot or a stage carries is not kept by this package: the buffer
//     it came in is cleared as soon as it is understood.
//   - Text that comes from init is cut to a kilobyte and stripped of control
//     characters before the driver shows it to anyone.
//   - What init lists of a folder is sorted, clean and below that folder, and of
//     a file comes what was asked for: no more, and less only with an error.
//   - A file that the driver sends is there whole or not at all.
//   - A value that a job wants hidden is not kept by this package either, and
//     stands in no error.
//
// Bounds: 64 KiB for output, script, answers and a value to hide, of which a
// stage may have 1024; 256 KiB for a piece of a file, a million files in a
// list; 16 MiB for a request of files, for Boot and for the head of a stage:
// their environments, where the kernel's own limits (128 KiB a variable, about
// 2 MiB in all) are met much earlier, and their files, at most 100, which the
// size of their folder limits. Before the proof a client may send two frames
// of at most 256 bytes, within 5 seconds.
package initproto

import (
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// Where init and its socket are in every container. Every user that a
// container may run as must be able to write RunDir (mode 0777, no sticky
// bit: an ENTRYPOINT may change the user between init's two lives).
const (
	Dir      = "/.cleanroom"
	InitPath = Dir + "/init"
	MaskPath = Dir + "/bin/" + MaskName // the same binary; the last folder of each stage's PATH
	MaskName = "cleanroom-mask"
	RunDir   = Dir + "/run"
	Socket   = RunDir + "/init.sock"
)

// Role says what init is to become.
type Role string

// Roles, the same words as sandbox.Role.
const (
	Helper  Role = "helper"
	Job     Role = "job"
	Service Role = "service"
)

// Boot is what a container must know but its configuration must not hold.
type Boot struct {
	Role Role
	Env  []string // KEY=VALUE, wins over the container's own
	Argv []string // service: its whole command; job: the image's ENTRYPOINT; empty: be ready in place
	Dir  string   // working directory; empty: the container's

	// Service only: Files are put into FilesDir, a tmpfs that is mounted there,
	// before Argv is executed, and stay.
	FilesDir string
	Files    []File
}

// Hello is what init says of itself. Believe it only as far as the container.
type Hello struct {
	Version      string
	UID, GID     int
	Ready        bool // booted: can run stages
	PID          int  // as the container sees it; 1 unless ENTRYPOINT forked
	Shell        string
	ShellProblem string // when ready and Shell is empty: why, for the job's author
	Fresh        bool   // it had no key before this connection
}

// Stage is one script for init's shell.
type Stage struct {
	Name   string
	Env    []string      // wins over init's own
	Dir    string        // working directory; empty: init's
	Grace  time.Duration // between TERM and KILL; at most MaxGrace
	Script io.Reader     // fed to the shell's stdin; nil: empty
	Output io.Writer     // what it prints, on stdout and stderr alike, in order; nil: discarded

	// Mask is asked to hide a value, between two Writes of Output: all that is
	// printed after it has returned nil is written after that. What its error
	// says is for the job. nil: refused.
	Mask func(value string) error

	// Files are in FilesDir, a tmpfs that is mounted there, before the shell
	// starts. Before the exit is told that folder is empty. FilesDir empty: no
	// files.
	FilesDir string
	Files    []File
}

// MaxGrace is the longest Stage.Grace that init accepts.
const MaxGrace = time.Hour

// Exit is how a stage ended.
type Exit struct {
	Code     int  // 128+Signal when a signal ended the shell
	Signal   int  // 0: none
	OOM      bool // the container's cgroup counted an OOM kill meanwhile; Code may still be 0
	Canceled bool // the stage was told to end before its shell was done
}

// Errors of both sides; the driver meets them wrapped.
var (
	// ErrProtocol: the peer sent something that cleanroom does not send.
	ErrProtocol = errors.New("broken init protocol")
	// ErrKey: the peer does not know the container's key.
	ErrKey = errors.New("peer does not know this room's key")
	// ErrFresh: Redial met an init without a key, which is not the one that was booted.
	ErrFresh = errors.New("this init was never given a key: it is not the one that was booted, remake the room")
	// ErrBusy: a stage of another connection still runs (or is being ended).
	ErrBusy = errors.New("init is busy with another stage: wait until it has ended")
	// ErrNotReady: a stage was asked for before Boot.
	ErrNotReady = errors.New("init is not booted: boot it first")
	// ErrLost: the connection ended before the answer came.
	ErrLost = errors.New("connection to init lost")
)

// ExecError says that init could not execute something that the job's author
// chose: a command, an ENTRYPOINT or the image's shell.
type ExecError struct {
	Argv0 string // what was to be executed; empty: Text stands alone
	Text  string // the kernel's words, "no such file or directory"
}

func (e *ExecError) Error() string {
	if e.Argv0 == "" {
		return e.Text
	}
	return fmt.Sprintf("cannot execute %q: %s", e.Argv0, e.Text)
}

// ContainerKey derives the key of one container from the room's, so that a
// container which gives its key away opens no other.
func ContainerKey(room [32]byte, container string) (key [32]byte) {
	m := hmac.New(sha256.New, room[:])
	io.WriteString(m, "cleanroom container key\x00"+container)
	m.Sum(key[:0])
	return key
}

// clean makes untrusted text fit to print: one line, no control characters,
// at most a kilobyte.
func clean(s string) string {
	if len(s) > 1024 {
		s = s[:1024]
	}
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || r < ' ' || (r >= 0x7f && r < 0xa0) ||
			(r >= 0x200b && r <= 0x200f) || (r >= 0x2028 && r <= 0x202e) || (r >= 0x2066 && r <= 0x2069) {
			return '?'
		}
		return r
	}, s)
}

// checkStrings refuses what execve cannot take, before it is sent.
func checkStrings(what string, list []string) error {
	for _, s := range list {
		if strings.IndexByte(s, 0) >= 0 {
			name, _, _ := strings.Cut(s, "=")
			return fmt.Errorf("%s %q holds a zero byte: remove it", what, clean(name))
		}
	}
	return nil
}
