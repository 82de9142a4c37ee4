package ledger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"cleanroom/config"
	"cleanroom/executor/audit/key"
	"cleanroom/executor/audit/log"
	"cleanroom/executor/audit/tree"
	"cleanroom/sandbox/fault"
)

// DefaultOrigin names this host's log, where the admin does not.
func DefaultOrigin() string {
	name, err := os.Hostname()
	if err != nil || name == "" {
		name = "localhost"
	}
	return strings.ToLower(name) + "/cleanroom"
}

// Init makes the log and, unless a command has it, its key. begun makes the
// log's first record, without which no writer sees the log. An Init that was
// cut short, wherever, is finished by the next, with the same key. made tells a
// log that is new from one that was there, of which nothing is changed.
//
// Without an origin it is that of the key that an Init left, or DefaultOrigin;
// of a log that was there, any. Else tree.ErrExists, key.ErrExists.
func Init(ctx context.Context, c config.Config, origin string, begun func(origin, vkey string) ([]byte, error)) (l *Ledger, made bool, err error) {
	held, err := key.Lock(ctx, keyFile(c))
	if err != nil {
		return nil, false, err
	}
	defer func() { err = errors.Join(err, held.Unlock()) }()
	if l, err = Open(c); err == nil {
		return l, false, l.begun(ctx, origin, begun)
	}
	if !errors.Is(err, ErrNoLog) {
		return nil, false, errors.Join(fmt.Errorf("%w: in %s", tree.ErrExists, Dir(c)), err)
	}
	signer, err := firstSigner(ctx, c, origin)
	if err != nil {
		return nil, false, err
	}
	first, err := begun(signer.Name(), signer.VKey())
	if err != nil {
		return nil, false, err
	}
	fresh, err := log.Init(ctx, Dir(c), signer, first)
	if err != nil {
		return nil, false, err
	}
	return &Ledger{fresh, c}, true, nil
}

// begun is for a log that is there.
func (l *Ledger) begun(ctx context.Context, origin string, begun func(origin, vkey string) ([]byte, error)) error {
	keys := l.Keys()
	if origin != "" && origin != keys.Origin() {
		return fmt.Errorf("%w: in %s, and it is %s: leave out --origin, or move the folder away", tree.ErrExists, Dir(l.config), keys.Origin())
	}
	cp, err := l.newest()
	if err != nil || cp.Size > 0 {
		return err
	}
	first, err := begun(keys.Origin(), keys.First) // cut short by a cleanroom that did this in two steps
	if err == nil {
		_, err = l.add(first)
	}
	return err
}

// firstSigner is a new log's.
func firstSigner(ctx context.Context, c config.Config, origin string) (*key.Signer, error) {
	file := len(c.Audit.SignCommand) == 0
	left, err := key.Load(keyFile(c))
	switch {
	case !file || errors.Is(err, fs.ErrNotExist):
		if origin == "" {
			origin = DefaultOrigin()
		}
		return newSigner(ctx, c, keyFile(c), origin)
	case err != nil:
		return nil, err
	case origin != "" && left.Name() != origin: // an init that was cut short
		return nil, fmt.Errorf("%w: the key in %s is for %s: give --origin %[3]s, or move the key away", key.ErrExists, keyFile(c), left.Name())
	}
	return left, nil
}

// newSigner is a new key in a file, or the one that the command has now.
func newSigner(ctx context.Context, c config.Config, file, origin string) (*key.Signer, error) {
	if len(c.Audit.SignCommand) > 0 {
		return command(c).Signer(ctx, origin)
	}
	s, err := key.Create(file, origin)
	return s, errors.Join(err, fault.At("key.made"))
}
