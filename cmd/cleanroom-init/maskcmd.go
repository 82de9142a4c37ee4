package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"cleanroom/sandbox/initproto"

	"golang.org/x/sys/unix"
)

const maskHelp = `Hide a value in this job's log, from now on.

usage: cleanroom-mask [--] VALUE
       COMMAND | cleanroom-mask

A value on standard input is not seen by other processes, nor shown by set -x;
one line end at its end is not part of it. When the command succeeds (exit code
0), whatever the job prints afterwards, in its later steps too, is shown without
the value, and without each of its lines of 8 bytes or more. When it fails (1,
or 2 for wrong usage) nothing is hidden.

A value has 8 bytes at least, white space not counted, and 64 KiB at most; a
job can mask 1000 values of 256 KiB together. In a login shell that sets PATH
anew the command is /.cleanroom/bin/cleanroom-mask.

Example:
  TOKEN=$(./login)
  printf %s "$TOKEN" | cleanroom-mask || exit 1
`

// maskCommand is cleanroom-mask.
func maskCommand(args []string, in io.Reader, out, errs io.Writer) int {
	unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) // the value is in our memory
	if len(args) == 2 && args[0] == "--" {
		args = args[1:]
	} else if len(args) == 1 && (args[0] == "-h" || args[0] == "--help") {
		io.WriteString(out, maskHelp)
		return 0
	}
	if len(args) > 1 {
		fmt.Fprintln(errs, initproto.MaskName+": give one value, quoted; see --help")
		return exitUsage
	}
	value, err := givenValue(args, in)
	if err == nil {
		err = mask(value)
		clear(value)
	}
	if err != nil {
		fmt.Fprintf(errs, "%s: %v\n", initproto.MaskName, err)
		return 1
	}
	return 0
}

func givenValue(args []string, in io.Reader) ([]byte, error) {
	if len(args) == 1 {
		return readValue(strings.NewReader(args[0]))
	}
	// Room for the line end that is not part of it.
	value, err := readUpTo(in, initproto.MaxMask+2)
	if err != nil {
		return nil, fmt.Errorf("read standard input: %w", unwrapped(err))
	}
	if line, ended := bytes.CutSuffix(value, []byte("\n")); ended {
		value = bytes.TrimSuffix(line, []byte("\r"))
	}
	return value, checkValue(value)
}

// readValue reads to the end, and refuses what is too long.
func readValue(r io.Reader) ([]byte, error) {
	value, err := readUpTo(r, initproto.MaxMask)
	if err != nil {
		return value, errors.New("the value did not come in time")
	}
	return value, checkValue(value)
}

func checkValue(value []byte) error {
	switch {
	case len(value) == 0:
		return errors.New("there is no value: give it as the one argument or on standard input")
	case len(value) > initproto.MaxMask:
		return fmt.Errorf("the value is longer than %d KiB: hide its parts", initproto.MaxMask>>10)
	}
	return nil
}

// readUpTo reads to the end, but no more than a byte beyond limit. Unlike
// io.ReadAll it leaves no pieces of the value behind.
func readUpTo(r io.Reader, limit int) ([]byte, error) {
	buf := make([]byte, limit+1)
	n, err := io.ReadFull(r, buf)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = nil
	}
	return buf[:n], err
}

// mask hands the value to init and waits for the driver's word.
func mask(value []byte) error {
	end := time.Now().Add(maskPatience)
	conn, err := dialMask(end)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(end)
	// An init that refuses does not read all of it: its answer tells why.
	conn.Write(value)
	conn.CloseWrite()
	line, err := bufio.NewReader(io.LimitReader(conn, maskAnswer)).ReadString('\n')
	line = strings.TrimSuffix(line, "\n")
	switch {
	case err == nil && line == maskTaken:
		return nil
	case err == nil && strings.HasPrefix(line, maskRefused):
		return errors.New(strings.TrimPrefix(line, maskRefused))
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errors.New("no answer in time: the value is not known to be hidden")
	}
	return errors.New("no answer: the value is not known to be hidden")
}

// dialMask waits for its turn while many others have a value to hide.
func dialMask(end time.Time) (*net.UnixConn, error) {
	for {
		conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: maskSocketPath(), Net: "unix"})
		switch {
		case err == nil:
			return conn, nil
		case !errors.Is(err, syscall.EAGAIN) || time.Now().After(end):
			var errno syscall.Errno
			if errors.As(err, &errno) {
				err = errno
			}
			return nil, fmt.Errorf("reach init at %s: %w: this works in a job's own stages only", maskSocketPath(), err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
