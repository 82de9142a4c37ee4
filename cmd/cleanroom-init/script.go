package main

import (
	"context"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// maxSpool is the largest script that is held in memory (the container's, as
// a memfd, not init's own).
const maxSpool = 16 << 20

// openScript makes the shell's stdin. The shell must not read ahead of the
// command it executes, as a command may read the same stdin. From a pipe it
// therefore reads byte by byte, a system call each: tens of milliseconds for
// an ordinary stage. In a file it can go back, so the script is put into a
// sealed memfd first. One that is too large for that comes by pipe; feed is
// then what is to be copied into it.
//
// ok is false when ctx ended before the whole script was here.
func openScript(ctx context.Context, script io.Reader) (stdin int, feed func(), ok bool, err error) {
	if c, closer := script.(io.Closer); closer {
		stop := context.AfterFunc(ctx, func() { c.Close() })
		defer stop()
	}
	fd, err := unix.MemfdCreate("script", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil { // an old kernel, or a runtime without it
		return pipeScript(script)
	}
	mem := os.NewFile(uintptr(fd), "script")
	n, err := io.Copy(mem, io.LimitReader(script, maxSpool+1))
	if ctx.Err() != nil || err != nil {
		mem.Close()
		return 0, nil, ctx.Err() == nil, err
	}
	if _, err := unix.Seek(fd, 0, io.SeekStart); err != nil {
		mem.Close()
		return 0, nil, true, err
	}
	if n > maxSpool {
		return pipeScript(io.MultiReader(mem, script))
	}
	defer mem.Close()
	// The job may open its stdin again; it is not to change what the shell reads.
	unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_WRITE|unix.F_SEAL_GROW|unix.F_SEAL_SHRINK|unix.F_SEAL_SEAL)
	stdin, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	return stdin, func() {}, true, err
}

func pipeScript(script io.Reader) (stdin int, feed func(), ok bool, err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return 0, nil, true, err
	}
	unix.SetNonblock(p[1], true) // polled, so that no thread sits in write
	in := os.NewFile(uintptr(p[1]), "stdin")
	return p[0], func() {
		io.Copy(in, struct{ io.Reader }{script}) // ends when the stage does: both sides are closed
		in.Close()
	}, true, nil
}
