package main

import (
	"errors"
	"net"
	"path/filepath"
	"strings"
	"time"

	"cleanroom/sandbox/initproto"
)

// A job that comes by a secret of its own (it logs in somewhere) has it hidden
// by cleanroom-mask, which hands it to us over a socket of its own: the value
// until the end of the stream, answered by one line. Whoever is in the
// container may connect, and may do so without end; that is its own loss.
const (
	maskConns    = 16               // at once; the others wait in the kernel's queue
	maskReadTime = 2 * time.Second  // for a whole value; the command has it ready
	maskSayTime  = 5 * time.Second  // for the answer to be taken
	maskTaken    = "taken"          // the answer, or
	maskRefused  = "refused: "      // this and why
	maskAnswer   = 4096             // at most
	maskPatience = 75 * time.Second // of the command, beyond that of initproto
)

// takeMasks serves the socket as long as init lives. Without it (an ENTRYPOINT
// may have filled the folder) the command says that there is none, and fails.
func (h *host) takeMasks() {
	l, err := listen(maskSocketPath())
	if err == nil {
		go h.serveMasks(l)
	}
}

func (h *host) serveMasks(l net.Listener) {
	free := make(chan struct{}, maskConns)
	for {
		free <- struct{}{} // before Accept, so that a flood takes no descriptors
		conn, err := l.Accept()
		if err != nil {
			<-free
			time.Sleep(50 * time.Millisecond)
			continue
		}
		go func() {
			defer func() { <-free }()
			defer conn.Close()
			h.takeMask(conn)
		}()
	}
}

// takeMask serves one connection.
func (h *host) takeMask(conn net.Conn) {
	conn.SetReadDeadline(time.Now().Add(maskReadTime))
	answer := maskTaken
	value, err := readValue(conn)
	if err == nil {
		err = h.hide(value)
	}
	clear(value)
	if err != nil {
		answer = maskRefused + err.Error()
	}
	conn.SetWriteDeadline(time.Now().Add(maskSayTime))
	conn.Write([]byte(answer + "\n"))
}

var errNoStage = errors.New("no stage runs here that could hide it")

func (h *host) hide(value []byte) error {
	h.mu.Lock()
	mask := h.mask
	h.mu.Unlock()
	if mask == nil {
		return errNoStage
	}
	return mask(value)
}

// maskWith has values hidden by mask, until the returned function is called.
func (h *host) maskWith(mask func([]byte) error) (end func()) {
	set := func(f func([]byte) error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.mask = f
	}
	set(mask)
	return func() { set(nil) }
}

// withTools appends the folder of our commands to PATH: last, so that it hides
// nothing of the image's. env is ours to change.
func withTools(env []string) []string {
	tools := ":" + filepath.Dir(maskPath())
	for i, kv := range env {
		if strings.HasPrefix(kv, "PATH=") {
			env[i] = kv + tools
			return env
		}
	}
	return append(env, "PATH="+defaultPath+tools)
}

// maskPath is where cleanroom-mask is in this container.
func maskPath() string { return filepath.Join(filepath.Dir(initPath), "bin", initproto.MaskName) }
